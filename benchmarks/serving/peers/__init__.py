"""The peers' server files. Each runs in its peer's own environment, with this folder on its import path."""
