"""Values in each of the protocol's datatypes: as arrays, as JSON and as bytes, and back.

Little-endian, row-major; BYTES elements behind their length as uint32. Shares no code with the server.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from .verdict import Wrong

Array = np.ndarray[Any, Any]

DATATYPES: dict[str, str] = {
    "BOOL": "?",
    "UINT8": "<u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "INT8": "<i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
    "BYTES": "O",
}
"""The datatypes of the protocol's table, and NumPy's word for each."""

NUMERIC = tuple(name for name in DATATYPES if name != "BYTES")
SPEAKABLE = tuple(name for name in NUMERIC if name != "FP16")
"""Those that JSON has a form for."""


def sample(datatype: str, shape: Sequence[int]) -> Array:
    """Small values that every float holds exactly, no two rows alike."""
    size = math.prod(shape)
    steps = np.arange(size) * 7 % 13
    if datatype == "BYTES":
        return texts([b"text %d" % step for step in steps], shape)
    if datatype == "BOOL":
        return np.asarray(steps % 2 == 1).reshape(shape)
    scaled = steps / 4 if datatype.startswith("FP") else steps
    return scaled.astype(DATATYPES[datatype]).reshape(shape)


def edges(datatype: str, shape: Sequence[int]) -> Array:
    """The extremes of a datatype, repeated as often as `shape` wants."""
    if datatype == "BOOL":
        values = np.array([True, False, False, True])
    elif datatype.startswith("FP"):
        kind = np.finfo(DATATYPES[datatype])
        values = np.array([kind.max, kind.min, kind.tiny, -0.5, 1 / 3, 0], DATATYPES[datatype])
    else:
        whole = np.iinfo(DATATYPES[datatype])
        values = np.array([whole.max, whole.min, whole.max - 1, 1], DATATYPES[datatype])
    return np.resize(values, shape)


def texts(items: Sequence[bytes], shape: Sequence[int]) -> Array:
    """An object array of bytes."""
    array = np.empty(len(items), dtype=object)
    array[:] = list(items)
    return array.reshape(shape)


def flat_json(array: Array) -> list[Any]:
    """Elements in row-major order, as JSON has them; a float32 as the shortest text that is it."""
    if array.dtype.kind == "O":
        return [item.decode() for item in array.flat]
    if array.dtype.kind == "f":
        return [float(str(item)) for item in array.ravel()]
    values: list[Any] = array.ravel().tolist()
    return values


def nested_json(array: Array) -> Any:
    """The same, in lists of lists."""
    flat = np.empty(array.size, dtype=object)
    flat[:] = flat_json(array)
    return flat.reshape(array.shape).tolist()


def to_bytes(array: Array) -> bytes:
    """The binary form of a tensor."""
    if array.dtype.kind == "O":
        return b"".join(struct.pack("<I", len(item)) + item for item in array.flat)
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()


def from_bytes(data: bytes, datatype: str, shape: Sequence[int]) -> Array:
    """A tensor of its binary form.

    Raises:
        Wrong: the size does not fit the shape.
    """
    if datatype == "BYTES":
        items = _split(data)
        if len(items) != math.prod(shape):
            raise Wrong(f"BYTES{list(shape)} came with {len(items)} elements")
        return texts(items, shape)
    kind = np.dtype(DATATYPES[datatype])
    if len(data) != math.prod(shape) * kind.itemsize:
        raise Wrong(f"{datatype}{list(shape)} came with {len(data)} bytes")
    return np.frombuffer(data, kind).reshape(shape)


def from_json(data: Any, datatype: str, shape: Sequence[int]) -> Array:
    """A tensor of its JSON form, nested or flat.

    Raises:
        Wrong: elements of another kind, or more or fewer than the shape has.
    """
    items: list[Any] = []
    _flatten(data, items)
    if len(items) != math.prod(shape):
        raise Wrong(f"{datatype}{list(shape)} came with {len(items)} elements")
    if datatype == "BYTES":
        if not all(isinstance(item, str) for item in items):
            raise Wrong("elements of a BYTES tensor are not strings")
        return texts([item.encode() for item in items], shape)
    kinds = {"BOOL": (bool,), "FP": (int, float)}.get(
        datatype if datatype == "BOOL" else datatype[:2], (int,)
    )
    odd = [item for item in items if not isinstance(item, kinds) or (datatype != "BOOL" and item is True)]
    if odd:
        raise Wrong(f"{odd[0]!r} is no element of a {datatype} tensor")
    try:
        return np.array(items, DATATYPES[datatype]).reshape(shape)
    except (OverflowError, ValueError) as problem:
        raise Wrong(f"an element does not fit {datatype}: {problem}") from problem


def same(one: Array, other: Array) -> bool:
    """Equal in shape and in every bit (a rounding in the last place of a float is allowed)."""
    if one.shape != other.shape or one.dtype.kind != other.dtype.kind:
        return False
    if one.dtype.kind == "f":
        close = 4 * float(np.finfo(one.dtype).eps)
        with np.errstate(all="ignore"):
            return bool(np.allclose(one, other, rtol=close, atol=0, equal_nan=True))
    return bool((one == other).all())


def _split(data: bytes) -> list[bytes]:
    items: list[bytes] = []
    place = 0
    while place < len(data):
        if place + 4 > len(data):
            raise Wrong("a BYTES tensor ends inside a length")
        (size,) = struct.unpack_from("<I", data, place)
        if place + 4 + size > len(data):
            raise Wrong("a BYTES element ends behind the tensor")
        items.append(data[place + 4 : place + 4 + size])
        place += 4 + size
    return items


def _flatten(data: Any, into: list[Any], depth: int = 0) -> None:
    if not isinstance(data, list):
        into.append(data)
    elif depth > 16:
        raise Wrong("data is nested deeper than any shape")
    else:
        for item in data:
            _flatten(item, into, depth + 1)
