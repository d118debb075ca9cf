"""The importer's own test: Modelport's contract of importers, with one sound file."""

from __future__ import annotations

import json
from pathlib import Path

from linear_importer import LinearImporter

from modelport.testing import check_importer


def test_it_keeps_the_contract(tmp_path: Path) -> None:
    said = {"format": "linear-classifier", "version": 1, "labels": ["no", "yes"]}
    said |= {"weights": [[0.5, -0.5], [1.5, 0.25], [-1.0, 2.0]], "bias": [0.0, 0.1]}
    path = tmp_path / "model.linear"
    path.write_text(json.dumps(said))
    check_importer(LinearImporter, path, frameworks=["torch", "tensorflow"])
