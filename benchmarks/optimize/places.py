"""Where things are: the cache with what is slow to make, and the results that are kept here."""

from __future__ import annotations

import ast
import hashlib
import json
from pathlib import Path
from typing import Any

from benchmarks.serving.places import CACHE

HERE = Path(__file__).resolve().parent
SOURCE = HERE.parents[1]
PEERS = HERE / "peers"
RESULTS = HERE / "results"
"""`made.json` and `measured.json`; `report` makes ../OPTIMIZE.md of them and of nothing else."""
MADE = CACHE / "optimize"
"""Packed bundles, labelled data, and a folder for each network that was made, named by its inputs' digest."""


def key(*parts: Any) -> str:
    """The name of what is made of these inputs: JSON values, bytes, and files by what is in them.

    Of Python it is what it does, not how it is laid out.
    """
    digest = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path) and part.suffix == ".py":
            data = ast.dump(ast.parse(part.read_text())).encode()
        elif isinstance(part, Path):
            data = part.read_bytes()
        elif isinstance(part, bytes):
            data = part
        else:
            data = json.dumps(part, sort_keys=True).encode()
        digest.update(hashlib.sha256(data).digest())
    return digest.hexdigest()[:16]


def read_json(path: Path) -> Any:
    """What is in a JSON file; an empty object where there is none."""
    return json.loads(path.read_text()) if path.exists() else {}


def write_json(path: Path, value: Any) -> Path:
    """Write it whole or not at all, readable."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    new.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n")
    return new.replace(path)
