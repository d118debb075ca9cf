"""What runs in the other process. Needs the standard library, numpy and the framework; not Modelport."""
