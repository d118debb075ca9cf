"""What runs in the peers' own environments: a job in, a network file out."""
