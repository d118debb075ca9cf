"""TensorFlow SavedModels, of TensorFlow 1 and 2: a folder with saved_model.pb and variables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError, UsageError
from ..tensors import TensorSpec
from .converted import ConvertedImporter
from .pixels import ASSUMED, classifies, pixels_recipe, scaled_inside
from .source import Declared, as_path, file_head

FILE = "saved_model.pb"
SCHEMA = b"\x08\x01\x12"
"""How it begins: schema version 1, and the first graph."""


class SavedModelImporter(ConvertedImporter):
    """Converted by tf2onnx; compared with TensorFlow running the same signature."""

    environment = "tensorflow"
    converter = "tensorflow_saved"
    what = "a TensorFlow SavedModel"
    takes = frozenset({"signature"})

    def recognises(self, source: Any) -> bool:
        """The folder, its saved_model.pb, or TensorFlow Serving's folder of numbered versions."""
        path = as_path(source)
        if path is None:
            return False
        if path.is_file():
            return path.name == FILE and file_head(path, 3) == SCHEMA
        return path.is_dir() and ((path / FILE).is_file() or bool(_versions(path)))

    def question(self, path: Path) -> dict[str, Any]:
        """The folder itself, and the signature that the user chose.

        Raises:
            UsageError: several versions lie there. InputError: what lies there is no SavedModel.
        """
        folder = path.parent if path.is_file() else path
        if not (folder / FILE).is_file():
            versions = _versions(folder)
            if len(versions) > 1:
                names = ", ".join(each.name for each in versions)
                raise UsageError(
                    f"{path} holds the versions {names}; which one?", hint=f"give {versions[-1]}"
                )
            folder = versions[0]
        if file_head(folder / FILE, 3) != SCHEMA:
            raise InputError(
                f"{folder / FILE} is no SavedModel: it begins with {file_head(folder / FILE, 8)!r}",
                hint="it may be cut short, or a pointer of Git LFS",
            )
        return {"path": str(folder.resolve()), "signature": self.options.signature}

    def declared(self, source: Any, inputs: Sequence[TensorSpec]) -> Declared | None:
        """Pixels as they are, where the signature takes bytes or scales them first."""
        signature = self.signature(source, inputs)
        if signature is None or not classifies(signature):
            return None
        taken = signature.inputs[0]
        why = scaled_inside(self.open(source, inputs).own, taken)
        if not why:
            return None
        recipe = pixels_recipe("savedmodel", taken.dtype)
        return Declared(recipe, f"its signature, {why}", assumed=ASSUMED)


def _versions(folder: Path) -> list[Path]:
    """Numbered folders with a SavedModel, as TensorFlow Serving has them."""
    try:
        found = [each for each in folder.iterdir() if each.name.isdigit() and (each / FILE).is_file()]
    except OSError:
        return []
    return sorted(found, key=lambda each: int(each.name))
