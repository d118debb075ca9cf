"""Checkpoints of Ultralytics and YOLOv5 (`.pt`): pickles, so they are opened in another process only.

What comes back is the ONNX file with the metadata that Ultralytics' own export writes, and a way to have a
batch computed by the network itself. From there on it is packed like any ONNX file.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import Unsupported, UsageError
from ..isolation.child.checkpoint import PLAIN, RENAMED
from ..tensors import Signature, TensorSpec
from .checkpoint import kind_of_file, pickled_names
from .converted import ConvertedImporter
from .isolated import refusal
from .source import as_path

NETWORKS = ("models.yolo.", "ultralytics.nn.tasks.", "ultralytics.yolo.")
OWN = ("torch.", "ultralytics.", "models.")
DTYPES = ("float16", "float32", "float64", "bfloat16", "int8", "int16", "int32", "int64", "uint8", "bool")


class UltralyticsImporter(ConvertedImporter):
    """A pickle, alone or in torch's archive, that names a YOLO network's class."""

    environment = "ultralytics"
    converter = "ultralytics_checkpoint"
    what = "a YOLO checkpoint"

    def recognises(self, source: Any) -> bool:
        """By the names in the pickle, which is not opened."""
        path = as_path(source)
        if path is None or kind_of_file(source) != "pickle":
            return False
        return any(name.startswith(NETWORKS) for name in pickled_names(path))

    def signature(self, source: Any, inputs: Sequence[TensorSpec]) -> Signature | None:
        """Inputs and outputs as the export has them."""
        if inputs:
            raise UsageError("a YOLO checkpoint says itself what it takes", hint="leave --input out")
        return super().signature(source, inputs)

    def danger(self, path: Path) -> Unsupported:
        """Always a refusal: opening a pickle runs what it names."""
        names = sorted(pickled_names(path))
        foreign = [name for name in names if not _usual(name)]
        networks = [name for name in names if name.startswith(NETWORKS)]
        others = [name for name in names if _usual(name) and name not in networks]
        others.sort(key=lambda name: not name.startswith(("models.", "ultralytics.")))
        return refusal(path, self.what, [*networks, *others], foreign)


def _usual(name: str) -> bool:
    """Whether a checkpoint needs what is called so."""
    module, _, attribute = name.rpartition(".")
    plain = {*PLAIN.get(module, ()), *PLAIN.get(RENAMED.get(module, module), ())}
    if module.startswith("torch") and not module.startswith(("torch.nn", "torch._utils")):
        return attribute[:1].isupper() or attribute in DTYPES
    return attribute in plain or name.startswith(OWN)


DTYPES = ("float16", "float32", "float64", "bfloat16", "int8", "int16", "int32", "int64", "uint8", "bool")
