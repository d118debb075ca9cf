"""Protobuf messages without their schema: which fields stand at the outermost level."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

MAX_FIELD = 1 << 29


def outer_fields(path: Path, *, highest: int = 63) -> tuple[set[int], bool]:
    """The field numbers of a message's outermost level, and whether it ends where its last field does.

    Args:
        path: the file.
        highest: a number beyond this tells that it is no such message.
    """
    found: set[int] = set()
    size = path.stat().st_size
    with path.open("rb") as stream:
        while stream.tell() < size:
            key = _varint(stream)
            if key is None or not 0 < key >> 3 <= highest:
                return found, False
            kind = key & 7
            length = {0: 0, 1: 8, 5: 4}.get(kind)
            if kind in (0, 2):
                value = _varint(stream)
                if value is None:
                    return found, False
                length = value if kind == 2 else 0
            if length is None:
                return found, False
            found.add(key >> 3)
            if stream.tell() + length > size:
                return found, False
            stream.seek(length, os.SEEK_CUR)
    return found, True


def _varint(stream: BinaryIO) -> int | None:
    value = 0
    for shift in range(0, 70, 7):
        byte = stream.read(1)
        if not byte:
            return None
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    return None
