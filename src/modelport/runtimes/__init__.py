"""A graph becomes something that runs: one file per engine."""
