"""Frozen graphs of TensorFlow: a `.pb` that is a GraphDef."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from .converted import ConvertedImporter
from .source import as_path, file_head

HEAD = 4096
NAME = re.compile(rb"[A-Za-z0-9.][A-Za-z0-9_.\\/>-]*")
OPERATOR = re.compile(rb"[A-Z_][A-Za-z0-9_>]*")


class FrozenGraphImporter(ConvertedImporter):
    """Converted by tf2onnx; compared with TensorFlow running the graph."""

    environment = "tensorflow"
    converter = "tensorflow_frozen"
    what = "a frozen TensorFlow graph"
    takes = frozenset({"signature"})

    def recognises(self, source: Any) -> bool:
        """By its first node: a message with a name and an operator."""
        path = as_path(source)
        return path is not None and path.is_file() and is_graph(file_head(path, HEAD))

    def question(self, path: Path) -> dict[str, Any]:
        """The outputs that the user names."""
        return {"signature": self.options.signature}


def is_graph(head: bytes) -> bool:
    """Whether bytes begin as a GraphDef does."""
    if head[:1] != b"\x0a":
        return False
    _, at = _varint(head, 1)
    name, at = _text(head, at, b"\x0a")
    operator, _ = _text(head, at, b"\x12")
    return NAME.fullmatch(name) is not None and OPERATOR.fullmatch(operator) is not None


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    for place in range(at, min(at + 5, len(data))):
        value |= (data[place] & 0x7F) << shift
        shift += 7
        if data[place] < 0x80:
            return value, place + 1
    return 0, len(data)


def _text(data: bytes, at: int, tag: bytes) -> tuple[bytes, int]:
    """A field of text and where it ends; empty for another field."""
    if data[at : at + 1] != tag:
        return b"", at
    size, at = _varint(data, at + 1)
    return data[at : at + size], at + size
