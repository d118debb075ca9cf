"""CatBoost's own files: .cbm and JSON. Data, not code; pickled wrappers are scikit-learn's (`sklearn`)."""

from __future__ import annotations

import re
from typing import Any

from .source import as_path, file_head
from .tabular import TabularImporter

_HEAD = 1 << 16
_KEYS = re.compile(rb'"(oblivious_trees|scale_and_bias|features_info|model_info)"')


class CatBoostImporter(TabularImporter):
    """One file, opened once."""

    environment = "catboost"
    converter = "catboost_model"
    what = "a CatBoost model"

    def recognises(self, source: Any) -> bool:
        """The magic of .cbm, or JSON with what CatBoost writes first and last."""
        head = file_head(source, _HEAD)
        if head.startswith(b"CBM1"):
            return True
        path = as_path(source)
        if path is None or not head.lstrip().startswith(b"{"):
            return False
        with path.open("rb") as stream:
            stream.seek(max(path.stat().st_size - _HEAD, 0))
            return len(set(_KEYS.findall(head + stream.read()))) >= 2
