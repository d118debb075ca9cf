"""XGBoost's own files: JSON and UBJSON. Data, not code; pickled wrappers are scikit-learn's (`sklearn`)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ..errors import Unsupported
from .source import as_path, file_head
from .tabular import TabularImporter

_HEAD = 4096
_UBJSON = re.compile(rb"\{L[\x00-\xff]{8}(learner|version|Config)")
_OLD = (b"binf", b"bs64")


class XGBoostImporter(TabularImporter):
    """One file, opened once."""

    environment = "xgboost"
    converter = "xgboost_model"
    what = "an XGBoost model"

    def recognises(self, source: Any) -> bool:
        """JSON that begins with a learner, the same in UBJSON, or the format before XGBoost 1.0."""
        head = file_head(source, _HEAD)
        if head.lstrip().startswith(b"{"):
            return bool(_UBJSON.match(head)) or (b'"learner"' in head and b'"model_info"' not in head)
        return head.startswith(_OLD)

    def danger(self, path: Path) -> Unsupported | None:
        """None for what is data; the old format is not read."""
        if file_head(path, 4) in _OLD:
            return Unsupported(
                f"{as_path(path)} is in XGBoost's old binary format, which its newer versions do not read",
                hint="read it with an older XGBoost, and booster.save_model('model.ubj')",
            )
        return None
