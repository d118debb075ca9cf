"""The passes, each in its own file: a network in, another network out."""
