"""LightGBM's own text files. Data, not code; pickled wrappers are scikit-learn's (`sklearn`)."""

from __future__ import annotations

from typing import Any

from .source import file_head
from .tabular import TabularImporter


class LightGBMImporter(TabularImporter):
    """One file, opened once."""

    environment = "lightgbm"
    converter = "lightgbm_model"
    what = "a LightGBM model"

    def recognises(self, source: Any) -> bool:
        """Text that begins as LightGBM writes it."""
        head = file_head(source, 64).replace(b"\r\n", b"\n")
        return head.startswith(b"tree\nversion=v")
