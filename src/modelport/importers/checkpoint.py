"""What a PyTorch file holds, told from the names in it. Imports no torch and unpickles nothing."""

from __future__ import annotations

import contextlib
import io
import pickletools
import zipfile
import zlib
from pathlib import Path
from typing import Any

from ..isolation.child.torch_weights import is_safetensors
from .source import file_head, zip_members

_LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"
_MAX_PICKLE = 64 << 20
HARMFUL = tuple(
    f"{module}."
    for module in (
        "os",
        "posix",
        "nt",
        "subprocess",
        "sys",
        "shutil",
        "socket",
        "runpy",
        "ctypes",
        "importlib",
    )
) + tuple(
    f"{module}.{name}"
    for module in ("builtins", "__builtin__")
    for name in ("eval", "exec", "compile", "__import__", "open", "getattr")
)
"""What a pickle that carries a model has no use for, and one that carries an attack has."""


def kind_of_file(source: Any) -> str | None:
    """`torchscript`, `pt2`, `pickle`, `weights` (safetensors), or None for something else.

    Told from the names in the archive, or from the first bytes.
    """
    inner = {name.partition("/")[2] for name in zip_members(source)} | set(zip_members(source))
    if any(name.startswith("models/") and name.endswith(".json") for name in inner):
        return "pt2"
    if "serialized_exported_program.json" in inner:
        return "pt2"
    if "data.pkl" in inner:
        scripted = {"constants.pkl", "bytecode.pkl"} & inner or any(n.startswith("code/") for n in inner)
        return "torchscript" if scripted else "pickle"
    head = file_head(source)
    if head[4:8] == b"PTMF":
        return "torchscript"
    if is_safetensors(head):
        return "weights"
    if head.startswith(_LEGACY_MAGIC) or (
        head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")
    ):
        return "pickle"
    return None


def from_torch(path: Path) -> bool:
    """Whether a pickle is torch's: in its archive, or with the number that its older files begin with."""
    return bool(zip_members(path)) or file_head(path).startswith(_LEGACY_MAGIC)


def pickled_names(path: Path) -> set[str]:
    """The classes and functions that a pickle, or the pickle of a torch archive, names: `torch.nn.X`.

    Told from its opcodes; nothing is called, and what cannot be followed ends the list.
    """
    member = next((name for name in zip_members(path) if name.split("/")[-1] == "data.pkl"), None)
    try:
        if member is None:
            with path.open("rb") as packed:
                data = packed.read(_MAX_PICKLE)
        else:
            with zipfile.ZipFile(path) as archive, archive.open(member) as packed:
                data = packed.read(_MAX_PICKLE)
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, OSError):
        return set()  # damaged or under a password: whoever opens it says so
    found: set[str] = set()
    with contextlib.suppress(ValueError, EOFError, IndexError, UnicodeDecodeError):
        _collect(io.BytesIO(data), len(data), found)
    return found


def _collect(stream: io.BytesIO, size: int, found: set[str]) -> None:
    """Add every name to `found`: a global's own, or the two texts pushed last, kept ones included."""
    recent: list[str] = []
    memo: dict[int, str | None] = {}
    pushed: str | None = None
    while stream.tell() < size:
        for opcode, argument, _ in pickletools.genops(stream):
            name = opcode.name
            if name == "MEMOIZE":
                memo[len(memo)] = pushed
                continue
            if name in ("BINPUT", "LONG_BINPUT", "PUT"):
                memo[int(str(argument))] = pushed
                continue
            if name in ("GLOBAL", "INST"):
                found.add(str(argument).replace(" ", "."))
            elif name == "STACK_GLOBAL":
                found.add(".".join(recent[-2:]))
            got = memo.get(int(str(argument))) if name in ("BINGET", "LONG_BINGET", "GET") else argument
            pushed = got if isinstance(got, str) and name not in ("GLOBAL", "INST") else None
            if pushed is not None:
                recent = [*recent[-1:], pushed]
