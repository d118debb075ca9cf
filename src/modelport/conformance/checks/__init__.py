"""The checks, a module for each part; importing one registers what it holds."""
