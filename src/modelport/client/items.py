"""One item for `predict`, in any of the forms a caller has it in: a file, its bytes, pixels, tensors.

Knows Pillow by name only: nothing is imported for a caller who does not use it.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, BinaryIO, Union

import numpy as np

from ..errors import InputError, NotFound
from ..tensors import Array, dtype_name
from .rows import Rows, Table, Text, recognised

if TYPE_CHECKING:
    from PIL.Image import Image

Item = Union[
    str, Text, "os.PathLike[str]", bytes, bytearray, memoryview, BinaryIO, "Image", Array, Mapping[str, Any]
]
"""A path; an encoded file's bytes, or the open file; a Pillow image; pixels uint8[H, W, 3]; a row of a table
as a mapping of plain values; a text; or for a model that takes tensors one item's array (no batch axis), or
its arrays by name."""

_ORIENTATION = 0x0112  # TIFF 6.0, tag 274; EXIF 2.3, 4.6.4
PIXELS = "image"
"""The name of a picture bundle's input."""


Read = bytes | Array | dict[str, Array] | Rows | Text
"""What is sent of an item."""


def slow(item: Item | Table) -> bool:
    """Whether reading the item may take a while: an event loop does it elsewhere."""
    return not isinstance(item, bytes | bytearray | memoryview | np.ndarray)


def read_item(item: Item | Table) -> Read:
    """The item as encoded bytes, as arrays by name (`image` uint8[H, W, 3] for pixels), or as one array
    that only the server can name.

    A picture means here what its file means to the server: a Pillow image that is not plain RGB is sent as
    a file, so that transparency, palettes, depth and orientation are treated by the server alone.

    Raises:
        NotFound: a path where there is no file. InputError: nothing that can be sent.
    """
    if isinstance(item, bytes | bytearray | memoryview):
        return bytes(item)
    if not isinstance(item, np.ndarray) and (found := recognised(item)) is not None:
        return found
    if isinstance(item, str | os.PathLike):
        return _read_file(item)
    if isinstance(item, Mapping):
        return {str(name): _tensor(value, str(name)) for name, value in item.items()}
    image = sys.modules.get("PIL.Image")
    if image is not None and isinstance(item, image.Image):
        return _of_pillow(item)
    if isinstance(item, np.ndarray):
        return _of_array(item)
    read = getattr(item, "read", None)
    if callable(read):
        data = read()
        if isinstance(data, bytes):
            return data
        raise InputError("expected a file that is open for bytes", hint="open(path, 'rb')")
    if hasattr(item, "__array__"):
        return _of_array(np.asarray(item))
    raise InputError(
        f"expected a path, bytes, a Pillow image, an array or arrays by name, got {type(item).__name__}"
    )


def npy_of(array: Array) -> bytes:
    """An array as a .npy file."""
    file = io.BytesIO()
    np.lib.format.write_array(file, array, allow_pickle=False)
    return file.getvalue()


def one_item(arrays: dict[str, Array]) -> tuple[dict[str, Array], bool]:
    """What infer takes for one item's arrays, and whether its answer then has a batch axis."""
    pixels = arrays.get(PIXELS)
    if pixels is not None and len(arrays) == 1 and pixels.dtype == np.uint8 and pixels.ndim == 3:
        return arrays, False
    return {name: array[None] for name, array in arrays.items()}, True


def _read_file(path: str | os.PathLike[str]) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError as problem:
        url = isinstance(path, str) and path.startswith(("http://", "https://", "data:"))
        hint = (
            "download it first and send its bytes" if url else "a text is given as modelport.client.Text(…)"
        )
        raise NotFound(f"no file {os.fspath(path)!r}", hint=hint) from problem
    except (OSError, ValueError) as problem:
        raise InputError(f"cannot read {os.fspath(path)!r}: {problem}") from problem


def _of_array(array: Array) -> Array | dict[str, Array]:
    if array.dtype == np.uint8 and array.ndim == 3 and array.shape[-1] == 3:
        return {PIXELS: array}
    return _tensor(array, "item")


def _of_pillow(image: Image) -> bytes | dict[str, Array]:
    orientation = image.getexif().get(_ORIENTATION, 1)
    if image.mode == "RGB" and orientation == 1 and "transparency" not in image.info:
        return {PIXELS: np.asarray(image)}
    file = io.BytesIO()
    try:
        if image.mode in ("CMYK", "YCbCr"):
            image.save(file, "TIFF", exif=image.getexif())  # lossless, and PNG has no such pixels
        else:
            image.save(file, "PNG", compress_level=1, exif=image.getexif())
    except (OSError, ValueError) as problem:
        raise InputError(
            f"a Pillow image of mode {image.mode!r} cannot be sent: {problem}",
            hint="convert it: image.convert('RGB')",
        ) from problem
    return file.getvalue()


def _tensor(value: Any, name: str) -> Array:
    array = np.asarray(value)
    if array.dtype.kind == "O":
        texts = [item for item in array.flat if isinstance(item, str)]
        if len(texts) != array.size:
            raise InputError("expected numbers or text", at=f"$.inputs.{name}")
        return np.array(texts, dtype=str).reshape(array.shape)
    if dtype_name(array) == "string" or array.dtype.kind in "biuf":
        return array
    raise InputError(f"expected numbers or text, got {array.dtype}", at=f"$.inputs.{name}")
