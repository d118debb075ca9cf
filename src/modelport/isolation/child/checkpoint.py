"""Opening a torch checkpoint with an allow-list: classes of torch and of the framework, and nothing else.

A pickle names what it wants called. Here a name is looked up only where it is a class of the packages given
or one of the few functions that tensors and arrays are rebuilt with; anything else ends the reading.
"""

from __future__ import annotations

import importlib
import pickle
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

from .converter import Refused

PLAIN = {
    "collections": {"OrderedDict", "defaultdict", "deque"},
    "builtins": {"set", "frozenset", "slice", "complex", "bytearray", "range", "int", "float", "str", "bool"}
    | {"list", "dict", "tuple", "bytes", "object"},
    "argparse": {"Namespace"},
    "types": {"SimpleNamespace"},
    "pathlib": {"Path", "PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath"},
    "datetime": {"date", "datetime", "timedelta", "timezone"},
    "copyreg": {"_reconstructor"},
    "_codecs": {"encode"},
    "numpy": {"dtype", "ndarray"},
    "numpy.core.multiarray": {"scalar", "_reconstruct"},
    "numpy._core.multiarray": {"scalar", "_reconstruct"},
}
RENAMED = {
    "__builtin__": "builtins",
    "copy_reg": "copyreg",
    "numpy.core.multiarray": "numpy._core.multiarray",
}
PATHS = {"PosixPath": "PurePosixPath", "WindowsPath": "PureWindowsPath", "Path": "PurePath"}
REBUILD = "_rebuild_"
ROOTS = ("torch",)


Replace = Callable[[str, str], Any]
"""Module and name to what stands in for it, or None where nothing does."""


def load(torch: Any, path: str, roots: tuple[str, ...], replace: Replace) -> Any:
    """What the checkpoint holds, its tensors on the CPU.

    Raises:
        Refused: a name outside the allow-list.
    """

    class Reader(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            stand_in = replace(module, name)
            return stand_in if stand_in is not None else allowed(module, name, (*ROOTS, *roots))

    reader = SimpleNamespace(Unpickler=Reader, __name__="modelport.isolation.child.checkpoint")
    # torch's older container calls this for its header of plain numbers.
    reader.load = lambda stream, **options: Reader(stream, **options).load()
    return torch.load(path, map_location="cpu", weights_only=False, pickle_module=reader)


def allowed(module: str, name: str, roots: tuple[str, ...]) -> Any:
    """The class or function that a pickle names.

    Raises:
        Refused: it is not among those that a checkpoint needs.
    """
    known = RENAMED.get(module, module)
    names: Mapping[str, set[str]] = PLAIN
    if name in names.get(module, ()) or name in names.get(known, ()):
        if known == "pathlib":
            name = PATHS.get(name, name)  # another system's paths cannot be made here
        return getattr(importlib.import_module(known), name)
    if module.split(".")[0] in roots and "." not in name:
        try:
            found = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError):
            raise Refused(
                f"the checkpoint needs {module}.{name}, which the installed version has not"
            ) from None
        is_torch = module.split(".")[0] == "torch"
        plain = type(found).__name__ in ("dtype", "layout", "memory_format")
        if isinstance(found, type) or plain or (is_torch and name.startswith(REBUILD)):
            return found
    raise Refused(f"the checkpoint names {module}.{name}, which is no part of a checkpoint")
