"""Pixels of a geometry: by our kernels, by those of libraries that are here, and by formulas in NumPy.

The last two have no step; they serve to say what a reference does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image

from ..steps.reference import pillow_height_first, resize_reference
from ..tensors import Array
from .geometry import Placement

Filter = Callable[[Array], Array]
_SMALLEST = 1e-12


def place(source: Array, placement: Placement, kernel: str, order: str) -> Array:
    """The part of the frame that the picture covers: uint8[rows, columns, channels]."""
    picture = _cut(source, placement)
    if placement.resized != picture.shape[:2]:
        picture = resize_reference(picture, *placement.resized, kernel, order)
    rows, columns = placement.kept
    return picture[rows, columns]


def order_matters(placement: Placement) -> bool:
    """Whether Pillow 13 swaps its passes for this size."""
    return pillow_height_first(*placement.box[2:], *placement.resized)


def rough(source: Array, placement: Placement, filter: Image.Resampling) -> Array:
    """The same, fast and not to the last bit: only what the frame keeps is made."""
    top, left, height, width = placement.box
    rows, columns = placement.kept
    down, across = height / placement.resized[0], width / placement.resized[1]
    box = (
        left + columns.start * across,
        top + rows.start * down,
        min(left + columns.stop * across, source.shape[1]),
        min(top + rows.stop * down, source.shape[0]),
    )
    size = (columns.stop - columns.start, rows.stop - rows.start)
    return np.asarray(Image.fromarray(source).resize(size, filter, box))


def _cut(source: Array, placement: Placement) -> Array:
    top, left, height, width = placement.box
    return np.ascontiguousarray(source[top : top + height, left : left + width])


def others(source: Array, placement: Placement) -> Iterator[tuple[str, Array]]:
    """What kernels without a step make: their name, and uint8 (a library's own) or float64 (a formula)."""
    picture, (height, width) = _cut(source, placement), placement.resized
    rows, columns = placement.kept
    for name, made in _libraries(picture, height, width):
        yield name, made[rows, columns]
    for name, kernel, support, antialias, corner in _FORMULAS:
        down = _weights(picture.shape[0], height, kernel, support, antialias, corner)[rows]
        across = _weights(picture.shape[1], width, kernel, support, antialias, corner)[columns]
        yield name, np.einsum("ij,jkc,lk->ilc", down, picture.astype(np.float64), across, optimize=True)


def _libraries(picture: Array, height: int, width: int) -> Iterator[tuple[str, Array]]:
    image = Image.fromarray(picture)
    for kind in (Image.Resampling.LANCZOS, Image.Resampling.BOX, Image.Resampling.HAMMING):
        yield f"Pillow's {kind.name}", np.asarray(image.resize((width, height), kind))
    reduced = Image.fromarray(picture)
    reduced.thumbnail((width, height), Image.Resampling.BICUBIC)
    if reduced.size == (width, height):
        yield "Pillow's thumbnail", np.asarray(reduced)
    try:
        import cv2
    except ImportError:
        return
    for name in ("INTER_AREA", "INTER_CUBIC", "INTER_LANCZOS4", "INTER_NEAREST", "INTER_NEAREST_EXACT",
                 "INTER_LINEAR_EXACT"):  # fmt: skip
        made: Any = cv2.resize(picture, (width, height), interpolation=getattr(cv2, name))
        yield f"OpenCV's {name}", made


def _linear(x: Array) -> Array:
    return np.maximum(0.0, 1.0 - np.abs(x))


def _cubic(a: float) -> Filter:
    def kernel(x: Array) -> Array:
        x = np.abs(x)
        near = ((a + 2) * x - (a + 3)) * x * x + 1
        far = (((x - 5) * x + 8) * x - 4) * a
        return np.where(x <= 1, near, np.where(x < 2, far, 0.0))

    return kernel


def _box(x: Array) -> Array:
    return ((x > -0.5) & (x <= 0.5)).astype(np.float64)


_FORMULAS: tuple[tuple[str, Filter, float, bool, str], ...] = (
    ("bilinear without antialiasing (torch `interpolate`, `tf.image.resize`)", _linear, 1.0, False, "half"),
    ("bilinear with antialiasing (torchvision on tensors, `antialias=True`)", _linear, 1.0, True, "half"),
    ("bicubic without antialiasing (torch `interpolate`)", _cubic(-0.75), 2.0, False, "half"),
    ("bicubic without antialiasing (`tf.image.resize`)", _cubic(-0.5), 2.0, False, "half"),
    ("bicubic with antialiasing (torchvision on tensors)", _cubic(-0.5), 2.0, True, "half"),
    ("bilinear with aligned corners (`align_corners=True`)", _linear, 1.0, False, "aligned"),
    ("bilinear from the corners (TensorFlow 1)", _linear, 1.0, False, "corner"),
    ("nearest from the corners (torch `nearest`)", _box, 0.5, False, "floor"),
    ("mean of the area (`INTER_AREA`, `AREA`)", _box, 0.5, True, "area"),
)


@lru_cache(maxsize=256)
def _weights(source: int, target: int, kernel: Filter, support: float, antialias: bool, corner: str) -> Array:
    """The share of every input position in every output position: float64[target, source]."""
    scale = source / target
    if corner == "area":
        edges = np.arange(target + 1) * scale
        cells = np.arange(source)
        ends = np.minimum(edges[1:, None], cells + 1) - np.maximum(edges[:-1, None], cells)
        return np.asarray(np.maximum(0.0, ends) / scale)
    places = np.arange(target, dtype=np.float64)
    if corner == "aligned":
        centers = places * ((source - 1) / (target - 1) if target > 1 else 0.0)
    elif corner in ("corner", "floor"):
        centers = places * scale
    else:
        centers = (places + 0.5) * scale - 0.5
    if corner == "floor":
        made = np.zeros((target, source))
        made[np.arange(target), np.minimum(np.floor(centers + _SMALLEST).astype(int), source - 1)] = 1.0
        return made
    wide = max(scale, 1.0) if antialias else 1.0
    made = np.zeros((target, source))
    first = np.floor(centers - support * wide).astype(int)
    for step in range(int(2 * support * wide) + 3):
        index = first + step
        weight = kernel((index - centers) / wide)
        inside = (index >= 0) & (index < source)
        if antialias:
            weight = np.where(inside, weight, 0.0)
        np.add.at(made, (np.arange(target), index.clip(0, source - 1)), weight)
    return np.asarray(made / made.sum(axis=1, keepdims=True))
