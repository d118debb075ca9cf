"""Messages between the two processes: a JSON header and the bytes of arrays behind it. No pickles.

A frame is an eight-byte little-endian length, a JSON object of that many bytes (`fields` and `arrays`), and
then the arrays' bytes one after another, in C order; an array of text is a JSON list in UTF-8, of the length
that its description gives. Both sides check before they allocate.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from typing import IO, Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

MAX_HEADER_BYTES = 8 << 20
MAX_ARRAYS = 1024
TEXT = "string"
DTYPES = frozenset(
    f"{kind}{bits}"
    for kind, sizes in {"float": (16, 32, 64), "int": (8, 16, 32, 64)}.items()
    for bits in sizes
) | {"uint8", "uint16", "uint32", "uint64", "bool"}


class FrameError(ValueError):
    """What came is no frame, or larger than allowed."""


def write_frame(stream: IO[bytes], fields: Mapping[str, Any], arrays: Mapping[str, Array]) -> None:
    """Write one message and flush.

    Raises:
        FrameError: an array of a dtype that does not travel (objects that are no text).
    """
    described: list[dict[str, Any]] = []
    packed: list[bytes] = []
    for name, array in arrays.items():
        about: dict[str, Any] = {"name": name, "dtype": array.dtype.name, "shape": list(np.shape(array))}
        if array.dtype.kind in "OUT":
            data = _text(name, array)
            about |= {"dtype": TEXT, "bytes": len(data)}
        elif array.dtype.name in DTYPES:
            data = np.ascontiguousarray(array).tobytes()
        else:
            raise FrameError(f"the array {name!r} is {array.dtype}; only numbers, booleans and text travel")
        described.append(about)
        packed.append(data)
    header = json.dumps({"fields": dict(fields), "arrays": described}).encode()
    stream.write(struct.pack("<Q", len(header)) + header)
    for data in packed:
        stream.write(data)
    stream.flush()


def read_frame(stream: IO[bytes], max_bytes: int) -> tuple[dict[str, Any], dict[str, Array]] | None:
    """The next message; None where the stream ends before one begins.

    Args:
        stream: opened for reading bytes.
        max_bytes: of all arrays together.

    Raises:
        FrameError: not a frame, cut short, or larger than allowed.
    """
    start = stream.read(8)
    if not start:
        return None
    if len(start) < 8 or not 0 < (size := struct.unpack("<Q", start)[0]) <= MAX_HEADER_BYTES:
        raise FrameError("not a frame")
    try:
        header = json.loads(_exactly(stream, size))
        fields, described = header["fields"], header["arrays"]
        specs = [
            (str(d["name"]), str(d["dtype"]), tuple(int(n) for n in d["shape"]), int(d.get("bytes", 0)))
            for d in described
        ]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as problem:
        raise FrameError(f"a frame's header cannot be read: {problem}") from problem
    if not isinstance(fields, dict) or len(specs) > MAX_ARRAYS:
        raise FrameError("a frame's header is not of the agreed form")
    arrays: dict[str, Array] = {}
    room = max_bytes
    for name, dtype, shape, told in specs:
        if dtype not in (*DTYPES, TEXT) or told < 0 or any(n < 0 for n in shape):
            raise FrameError(f"the array {name!r} is {dtype}{list(shape)}")
        length = told if dtype == TEXT else math.prod(shape) * np.dtype(dtype).itemsize
        if length > room:
            raise FrameError(f"the arrays of a frame are larger than {max_bytes} bytes")
        room -= length
        data = bytearray(_exactly(stream, length))
        if dtype == TEXT:
            arrays[name] = _texts(name, bytes(data), shape)
        else:
            arrays[name] = np.frombuffer(data, dtype).reshape(shape)
    return fields, arrays


def _text(name: str, array: Array) -> bytes:
    values = array.reshape(-1).tolist()
    if not all(isinstance(value, str) for value in values):
        raise FrameError(f"the array {name!r} is {array.dtype}; only numbers, booleans and text travel")
    return json.dumps(values).encode()


def _texts(name: str, data: bytes, shape: tuple[int, ...]) -> Array:
    try:
        values = json.loads(data)
    except (ValueError, RecursionError) as problem:
        raise FrameError(f"the text of {name!r} cannot be read: {problem}") from problem
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise FrameError(f"the text of {name!r} is no list of strings")
    if len(values) != math.prod(shape):
        raise FrameError(f"{len(values)} texts for {name!r}{list(shape)}")
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array.reshape(shape)


def _exactly(stream: IO[bytes], size: int) -> bytes:
    data = stream.read(size)
    if len(data) != size:
        raise FrameError(f"a frame was cut short: {len(data)} of {size} bytes")
    return data
