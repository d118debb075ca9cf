"""What a PyTorch file holds, told from the names in it. Imports no torch and unpickles nothing."""

from __future__ import annotations

import contextlib
import io
import pickletools
import zipfile
from pathlib import Path
from typing import Any

from ..errors import Unsupported
from .source import file_head, zip_members

_LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"
_MAX_PICKLE = 64 << 20


def kind_of_file(source: Any) -> str | None:
    """`torchscript`, `pt2`, `pickle`, or None for something else; told from names in the archive."""
    inner = {name.partition("/")[2] for name in zip_members(source)} | set(zip_members(source))
    if any(name.startswith("models/") and name.endswith(".json") for name in inner):
        return "pt2"
    if "serialized_exported_program.json" in inner:
        return "pt2"
    if "data.pkl" in inner:
        scripted = "constants.pkl" in inner or any(name.startswith("code/") for name in inner)
        return "torchscript" if scripted else "pickle"
    head = file_head(source)
    if head.startswith(_LEGACY_MAGIC) or (
        head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")
    ):
        return "pickle"
    return None


def refused_pickle(path: Path) -> Unsupported:
    """The refusal of a pickle, saying what it holds; the pickle is read as a list of names, not run."""
    found = sorted(_pickled_globals(path))
    tensors = ("torch", "collections", "numpy", "_codecs", "__builtin__", "builtins")
    classes = [name for name in found if name.split(".")[0] not in tensors or ".nn." in name]
    load = f"net = Net(); net.load_state_dict(torch.load({path.name!r}, weights_only=True))"
    if classes:
        holds = f"a pickled object of {', '.join(classes[:3])}{' …' if len(classes) > 3 else ''}"
        load = f"net = torch.load({path.name!r}, weights_only=False), if you trust it, beside its classes"
    elif found:
        holds = "weights (a state_dict) and no network"
    else:
        holds = "a pickle"
    return Unsupported(
        f"{path} holds {holds}; opening it would run code from the file, so it is not opened",
        hint=f"load the network in Python and pack that: {load}; "
        "modelport.pack(net, out='repo', name='…', recipe='…')",
    )


def _pickled_globals(path: Path) -> set[str]:
    """The classes and functions that a pickle names."""
    member = next((name for name in zip_members(path) if name.split("/")[-1] == "data.pkl"), None)
    if member is None:
        with path.open("rb") as packed:
            data = packed.read(_MAX_PICKLE)
    else:
        with zipfile.ZipFile(path) as archive, archive.open(member) as packed:
            data = packed.read(_MAX_PICKLE)
    found: set[str] = set()
    recent: list[str] = []
    stream = io.BytesIO(data)
    with contextlib.suppress(ValueError, EOFError, IndexError, UnicodeDecodeError):
        while stream.tell() < len(data):
            for opcode, argument, _ in pickletools.genops(stream):
                if opcode.name == "GLOBAL":
                    found.add(str(argument).replace(" ", "."))
                elif opcode.name == "STACK_GLOBAL":
                    found.add(".".join(recent[-2:]))
                elif isinstance(argument, str):
                    recent = [*recent[-1:], argument]
    return found
