"""Arrays to the protocol's bytes and back, as few copies as the bytes allow. No JSON, no transport.

On the wire a tensor is little-endian and row-major; BOOL is one byte, and each BYTES element is preceded by
its length as uint32.
"""

from __future__ import annotations

import math
import struct
import sys
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from ..errors import InputError
from ..tensors import DTYPES_OF_OIP, OIP_DATATYPES, Array, array_of_json, object_array
from .failures import BadReply

Buffer = bytes | bytearray | memoryview

MAX_RANK = 32
"""Dimensions of a tensor in a reply; more is nonsense."""

_DATATYPES = {
    (np.dtype(name).kind, np.dtype(name).itemsize): datatype
    for name, datatype in OIP_DATATYPES.items()
    if name != "string"
}
"""NumPy's kind and size of an element -> the protocol's datatype; looked up for every tensor that is sent."""

_DTYPES = {
    datatype: np.dtype(name).newbyteorder("<") for name, datatype in OIP_DATATYPES.items() if name != "string"
} | {"BOOL": np.dtype(np.uint8), "BF16": np.dtype("<u2")}
"""Datatype -> how its elements lie on the wire."""

_LENGTH = struct.Struct("<I")
_LITTLE = sys.byteorder == "little"


def as_tensor(value: Any, name: str) -> tuple[Array, str]:
    """An input as the caller gives it (an array, a nested list, a number, text or bytes) and its datatype.

    Text and bytes become object arrays; one piece of them is an array of one element, because NumPy's own
    text types cut trailing zero bytes off.

    Raises:
        InputError: nothing that the protocol has a datatype for.
    """
    at = f"$.inputs.{name}"
    if isinstance(value, np.ndarray):
        array: Array = value
    elif isinstance(value, str | bytes | bytearray | memoryview):
        array = object_array([value if isinstance(value, str) else bytes(value)], [1])
    else:
        try:
            array = np.asarray(value)
        except (ValueError, OverflowError, TypeError) as problem:
            raise InputError(f"not a rectangular array: {problem}", at=at) from problem
        if array.dtype.kind == "S":
            array = np.asarray(value, dtype=object)
    kind = array.dtype.kind
    datatype = "BYTES" if kind in "OUS" else _DATATYPES.get((kind, array.dtype.itemsize))
    if datatype is None:
        raise InputError(
            f"expected one of {', '.join(OIP_DATATYPES)}, got {array.dtype}",
            at=at,
            hint="convert it: array.astype('float32')",
        )
    return array, datatype


def to_wire(array: Array, name: str) -> Buffer:
    """The tensor's bytes: a view of the array itself where it already lies as the wire wants it.

    Raises:
        InputError: an element of an object array that is neither text nor bytes.
    """
    if array.dtype.kind in "OUS":
        return _pack_strings(array, name)
    if not _LITTLE or array.dtype.byteorder == ">":
        array = array.astype(array.dtype.newbyteorder("<"))
    if not array.flags.c_contiguous:
        array = np.ascontiguousarray(array)
    if not array.size:
        return b""
    return array.reshape(-1).view(np.uint8).data


def _pack_strings(array: Array, name: str) -> bytes:
    pieces: list[bytes] = []
    for item in array.flat:
        if isinstance(item, str):
            data = item.encode()
        elif isinstance(item, bytes | bytearray | memoryview):
            data = bytes(item)
        else:
            raise InputError(
                f"expected text or bytes, got {type(item).__name__}",
                at=f"$.inputs.{name}",
                hint="an array of numbers needs a number's dtype: array.astype('float32')",
            )
        if len(data) > 0xFFFFFFFF:
            raise InputError("an element over 4 GiB does not fit the protocol", at=f"$.inputs.{name}")
        pieces += (_LENGTH.pack(len(data)), data)
    return b"".join(pieces)


def from_wire(data: memoryview, datatype: str, shape: Sequence[int], at: str) -> Array:
    """A tensor's bytes as an array: a view of them if they are writable and aligned, else a copy.

    BYTES become an object array of `bytes`, BF16 becomes float32 (exactly).

    Raises:
        BadReply: an unknown datatype, an impossible shape, or bytes that do not fit it.
    """
    check_shape(shape, at)
    if datatype == "BYTES":
        return _unpack_strings(data, shape, at)
    kind = _DTYPES.get(datatype)
    if kind is None:
        raise BadReply(f"unknown datatype {datatype!r}", at=at)
    # Python's integers do not overflow, so a hostile shape cannot wrap round to the right size.
    if prod(shape) * kind.itemsize != len(data):
        raise BadReply(
            f"{datatype}{list(shape)} takes {prod(shape) * kind.itemsize} bytes, got {len(data)}", at=at
        )
    array = np.frombuffer(data, kind).reshape(shape)
    if datatype == "BOOL":
        return np.asarray(array != 0)
    if datatype == "BF16":
        return (array.astype(np.uint32) << 16).view(np.float32)
    if not array.flags.aligned or not array.flags.writeable or not _LITTLE:
        return array.astype(kind.newbyteorder("="), copy=True)
    return array


def from_json(data: Any, datatype: str, shape: Sequence[int], at: str) -> Array:
    """A tensor that came as JSON, flat or nested; null among floats is not-a-number.

    Raises:
        BadReply: values that are not of the datatype, or not as many as the shape says.
    """
    check_shape(shape, at)
    dtype = "float32" if datatype == "BF16" else DTYPES_OF_OIP.get(datatype)
    if dtype is None:
        raise BadReply(f"unknown datatype {datatype!r}", at=at)
    if dtype.startswith("float") and isinstance(data, list) and None in data:
        data = [math.nan if value is None else value for value in data]
    try:
        array = array_of_json(data, dtype, at=at)
    except InputError as problem:
        raise BadReply(problem.message, at=at) from problem
    if array.size != prod(shape):
        raise BadReply(f"shape {list(shape)} has {prod(shape)} elements, got {array.size}", at=at)
    if dtype == "string":
        return object_array([item.encode() for item in array.flat], shape)
    return array.reshape(shape)


def check_shape(shape: Sequence[int], at: str) -> None:
    """Refuse what is no shape.

    Raises:
        BadReply: negative, or of too many dimensions.
    """
    if len(shape) > MAX_RANK or any(size < 0 for size in shape):
        raise BadReply(f"{list(shape)[: MAX_RANK + 1]} is not a shape", at=at)


def tensors_of(inputs: Mapping[str, Any]) -> dict[str, tuple[Array, str]]:
    """The inputs of a call: each one's array and datatype.

    Raises:
        InputError: not a mapping, empty, or a value that is no tensor.
    """
    if not isinstance(inputs, Mapping):
        raise InputError(
            f"expected arrays by name, got {type(inputs).__name__}", hint='infer(model, {"x": array})'
        )
    if not inputs:
        raise InputError("expected at least one input", hint="client.metadata(model) lists them")
    return {name: as_tensor(value, name) for name, value in inputs.items()}


def _unpack_strings(data: memoryview, shape: Sequence[int], at: str) -> Array:
    count, place, end = prod(shape), 0, len(data)
    # Every element takes four bytes at least: judged before memory is taken for that many.
    if count * _LENGTH.size > end:
        raise BadReply(f"shape {list(shape)} has {count} elements, got {end} bytes", at=at)
    strings: list[bytes] = []
    for _ in range(count):
        if place + _LENGTH.size > end:
            raise BadReply("a BYTES tensor ends inside a length", at=at)
        (size,) = _LENGTH.unpack_from(data, place)
        place += _LENGTH.size
        if size > end - place:
            raise BadReply(f"a BYTES element says {size} bytes and {end - place} are left", at=at)
        strings.append(bytes(data[place : place + size]))
        place += size
    if place != end:
        raise BadReply(f"shape {list(shape)} has {count} elements, {end - place} bytes are left", at=at)
    return object_array(strings, shape)
