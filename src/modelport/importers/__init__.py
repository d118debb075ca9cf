"""A trained model comes in: one file per framework."""
