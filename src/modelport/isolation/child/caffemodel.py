"""Caffe's `.caffemodel` and `.binaryproto`: protobuf's wire form, read field by field where it is needed.

Only the names, the types and the weights of layers are looked at; nothing is allocated that the file does
not hold. The standard library and numpy.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np

from .converter import Refused
from .frames import Array

MAX_LAYERS = 100_000
MOST_FIELDS = 10_000
"""Looked at for the first layer."""
LAYER, OLD_LAYER = 100, 2
"""Fields of a network: layers as they are now, and as they were until 2014."""
_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5
_NET_FIELDS = range(1, 9)


@dataclass(frozen=True)
class Weights:
    """What a file holds of one layer."""

    name: str
    type: str
    blobs: tuple[Array, ...]
    """float32 each, in the shape that the file states."""


Field = tuple[int, int, int, memoryview]
"""Number, wire type, value of a number, and the bytes of anything else."""


def fields(data: memoryview, *, cut: bool = False) -> Iterator[Field]:
    """The fields of a message, one after another; with `cut`, also what is there of the last one.

    Raises:
        Refused: these bytes are no message, or are cut short.
    """
    at, end = 0, len(data)
    while at < end:
        tag, at = _varint(data, at)
        number, kind = tag >> 3, tag & 7
        value, start, size = 0, at, 0
        if kind == _VARINT:
            value, at = _varint(data, at)
        elif kind == _BYTES:
            size, start = _varint(data, at)
        elif kind in (_EIGHT, _FOUR):
            size = 8 if kind == _EIGHT else 4
        else:
            raise Refused(f"field {number} has the unknown wire type {kind}")
        if kind != _VARINT:
            at = start + size
        if (at > end and not cut) or not number:
            raise Refused("it is cut short, or damaged")
        yield number, kind, value, data[start:at] if kind != _VARINT else data[:0]


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise Refused("it is cut short, or damaged")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def looks_like_network(data: memoryview) -> bool:
    """Whether the bytes begin as a Caffe network with weights does; a file that is cut short counts."""
    try:
        for number, kind, _, part in islice(fields(data, cut=True), MOST_FIELDS):
            if number in (LAYER, OLD_LAYER) and kind == _BYTES:
                return _is_layer(part, old=number == OLD_LAYER)
            if number not in _NET_FIELDS or (number == 1 and len(part) and not _is_text(part)):
                return False
    except Refused:
        return False
    return False


def _is_layer(part: memoryview, *, old: bool) -> bool:
    name = kind = False
    for number, wire, _, piece in fields(part, cut=True):
        if number == (4 if old else 1):
            name = wire == _BYTES and _is_text(piece)
        elif number == (5 if old else 2):
            kind = wire == _VARINT if old else wire == _BYTES and _is_text(piece)
        if name and kind:
            return True
    return False


def _is_text(part: memoryview) -> bool:
    try:
        return 0 < len(part) < 1024 and bytes(part).decode().isprintable()
    except UnicodeDecodeError:
        return False


def read_weights(data: memoryview) -> dict[str, Weights]:
    """The weights of every layer that has any, by the layer's name.

    Raises:
        Refused: no such file, cut short, or a blob that does not have as many numbers as its shape says.
    """
    found: dict[str, Weights] = {}
    count = 0
    for number, kind, _, part in fields(data):
        if kind != _BYTES or number not in (LAYER, OLD_LAYER):
            continue
        count += 1
        layer = _layer(part, old=number == OLD_LAYER)
        if count > MAX_LAYERS:
            raise Refused(f"it has over {MAX_LAYERS} layers")
        if layer.blobs:
            found[layer.name] = layer
    if not count:
        raise Refused("it holds no layers")
    return found


def read_mean(data: memoryview) -> Array:
    """The picture in a `.binaryproto`: float32[channels, height, width].

    Raises:
        Refused: it is none.
    """
    blob = _blob(data, "the mean")
    return blob.reshape(blob.shape[-3:]) if blob.ndim >= 3 else blob


def _layer(part: memoryview, *, old: bool) -> Weights:
    name = kind = ""
    blobs: list[memoryview] = []
    numbers = (4, 5, 6) if old else (1, 2, 7)
    for number, wire, value, piece in fields(part):
        if number == numbers[0] and wire == _BYTES:
            name = bytes(piece).decode(errors="replace")
        elif number == numbers[1]:
            kind = str(value) if old else bytes(piece).decode(errors="replace")
        elif number == numbers[2] and wire == _BYTES:
            blobs.append(piece)
    return Weights(name, kind, tuple(_blob(piece, name) for piece in blobs))


def _blob(data: memoryview, where: str) -> Array:
    """Numbers in their shape; the old form has four sides of its own."""
    shape: list[int] = []
    sides = [0, 0, 0, 0]
    parts: list[Array] = []
    for number, kind, value, piece in fields(data):
        if number in (1, 2, 3, 4) and kind == _VARINT:
            sides[number - 1] = value
        elif number == 7 and kind == _BYTES:
            shape = _shape(piece)
        elif number == 5 and kind in (_BYTES, _FOUR):
            parts.append(_numbers(piece, "<f4", where))
        elif number == 8 and kind in (_BYTES, _EIGHT):
            parts.append(_numbers(piece, "<f8", where))
        elif number > 9:
            raise Refused(f"the weights of {where!r} are kept in a form of a fork of Caffe (field {number})")
    flat = parts[0] if len(parts) == 1 else np.concatenate([*parts, np.zeros(0, np.float32)])
    wanted = tuple(shape) or tuple(sides if any(sides) else [flat.size])
    if math.prod(wanted) != flat.size:
        raise Refused(f"{where!r} states {list(wanted)} weights and holds {flat.size}")
    return flat.astype(np.float32, copy=False).reshape(wanted)


def _numbers(piece: memoryview, dtype: str, where: str) -> Array:
    if len(piece) % np.dtype(dtype).itemsize:
        raise Refused(f"the weights of {where!r} are cut short")
    return np.frombuffer(piece, dtype)


def _shape(data: memoryview) -> list[int]:
    sides: list[int] = []
    for number, kind, value, piece in fields(data):
        if number != 1:
            continue
        at = 0
        if kind == _VARINT:
            sides.append(value)
        while kind == _BYTES and at < len(piece):
            side, at = _varint(piece, at)
            sides.append(side)
    return sides
