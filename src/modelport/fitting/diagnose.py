"""What a reference is where none of our steps gives its bytes: the nearest kernel, and what it likely is."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from ..steps.image import Grayscale
from ..tensors import Array
from .geometry import Geometry
from .match import Colours, Evidence, line_of, planes_of
from .resample import others, place
from .search import for_ranking, gray, kernels_for
from .values import Affine, Table

_GEOMETRIES = 6
_FAR = 40.0
"""Levels of difference, on average, from which on there is no resemblance."""
_RARE = 0.05
_LIKELY = 0.85
_WHOLE = 0.05
"""How far a level may be from a whole number to count as one."""


class Nearest(msgspec.Struct, frozen=True, eq=False):
    """The kernel of ours that comes nearest, how near, and what the reference does instead."""

    geometry: Geometry
    kernel: str
    order: str
    gray_first: bool
    colours: Colours
    planes: tuple[int, ...]
    table: Table
    largest: float
    """Difference in levels."""
    share: float
    """Of pixels that differ by more than half a level."""
    instead: str


class _Shown(msgspec.Struct, frozen=True, eq=False):
    """A picture with the levels that the reference's output stands for."""

    evidence: Evidence
    levels: Array
    """float64[rows, columns, channels]"""


def nearest(evidence: Sequence[Evidence], geometries: Sequence[Geometry]) -> Nearest | None:
    """The nearest kernel and geometry; None where nothing comes near."""
    chosen = for_ranking([each for each in evidence if each.probe != "flat"])
    flats = [each for each in evidence if each.probe == "flat"]
    if not chosen or not geometries:
        return None
    is_gray = gray(chosen[0].output)
    known = _line_of_flats(flats, is_gray)
    geometry, kernel, order, first = _best(geometries[:_GEOMETRIES], evidence, chosen, known, is_gray)
    line, planes = known or line_of(*_pair(chosen[0], geometry, kernel, order, first))
    for other in dict.fromkeys([geometry, *(each for each in geometries if len(each.moves) == 1)]):
        exact, instead = _instead(chosen, other, line, planes, is_gray)
        if exact:
            geometry, kernel, order, first = _best([other], evidence, chosen, known, is_gray)
            break
    else:
        _, instead = _instead(chosen, geometry, line, planes, is_gray)
    flat = np.concatenate([_off(each, geometry, kernel, order, first, known).reshape(-1) for each in chosen])
    if flat.mean() > _FAR and not exact:
        return None
    if not exact and flat.max() < 1.5 and (flat > 0.5).mean() < _RARE:
        instead = f"{kernel} but for the rounding of single levels (torchvision on uint8 tensors is such)"
    return Nearest(
        geometry, kernel, order, first, _colours(planes, is_gray), planes,
        _table(line, planes, flats, chosen[0].output.dtype.name),
        float(flat.max()), float((flat > 0.5).mean()), instead,
    )  # fmt: skip


def _best(
    geometries: Sequence[Geometry],
    evidence: Sequence[Evidence],
    chosen: Sequence[Evidence],
    known: tuple[Affine, tuple[int, ...]] | None,
    is_gray: bool,
) -> tuple[Geometry, str, str, bool]:
    """Of our kernels and these geometries: with the smallest mean difference."""
    best: tuple[float, tuple[Geometry, str, str, bool]] | None = None
    for geometry in geometries:
        for kernel, order in kernels_for(geometry, evidence):
            for first in (False, True) if is_gray else (False,):
                off = np.mean([_off(each, geometry, kernel, order, first, known).mean() for each in chosen])
                if best is None or off < best[0] - 1e-9:
                    best = float(off), (geometry, kernel, order, first)
    assert best is not None
    return best[1]


def _pair(each: Evidence, geometry: Geometry, kernel: str, order: str, first: bool) -> tuple[Array, Array]:
    placement = geometry.placement(*each.sizes[0])
    source = Grayscale().reference(each.source) if first else each.source
    return planes_of(place(source, placement, kernel, order)), each.output[placement.inside]


def _off(
    each: Evidence,
    geometry: Geometry,
    kernel: str,
    order: str,
    first: bool,
    known: tuple[Affine, tuple[int, ...]] | None,
) -> Array:
    """Differences in levels, float64[rows, columns, channels]."""
    picture, output = _pair(each, geometry, kernel, order, first)
    line, planes = known or line_of(picture, output)
    wanted = picture[:, :, [min(plane, picture.shape[2] - 1) for plane in planes]]
    return np.asarray(np.abs(line.level(output) - wanted))


def _line_of_flats(flats: Sequence[Evidence], is_gray: bool) -> tuple[Affine, tuple[int, ...]] | None:
    """The values of pictures of one colour, which no resize changes: plane and line of each channel."""
    if len(flats) < 4:
        return None
    colours = _flat_colours(flats)
    values = np.array([_middle(each.output) for each in flats], np.float64)
    planes, slopes, offsets = [], [], []
    for channel in range(values.shape[1]):
        fitted = []
        for plane in (3, 4) if is_gray else range(3):
            (slope, offset), rest, *_ = np.polyfit(colours[:, plane], values[:, channel], 1, full=True)
            fitted.append((float(rest[0]) if len(rest) else 0.0, plane, float(slope), float(offset)))
        rest_of, plane, slope, offset = min(fitted)
        if slope == 0 or rest_of**0.5 / abs(slope) > 2:
            return None
        planes.append(plane)
        slopes.append(slope)
        offsets.append(offset)
    return Affine(np.array(slopes), np.array(offsets)), tuple(planes)


def _flat_colours(flats: Sequence[Evidence]) -> Array:
    """Red, green, blue, Pillow's grey and OpenCV's: uint8[n, 5]."""
    pixels = np.concatenate([each.source[:1, :1] for each in flats])
    return np.concatenate([planes_of(pixels), _opencv_gray(pixels)], axis=2)[:, 0]


def _middle(output: Array) -> Array:
    return np.asarray(output[output.shape[0] // 2, output.shape[1] // 2])


def _table(line: Affine, planes: Sequence[int], flats: Sequence[Evidence], dtype: str) -> Table:
    """What is known of the values: by the flat pictures, or by the line."""
    seen = np.zeros((len(planes), 256), bool)
    values = np.zeros((len(planes), 256))
    for colours, each in zip(_flat_colours(flats) if flats else [], flats, strict=True):
        for channel, plane in enumerate(planes):
            seen[channel, colours[plane]] = True
            values[channel, colours[plane]] = float(_middle(each.output)[channel])
    if not flats:
        seen[:] = True
        values = line.slope[:, None] * np.arange(256.0) + line.offset[:, None]
    return Table(seen, values, dtype)


def _colours(planes: tuple[int, ...], is_gray: bool) -> Colours:
    if is_gray:
        return "gray"
    named: dict[tuple[int, ...], Colours] = {(0, 1, 2): "rgb", (2, 1, 0): "bgr"}
    return named.get(planes, "other")


def _instead(
    chosen: Sequence[Evidence], geometry: Geometry, line: Affine, planes: Sequence[int], is_gray: bool
) -> tuple[bool, str]:
    """What the reference does, as kernels and formulas without a step tell, and whether that is certain."""
    shown = [
        _Shown(each, line.level(each.output[geometry.placement(*each.sizes[0]).inside])) for each in chosen
    ]
    if is_gray and (text := _other_gray(shown, geometry)):
        return True, text
    whole = max(float(np.abs(each.levels - np.rint(each.levels)).max()) for each in shown) < _WHOLE
    unrounded = "" if whole else ", with numbers that are not rounded to levels"
    worst: dict[str, float] = {}
    equal: dict[str, float] = {}
    formulas = set()
    for each in shown:
        placement = geometry.placement(*each.evidence.sizes[0])
        for name, made in others(each.evidence.source, placement):
            picture = made.astype(np.float64)
            if is_gray:
                picture = (picture[:, :, :3] @ [0.299, 0.587, 0.114])[:, :, None]
            else:
                picture = picture[:, :, list(planes)]
            if made.dtype != np.uint8:
                formulas.add(name)
                picture = np.rint(picture.clip(0, 255)) if whole else picture
            off = np.abs(each.levels - picture)
            worst[name] = max(worst.get(name, 0.0), float(off.max()))
            equal[name] = min(equal.get(name, 1.0), float((off < 0.5).mean()))
    name = min(worst, key=lambda each: (worst[each], each in formulas))
    if worst[name] < 2 * _WHOLE:
        return True, f"{name}{unrounded}; there is no step that gives its bytes"
    name = max(equal, key=lambda each: (equal[each], -worst[each]))
    if whole and name in formulas and equal[name] > _LIKELY and worst[name] < 2.5:
        text = f"most likely {name}, rounded to levels: equal in {equal[name]:.1%} of pixels"
        return False, text
    return False, "no known kernel" + unrounded


def _other_gray(shown: Sequence[_Shown], geometry: Geometry) -> str:
    """Whether it is OpenCV's grey with a kernel of ours."""
    for kernel, order in kernels_for(geometry, [each.evidence for each in shown]):
        for first in (False, True):
            worst = 0.0
            for each in shown:
                placement = geometry.placement(*each.evidence.sizes[0])
                source = _opencv_gray(each.evidence.source) if first else each.evidence.source
                made = place(source, placement, kernel, order)
                made = made if first else _opencv_gray(made)
                worst = max(worst, float(np.abs(each.levels - made).max()))
            if worst < _WHOLE:
                when = "before" if first else "after"
                return f"OpenCV's grey (cvtColor) {when} {kernel}, which rounds otherwise than `grayscale`"
    return ""


def _opencv_gray(picture: Array) -> Array:
    weights = np.array([9798, 19235, 3735], np.int64)
    return np.asarray(((picture.astype(np.int64) @ weights + 16384) >> 15).astype(np.uint8)[:, :, None])
