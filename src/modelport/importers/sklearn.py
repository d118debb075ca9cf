"""Fitted pipelines and estimators of scikit-learn: skops files, joblib and pickle files, objects in memory.

Pickles are code: they are opened in another process, and only where the user trusts them. What they name is
read from their opcodes here.
"""

from __future__ import annotations

import json
import tempfile
import weakref
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError, Unsupported
from ..tensors import TensorSpec
from .converted import Opened
from .isolated import refusal
from .pickle_scan import Scan, scan
from .source import as_path, describe, zip_members
from .tabular import TabularImporter

ROOTS = ("sklearn", "imblearn", "xgboost", "lightgbm", "catboost")
BOOSTERS = ("xgboost", "lightgbm", "catboost")
PLAIN = (
    "numpy",
    "scipy",
    "builtins",
    "__builtin__",
    "collections",
    "copyreg",
    "copy_reg",
    "_codecs",
    "joblib",
)
SCHEMA = "schema.json"
MAX_SCHEMA_BYTES = 256 << 20


class SklearnImporter(TabularImporter):
    """One file or object, opened once."""

    environment = "sklearn"
    converter = "sklearn_pipeline"
    what = "a scikit-learn model"

    def recognises(self, source: Any) -> bool:
        """A skops archive, a pickle that names such a model's classes, or a fitted object."""
        path = as_path(source)
        if path is None:
            roots = {kind.__module__.split(".")[0] for kind in type(source).__mro__}
            return bool(roots & set(ROOTS)) and hasattr(source, "predict") and hasattr(source, "get_params")
        if not path.is_file():
            return False
        if SCHEMA in zip_members(path):
            return True
        found = scan(path)
        if found is None:
            return False
        return bool(found.packed) or any(name.split(".")[0] in ROOTS for name in found.names)

    def danger(self, path: Path) -> Unsupported | None:
        """The refusal of a pickle, with what it names; what is in a skops file its process tells."""
        if SCHEMA in zip_members(path):
            return None
        return _refusal(path, scan(path) or Scan(whole=False))

    def open(self, source: Any, inputs: Sequence[TensorSpec] | None = None) -> Opened:
        """As every source; an object in memory is saved for the other process first.

        Raises:
            Unsupported, InputError: see `load`; an object that cannot be saved.
        """
        path = as_path(source)
        if path is None:
            if self._opened is None:
                self._opened = self._saved(source)
            return self._opened
        archive = SCHEMA in zip_members(path)
        self.environment = _environment(_skops_names(path) if archive else (scan(path) or Scan()).names)
        return super().open(source, inputs)

    def _saved(self, source: Any) -> Opened:
        try:
            import joblib
        except ImportError as problem:
            raise Unsupported(
                "packing a fitted object needs joblib", hint="pip install 'modelport[sklearn]'"
            ) from problem
        folder = tempfile.TemporaryDirectory(prefix="modelport-object-")
        weakref.finalize(self, folder.cleanup)
        path = Path(folder.name) / "model.joblib"
        try:
            joblib.dump(source, path)
        except Exception as problem:
            raise Unsupported(f"{describe(source)} cannot be saved: {problem}") from problem
        # The user's own object, on its way to the other process.
        importer = type(self)()
        importer.permission = _trusting(self.permission)
        return importer.open(path)


def _trusting(permission: Any) -> Any:
    import msgspec

    return msgspec.structs.replace(permission, trust=True)


def _environment(names: Any) -> str:
    roots = {name.split(".")[0] for name in names}
    return next((name for name in BOOSTERS if name in roots), "sklearn")


def _refusal(path: Path, found: Scan) -> Unsupported:
    names = sorted(found.names, key=lambda name: (name.split(".")[0] in PLAIN, name.count("."), name))
    packed = f" ({found.packed}-compressed)" if found.packed else ""
    if found.harmful:
        return refusal(path, f"a model{packed}", names or ["nothing readable"], found.harmful)
    own = [name for name in names if name.split(".")[0] not in (*ROOTS, *PLAIN)]
    what = f"a model{packed}"
    if own:
        what += f" with code that is not scikit-learn's ({', '.join(own[:3])})"
    if not found.whole:
        what += ", which could not be followed to its end"
    return refusal(path, what, names or ["names that cannot be read"], [])


def _skops_names(path: Path) -> set[str]:
    """`module.class` of everything in a skops archive.

    Raises:
        InputError: damaged, or under a password.
    """
    try:
        with zipfile.ZipFile(path) as archive, archive.open(SCHEMA) as packed:
            told = json.loads(packed.read(MAX_SCHEMA_BYTES))
    except RuntimeError as problem:
        raise InputError(
            f"{path} is a zip archive under a password", hint="unpack it, and save the model without one"
        ) from problem
    except (
        zipfile.BadZipFile,
        zlib.error,
        NotImplementedError,
        OSError,
        ValueError,
        RecursionError,
    ) as problem:
        raise InputError(
            f"{path} is a damaged skops file: {problem}", hint="it may be cut short"
        ) from problem
    found: set[str] = set()
    waiting: list[Any] = [told]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if isinstance(value.get("__module__"), str) and isinstance(value.get("__class__"), str):
                found.add(f"{value['__module__']}.{value['__class__']}")
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
    return found
