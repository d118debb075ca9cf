"""Where things are: the cache with the peers' environments and the models, and this folder's own files."""

from __future__ import annotations

import os
from pathlib import Path

HERE = Path(__file__).resolve().parent
PEERS = HERE / "peers"
RESULTS = HERE / "results"
"""One JSON file for each scenario; `report` makes ../RESULTS.md of them."""
CACHE = Path(os.environ.get("PEERS") or Path.home() / ".cache" / "modelport-bench")
"""Holds `venv/NAME` for each peer, and what is made here: models, repositories, logs."""


def made(*parts: str) -> Path:
    """A path in the cache, with its folder made."""
    path = CACHE / "serving" / Path(*parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def python_of(peer: str) -> Path:
    """The interpreter of a peer's environment; it may not be there."""
    return CACHE / "venv" / peer / "bin" / "python"
