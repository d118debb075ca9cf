"""The other process, which imports the user's function. Nothing of Modelport is imported there."""
