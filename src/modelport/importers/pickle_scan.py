"""Which classes and functions a pickle names, told from its opcodes; nothing is called and nothing imported.

Reads what joblib writes as well: compressed files, and arrays whose bytes stand in the middle of the pickle.
"""

from __future__ import annotations

import bz2
import contextlib
import io
import lzma
import pickletools
import re
import zlib
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from .checkpoint import HARMFUL

MAX_BYTES = 512 << 20
"""Of a file, unpacked; what is behind that is not looked at."""
WRAPPER = "joblib.numpy_pickle.NumpyArrayWrapper"
_CHUNK = 1 << 20


class Scan(msgspec.Struct, frozen=True):
    """What was found."""

    names: frozenset[str] = frozenset()
    """`module.name` of each class and function."""
    whole: bool = True
    """Whether the pickle was followed to its end."""
    packed: str = ""
    """What it was compressed with: `zlib`, `gzip`, `bz2`, `lzma`, `lz4`, or nothing."""

    @property
    def harmful(self) -> list[str]:
        """Names that no model has a use for."""
        return sorted(name for name in self.names if name.startswith(HARMFUL) and ".getattr" not in name)


class _Named(msgspec.Struct):
    """A value that would be made by calling what the pickle names."""

    name: str
    arguments: Any = None
    state: Any = None


_MARK = object()


def scan(path: Path) -> Scan | None:
    """The names in a pickle; None for a file that is none."""
    with path.open("rb") as stream:
        head = stream.read(6)
        packed = _packing(head)
        stream.seek(0)
        data = _unpacked(stream, packed) if packed else stream.read(MAX_BYTES)
    if packed == "lz4":
        return Scan(whole=False, packed=packed)
    if not re.match(rb"\x80[\x02-\x05]", data):
        return None
    names: set[str] = set()
    whole = False
    with contextlib.suppress(
        ValueError, EOFError, IndexError, KeyError, TypeError, AttributeError, UnicodeDecodeError
    ):
        _follow(io.BytesIO(data), names)
        whole = True
    if not whole:
        # What cannot be followed is searched for what names usually look like.
        names |= {f"{a.decode()}.{b.decode()}" for a, b in re.findall(rb"c([\w.]+)\n([\w.]+)\n", data)}
    return Scan(frozenset(names), whole and len(data) < MAX_BYTES, packed)


def _packing(head: bytes) -> str:
    known = {
        b"\x1f\x8b": "gzip",
        b"BZh": "bz2",
        b"\xfd7zXZ": "lzma",
        b"]\x00\x00": "lzma",
        b"\x04\x22\x4d\x18": "lz4",
    }
    for magic, name in known.items():
        if head.startswith(magic):
            return name
    return "zlib" if head[:1] == b"\x78" and head[1:2] in (b"\x01", b"\x5e", b"\x9c", b"\xda") else ""


def _unpacked(stream: Any, packed: str) -> bytes:
    unpackers: dict[str, Any] = {
        "zlib": lambda: zlib.decompressobj(),
        "gzip": lambda: zlib.decompressobj(wbits=31),
        "bz2": bz2.BZ2Decompressor,
        "lzma": lzma.LZMADecompressor,
    }
    if packed not in unpackers:
        return b""
    unpacker = unpackers[packed]()
    made = bytearray()
    with contextlib.suppress(zlib.error, OSError, EOFError, lzma.LZMAError):
        while len(made) < MAX_BYTES and (chunk := stream.read(_CHUNK)):
            made += unpacker.decompress(chunk)
    return bytes(made[:MAX_BYTES])


def _follow(stream: io.BytesIO, names: set[str]) -> None:
    """One pickle, to its STOP."""
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    for opcode, argument, _ in pickletools.genops(stream):
        name = opcode.name
        if name in ("MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT"):
            memo[len(memo) if name == "MEMOIZE" else int(str(argument))] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo[int(str(argument))])
        elif name == "MARK":
            stack.append(_MARK)
        elif name in ("GLOBAL", "INST"):
            names.add(str(argument).replace(" ", "."))
            if name == "INST":
                _to_mark(stack)
            stack.append(_Named(str(argument).replace(" ", ".")))
        elif name == "STACK_GLOBAL":
            attribute, module = stack.pop(), stack.pop()
            if not isinstance(module, str) or not isinstance(attribute, str):
                raise ValueError("a name that is computed")
            names.add(f"{module}.{attribute}")
            stack.append(_Named(f"{module}.{attribute}"))
        elif name == "BUILD":
            state = stack.pop()
            if isinstance(stack[-1], _Named):
                stack[-1].state = state
                if stack[-1].name == WRAPPER:
                    _skip_array(stream, stack[-1].state, names)
        else:
            _other(name, argument, stack)


def _other(name: str, argument: Any, stack: list[Any]) -> None:
    if name in ("REDUCE", "NEWOBJ"):
        arguments, called = stack.pop(), stack.pop()
        stack.append(_Named(called.name if isinstance(called, _Named) else "", arguments))
    elif name == "NEWOBJ_EX":
        _, arguments, called = stack.pop(), stack.pop(), stack.pop()
        stack.append(_Named(called.name if isinstance(called, _Named) else "", arguments))
    elif name == "OBJ":
        inside = _to_mark(stack)
        stack.append(_Named(inside[0].name if inside and isinstance(inside[0], _Named) else "", inside[1:]))
    elif name in ("TUPLE", "LIST", "FROZENSET", "DICT"):
        inside = _to_mark(stack)
        stack.append(dict(zip(inside[::2], inside[1::2], strict=False)) if name == "DICT" else tuple(inside))
    elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
        count = int(name[-1])
        inside = stack[-count:]
        del stack[-count:]
        stack.append(tuple(inside))
    elif name in ("EMPTY_TUPLE", "EMPTY_LIST", "EMPTY_SET"):
        stack.append(())
    elif name == "EMPTY_DICT":
        stack.append({})
    elif name in ("APPENDS", "ADDITEMS"):
        _to_mark(stack)
    elif name in ("APPEND", "POP"):
        stack.pop()
    elif name == "SETITEM":
        value, key = stack.pop(), stack.pop()
        _put(stack[-1], key, value)
    elif name == "SETITEMS":
        inside = _to_mark(stack)
        for key, value in zip(inside[::2], inside[1::2], strict=True):
            _put(stack[-1], key, value)
    elif name == "POP_MARK":
        _to_mark(stack)
    elif name == "DUP":
        stack.append(stack[-1])
    elif name == "BINPERSID":
        stack[-1] = None
    elif name in ("NONE", "NEWTRUE", "NEWFALSE"):
        stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[name])
    elif name not in ("PROTO", "FRAME", "STOP"):
        stack.append(argument)


def _put(held: Any, key: Any, value: Any) -> None:
    if isinstance(held, dict) and isinstance(key, (str, int)):
        held[key] = value


def _to_mark(stack: list[Any]) -> list[Any]:
    inside: list[Any] = []
    while (value := stack.pop()) is not _MARK:
        inside.append(value)
    return inside[::-1]


def _skip_array(stream: io.BytesIO, state: dict[str, Any], names: set[str]) -> None:
    """joblib puts an array's bytes behind its description: as they are, or as a pickle of its own."""
    kind = state["dtype"]
    text = str(kind.arguments[0]) if isinstance(kind, _Named) and kind.arguments else "O8"
    if text.startswith("O") or kind.name != "numpy.dtype":
        _follow(stream, names)
        return
    if state.get("numpy_array_alignment_bytes") is not None:
        stream.seek(stream.read(1)[0], io.SEEK_CUR)
    count = 1
    for size in state["shape"]:
        count *= int(size)
    stream.seek(count * np.dtype(text).itemsize, io.SEEK_CUR)
