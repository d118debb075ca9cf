"""JPEG pixels by libjpeg-turbo itself, without the copies that Pillow makes on the way.

A lowering: used where `simplejpeg` is installed and gives, on a picture of our own, the bytes that Pillow
gives; everything unusual (greys, CMYK, damage) is left to Pillow, which then also says what is wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from ..tensors import Array

_FLIPS: dict[Image.Transpose, Callable[[Array], Array]] = {
    Image.Transpose.FLIP_LEFT_RIGHT: lambda a: a[:, ::-1],
    Image.Transpose.FLIP_TOP_BOTTOM: lambda a: a[::-1],
    Image.Transpose.ROTATE_180: lambda a: a[::-1, ::-1],
    Image.Transpose.ROTATE_90: lambda a: a.transpose(1, 0, 2)[::-1],
    Image.Transpose.ROTATE_270: lambda a: a.transpose(1, 0, 2)[:, ::-1],
    Image.Transpose.TRANSPOSE: lambda a: a.transpose(1, 0, 2),
    Image.Transpose.TRANSVERSE: lambda a: a.transpose(1, 0, 2)[::-1, ::-1],
}


def decode(data: bytes, image: Image.Image, turn: Image.Transpose | None, divisor: int = 1) -> Array | None:
    """The picture's pixels, uint8 [height, width, 3], turned upright; None where Pillow has to do it.

    Args:
        data: the JPEG file.
        image: the same, opened by Pillow and not loaded: its size and mode have been judged.
        divisor: 1, or what the sides are divided by, rounded up: 2, 4 or 8; they are at least 8 then.
    """
    turbo = _simplejpeg()
    if turbo is None or image.mode != "RGB":
        return None
    try:
        _, _, space, _ = turbo.decode_jpeg_header(data)
        if space != "YCbCr":
            return None
        pixels: Array = turbo.decode_jpeg(data, "RGB", **_sides(image.size, divisor))
    except ValueError:
        return None
    return pixels if turn is None else _FLIPS[turn](pixels)


def _sides(size: tuple[int, int], divisor: int) -> dict[str, int]:
    """What makes `decode_jpeg` take this fraction: the least one that leaves the sides that it gives."""
    if divisor == 1:
        return {}
    width, height = (-(-side // divisor) for side in size)
    return {"min_height": height, "min_width": width}


@cache
def _simplejpeg() -> Any:
    """The module, if it is there and agrees with Pillow here; else None."""
    try:
        import simplejpeg
    except ImportError:
        return None
    rows, columns = np.mgrid[0:37, 0:53]
    picture = np.stack([rows * 6 % 256, columns * 5 % 256, rows * columns % 256], -1).astype(np.uint8)
    for subsampling in (0, 2):
        file = BytesIO()
        Image.fromarray(picture).save(file, "JPEG", quality=70, subsampling=subsampling)
        ours = np.asarray(Image.open(BytesIO(file.getvalue())))
        if not np.array_equal(ours, simplejpeg.decode_jpeg(file.getvalue(), "RGB")):
            return None
    return simplejpeg
