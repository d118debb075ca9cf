"""Whether an output is a picture with its levels renamed, and of which colours. The test of equality.

A picture is the right one if every level of it became one value, whatever the value is: no assumption
about the normalisation is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np

from ..steps.image import Grayscale
from ..tensors import Array
from .values import Affine, Table

Colours = Literal["rgb", "bgr", "gray", "other"]
PLANES = ("red", "green", "blue", "gray")
_SPREAD = 1e-3
"""Of a level: what one level's values may differ by, as vector code and its rest may in the last bit."""
_FLAT = 2.0
"""Standard deviation of a channel's levels below which a picture shows nothing of its geometry."""


class Evidence(msgspec.Struct, frozen=True, eq=False):
    """One picture and what the reference made of it."""

    name: str
    source: Array
    """uint8[height, width, 3]"""
    output: Array
    """[rows, columns, 1 or 3], of the reference's dtype"""
    probe: str = ""

    @property
    def sizes(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Height and width of the picture and of the output."""
        return (
            (int(self.source.shape[0]), int(self.source.shape[1])),
            (int(self.output.shape[0]), int(self.output.shape[1])),
        )

    @property
    def flat(self) -> bool:
        """Whether it is of one colour, all but."""
        return bool(self.source.std(axis=(0, 1)).max() < _FLAT)


class Levels(msgspec.Struct, frozen=True, eq=False):
    """The smallest and largest value of every level, for each channel of the output and each plane."""

    low: Array
    """float64[channels, planes, 256]; infinity where a level does not occur"""
    high: Array

    def __add__(self, other: Levels) -> Levels:
        return Levels(np.minimum(self.low, other.low), np.maximum(self.high, other.high))

    def exact(self) -> Array:
        """bool[channels, planes]: every level became one value, and several became different ones."""
        seen = np.isfinite(self.low)
        with np.errstate(invalid="ignore"):
            spread = np.where(seen, self.high - self.low, 0.0).max(axis=2)
            whole = np.where(seen, self.high, -np.inf).max(axis=2) - np.where(seen, self.low, np.inf).min(
                axis=2
            )
        count = seen.sum(axis=2)
        return np.asarray((spread <= whole / 255 * _SPREAD) & ((whole > 0) | (count == 1)))

    def table(self, planes: Sequence[int], dtype: str) -> Table:
        """What the levels became, where channel i of the output is plane `planes[i]`."""
        rows = np.arange(len(planes))
        low, high = self.low[rows, list(planes)], self.high[rows, list(planes)]
        seen = np.isfinite(low)
        middle = np.where(seen, np.where(seen, low, 0.0) / 2 + np.where(seen, high, 0.0) / 2, 0.0)
        return Table(seen, middle, dtype)


def levels_of(picture: Array, output: Array) -> Levels:
    """Of one pair: uint8[rows, columns, planes] and numbers[rows, columns, channels]."""
    channels, planes = output.shape[2], picture.shape[2]
    low = np.full((channels, planes, 256), np.inf)
    high = np.full((channels, planes, 256), -np.inf)
    values = output.reshape(-1, channels).astype(np.float64)
    pixels = picture.reshape(-1, planes)
    for plane in range(planes):
        order = np.argsort(pixels[:, plane], kind="stable")
        present, starts = np.unique(pixels[order, plane], return_index=True)
        for channel in range(channels):
            sorted_values = values[order, channel]
            low[channel, plane, present] = np.minimum.reduceat(sorted_values, starts)
            high[channel, plane, present] = np.maximum.reduceat(sorted_values, starts)
    return Levels(low, high)


def planes_of(picture: Array) -> Array:
    """Red, green, blue and Pillow's grey: uint8[rows, columns, 4]; a grey picture has only that."""
    if picture.shape[2] == 1:
        return picture
    return np.concatenate([picture, Grayscale().reference(picture)], axis=2)


def unexplained(picture: Array, output: Array) -> float:
    """The share of the output's variance that no straight line of the picture's colours explains, 0 to 1.

    A measure that is fast and forgiving, for ranking; uint8[rows, columns, n], [rows, columns, channels].
    """
    step = max(1, int((picture.shape[0] * picture.shape[1] / 6_000) ** 0.5))
    x = picture[::step, ::step].reshape(-1, picture.shape[2]).astype(np.float64)
    y = output[::step, ::step, output.shape[2] // 2].reshape(-1).astype(np.float64)
    x = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    y = y - y.mean()
    total = float((y * y).sum())
    if total == 0:
        return 1.0
    # einsum and not @: many small products, for which BLAS would wake its threads each time.
    normal = np.einsum("ij,ik->jk", x, x) + 1e-6 * np.eye(x.shape[1])
    weights = np.linalg.solve(normal, np.einsum("ij,i->j", x, y))
    rest = y - (x * weights).sum(axis=1)
    return float((rest * rest).sum()) / total


def line_of(picture: Array, output: Array) -> tuple[Affine, tuple[int, ...]]:
    """The straight line from the best plane of a picture to each channel, by least squares."""
    pixels = picture.reshape(-1, picture.shape[2]).astype(np.float64)
    values = output.reshape(-1, output.shape[2]).astype(np.float64)
    pixels_centred, values_centred = pixels - pixels.mean(axis=0), values - values.mean(axis=0)
    cross = values_centred.T @ pixels_centred
    own = (pixels_centred**2).sum(axis=0) + 1e-9
    planes = tuple(int(plane) for plane in np.argmax(np.abs(cross) / np.sqrt(own), axis=1))
    slope = np.array([cross[channel, plane] / own[plane] for channel, plane in enumerate(planes)])
    slope = np.where(slope == 0, 1e-9, slope)
    offset = values.mean(axis=0) - slope * pixels.mean(axis=0)[list(planes)]
    return Affine(slope, offset), planes


def colours_of(exact: Array) -> tuple[Colours, tuple[int, ...], list[str]]:
    """The colours that an exact match shows, the plane of each channel, and what else they could be.

    Args:
        exact: bool[channels, planes], with a plane for each channel.
    """
    channels, planes = exact.shape
    if planes == 1:
        return "gray", (0,) * channels, []
    known: list[tuple[Colours, tuple[int, ...]]] = [("rgb", (0, 1, 2)), ("bgr", (2, 1, 0))]
    known = known if channels == 3 else []
    known.append(("gray", (3,) * channels))
    rows = np.arange(channels)
    found = [(name, order) for name, order in known if exact[rows, list(order)].all()]
    if found:
        return found[0][0], found[0][1], [name.upper() for name, _ in found[1:]]
    return "other", tuple(int(plane) for plane in exact.argmax(axis=1)), []
