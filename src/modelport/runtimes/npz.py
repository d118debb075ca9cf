"""Arrays from bytes that nobody vouches for: .npy and .npz, read without pickles and within a limit.

`numpy.load` allocates what a header claims before it looks at the data; here the header is judged first.
"""

from __future__ import annotations

import io
import math
import zipfile
import zlib
from typing import Any

import numpy as np

from ..errors import InputError, TooLarge
from ..tensors import Array

MAX_ARRAYS = 4096
"""Arrays in one .npz."""


def is_npy(data: bytes) -> bool:
    """Whether the bytes begin like a .npy file."""
    return data[:6] == b"\x93NUMPY"


def is_npz(data: bytes) -> bool:
    """Whether the bytes begin like a zip archive, which a .npz is."""
    return data[:4] in (b"PK\x03\x04", b"PK\x05\x06")


def read_npy(data: bytes, *, at: str | None = None) -> Array:
    """The array of a .npy file: numbers, booleans or `<U` text.

    Raises:
        InputError: damaged, or of Python objects or records.
    """
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        if version == (1, 0):
            header = np.lib.format.read_array_header_1_0(stream)
        elif version == (2, 0):
            header = np.lib.format.read_array_header_2_0(stream)
        else:  # 3.0 is for records with names in UTF-8
            raise InputError(f"unknown .npy version {version}", at=at)
    except (ValueError, SyntaxError, TypeError, EOFError, RecursionError, MemoryError) as problem:
        raise InputError(f"not a .npy array: {problem}", at=at) from problem
    shape: tuple[int, ...] = header[0]
    fortran: bool = header[1]
    dtype: np.dtype[Any] = header[2]
    if dtype.hasobject or dtype.names is not None or dtype.kind not in "biufUS":
        raise InputError(
            f"a .npy of {dtype} is not read; expected numbers, booleans or text",
            at=at,
            hint="text can be saved as np.array([...], dtype=str)" if dtype.hasobject else None,
        )
    count = math.prod(shape)
    expected = count * dtype.itemsize
    body = data[stream.tell() :]
    if min(shape, default=0) < 0 or expected != len(body) or (count and not expected):
        raise InputError(
            f"a .npy header says {dtype}{list(shape)} ({expected} bytes), {len(body)} follow", at=at
        )
    flat = np.frombuffer(body, dtype) if count else np.empty(0, dtype)
    try:
        return flat.reshape(shape, order="F" if fortran else "C")
    except ValueError as problem:
        raise InputError(f"not a .npy array: {problem}", at=at) from problem


def read_npz(data: bytes, *, limit: int) -> dict[str, Array]:
    """The arrays of a .npz file by name.

    Args:
        data: the file.
        limit: the most bytes all arrays together may unpack to.

    Raises:
        InputError: damaged, or something else than .npy files inside.
        TooLarge: more than `limit` bytes, or more than `MAX_ARRAYS` arrays.
    """
    arrays: dict[str, Array] = {}
    left = limit
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            if len(members) > MAX_ARRAYS:
                raise TooLarge(f"a .npz with {len(members)} arrays; at most {MAX_ARRAYS} are read")
            for member in members:
                if not member.filename.endswith(".npy"):
                    raise InputError(f"a .npz holds .npy arrays only; found {member.filename!r}")
                with archive.open(member) as stream:
                    # The sizes in the archive's directory are its own claim: count what comes out.
                    content = stream.read(left + 1)
                left -= len(content)
                if left < 0:
                    raise TooLarge(f"a .npz that unpacks to more than {limit} bytes")
                name = member.filename.removesuffix(".npy")
                if name in arrays:
                    raise InputError(f"a .npz with two arrays named {name!r}")
                arrays[name] = read_npy(content, at=name)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError) as problem:
        raise InputError(f"a damaged .npz: {problem}") from problem
    return arrays
