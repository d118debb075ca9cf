"""Which geometry, kernel and colours an output comes from: ranking first, equality then."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec
import numpy as np
from PIL import Image

from ..steps.image import CenterCrop, Grayscale
from ..steps.kernels import KERNELS
from ..steps.resize import Letterbox
from ..tensors import Array
from .geometry import Geometry, Placement, brute, fits, likely, unusual
from .match import (
    Colours,
    Evidence,
    Levels,
    colours_of,
    levels_of,
    planes_of,
    unexplained,
)
from .resample import order_matters, place, rough
from .values import Affine, Table, affine_of

_RANKED = 14
_FOR_RANKING = 3


class Fit(msgspec.Struct, frozen=True, eq=False):
    """Pixels that became the output, level by level, in every picture that was looked at."""

    geometry: Geometry
    kernel: str
    order: str
    gray_first: bool
    """Whether the picture becomes grey before it is moved."""
    colours: Colours
    planes: tuple[int, ...]
    also: tuple[str, ...]
    """Colours that are just as possible."""
    table: Table
    one_map: bool
    """Whether one map from levels to values holds for all pictures; false: each picture has its own."""
    fill: int | tuple[int, ...] | None = None
    border: str = ""
    """Why the border cannot be made, where it cannot."""

    def named(self) -> str:
        """Geometry and kernel, to be told apart from others."""
        kernel = f", {self.kernel}" if self.geometry.resizes else ""
        order = ", width first" if self.order != "pillow-13" else ""
        return self.geometry.text() + kernel + order


def search(evidence: Sequence[Evidence]) -> tuple[list[Fit], list[Geometry]]:
    """Every fit, the simplest first, and the geometries that come nearest.

    Where the usual geometries do not fit, every size before a crop is tried, and then crops that begin
    otherwise and variations for which there is no step.
    """
    pairs = [each.sizes for each in evidence]
    usual = likely(pairs)
    ranked = _ranked(usual, evidence)
    found = list(_fits([each for each in usual if each in ranked], evidence))
    if found:
        return found, ranked
    every = [*usual, *brute(pairs)]
    ranked = _ranked(every, evidence)
    found = list(_fits(ranked, evidence))
    if found:
        return found, ranked
    others = unusual(pairs, every)
    varied = _ranked([*ranked, *others], evidence)
    return list(_fits([each for each in varied if each in others], evidence)), varied


def search_among(geometries: Sequence[Geometry], evidence: Sequence[Evidence]) -> list[Fit]:
    """Every fit of these geometries."""
    pairs = [each.sizes for each in evidence]
    usual = likely(pairs)
    near = [
        *(each for each in usual if each in geometries),
        *(each for each in geometries if each not in usual),
    ]
    return list(_fits([each for each in near if fits(each, pairs)], evidence)) if evidence else []


def _ranked(geometries: Sequence[Geometry], evidence: Sequence[Evidence]) -> list[Geometry]:
    """The geometries that explain most, the best first."""
    chosen = for_ranking(evidence)
    filters = (Image.Resampling.BILINEAR, Image.Resampling.NEAREST)
    if len(geometries) > 3 * _RANKED:
        geometries = _best(geometries, chosen[:1], filters[:1], 3 * _RANKED)
    return _best(geometries, chosen, filters, _RANKED)


def _best(
    geometries: Sequence[Geometry],
    evidence: Sequence[Evidence],
    filters: Sequence[Image.Resampling],
    most: int,
) -> list[Geometry]:
    scored = []
    for geometry in geometries:
        total = 0.0
        for each in evidence:
            placement = geometry.placement(*each.sizes[0])
            output = each.output[placement.inside]
            total += min(unexplained(rough(each.source, placement, one), output) for one in filters)
            total += 1e-3 * (1 - output.size / each.output.size)
        scored.append(total)
    return [geometries[index] for index in np.argsort(scored, kind="stable")[:most]]


def for_ranking(evidence: Sequence[Evidence]) -> list[Evidence]:
    """A few small pictures, a photo first; none of one colour, of which every geometry makes the same."""
    shown = [each for each in evidence if not each.flat] or list(evidence)
    photos = sorted(
        (each for each in shown if each.probe != "noise"), key=lambda each: (each.source.size, each.name)
    )
    # Of two sizes where there are: a square does not tell a letterbox from a resize to a square.
    shapes = {each.source.shape for each in photos[:1]}
    other = [each for each in photos[1:] if each.source.shape not in shapes]
    noise = [each for each in shown if each.probe == "noise" and each.source.shape[0] < 500]
    return [*photos[:1], *(other or photos[1:])[:1], *noise][:_FOR_RANKING]


def _fits(geometries: Iterable[Geometry], evidence: Sequence[Evidence]) -> Iterator[Fit]:
    """Every geometry, kernel and way to grey that holds for all of the evidence."""
    small = sorted(evidence, key=lambda each: (each.probe == "flat", each.source.size))
    grays = _gray_ways(evidence)
    for geometry in geometries:
        for kernel, order in kernels_for(geometry, evidence):
            for gray_first in grays:
                levels = _matched(geometry, kernel, order, gray_first, small)
                if levels:
                    yield _fit(geometry, kernel, order, gray_first, levels, evidence)
                    break


def kernels_for(geometry: Geometry, evidence: Sequence[Evidence]) -> list[tuple[str, str]]:
    """The kernels and orders that can make a difference to this evidence."""
    placements = [geometry.placement(*each.sizes[0]) for each in evidence]
    if all(each.resized == each.box[2:] for each in placements):
        return [(KERNELS[0], "pillow-13")]
    found = []
    swaps = any(order_matters(each) for each in placements)
    letterbox = any(isinstance(step, Letterbox) for step in geometry.moves)
    for kernel in KERNELS:
        found.append((kernel, "pillow-13"))
        if swaps and kernel.startswith("pillow") and not letterbox:
            found.append((kernel, "width-first"))
    return found


def _gray_ways(evidence: Sequence[Evidence]) -> tuple[bool, ...]:
    """Whether grey has to be tried before the geometry: only where the output can be grey."""
    first = evidence[0].output
    return (False, True) if first.shape[2] == 1 or gray(first) else (False,)


def gray(output: Array) -> bool:
    """Whether every channel is one picture, but for its values."""
    if output.shape[2] == 1:
        return True
    flat = output.reshape(-1, output.shape[2]).astype(np.float64)
    if (flat.std(axis=0) == 0).any():
        return False
    return bool(np.corrcoef(flat.T).min() > 1 - 1e-9)


def picture_for(each: Evidence, placement: Placement, kernel: str, order: str, gray_first: bool) -> Array:
    """The planes that the frame shows: uint8[rows, columns, 1 or 4]."""
    source = Grayscale().reference(each.source) if gray_first else each.source
    return planes_of(place(source, placement, kernel, order))


def _matched(
    geometry: Geometry, kernel: str, order: str, gray_first: bool, evidence: Sequence[Evidence]
) -> list[Levels]:
    """Levels for each of the evidence; nothing as soon as one does not match."""
    found: list[Levels] = []
    for each in evidence:
        placement = geometry.placement(*each.sizes[0])
        picture = picture_for(each, placement, kernel, order, gray_first)
        output = each.output[placement.inside]
        if not found and not _some_rows(picture, output):
            return []
        levels = levels_of(picture, output)
        if not levels.exact().any(axis=1).all():
            return []
        found.append(levels)
    exact = np.logical_and.reduce([levels.exact() for levels in found])
    return found if exact.any(axis=1).all() else []


def _some_rows(picture: Array, output: Array) -> bool:
    """Whether a few rows in the middle match: most candidates do not, and this is quick."""
    middle, some = len(picture) // 2, max(8, 4000 // picture.shape[1])
    rows = slice(max(0, middle - some // 2), middle + some // 2)
    return bool(levels_of(picture[rows], output[rows]).exact().any(axis=1).all())


def _fit(
    geometry: Geometry,
    kernel: str,
    order: str,
    gray_first: bool,
    levels: Sequence[Levels],
    evidence: Sequence[Evidence],
) -> Fit:
    total = levels[0]
    for more in levels[1:]:
        total = total + more
    exact = total.exact()
    one_map = bool(exact.any(axis=1).all())
    if not one_map:
        exact = np.logical_and.reduce([each.exact() for each in levels])
    colours, planes, also = colours_of(exact)
    dtype = evidence[0].output.dtype.name
    table = (total if one_map else levels[0]).table(planes, dtype)
    fill, border = (None, "") if not one_map else _border(geometry, evidence, affine_of(table), colours)
    return Fit(
        geometry, kernel, order, gray_first, colours, planes, tuple(also), table, one_map, fill, border
    )


def _border(
    geometry: Geometry, evidence: Sequence[Evidence], line: Affine, colours: Colours
) -> tuple[int | tuple[int, ...] | None, str]:
    """The level of the border around the picture, or why it is none."""
    found: set[tuple[float, ...]] = set()
    for each in evidence:
        placement = geometry.placement(*each.sizes[0])
        if placement.covered:
            continue
        outside = np.ones(each.output.shape[:2], bool)
        outside[placement.inside] = False
        found |= {tuple(map(float, values)) for values in np.unique(each.output[outside], axis=0)}
    if not found:
        return None, ""
    if len(found) > 1:
        return None, f"the border is not of one colour ({len(found)} values)"
    values = np.array(found.pop())
    levels = line.level(values)
    if np.abs(levels - np.rint(levels)).max() > 0.02 or levels.min() < -0.5 or levels.max() > 255.5:
        text = ", ".join(f"{value:.4g}" for value in values)
        return (
            None,
            f"the border is {text} in the output, which is no level of a pixel: it is put around last",
        )
    fill = tuple(int(level) for level in np.rint(levels))
    fill = fill[::-1] if colours == "bgr" else fill
    crop_only = any(isinstance(step, CenterCrop) for step in geometry.moves)
    if crop_only and any(fill):
        return None, f"the border is {fill}, and that of `center_crop` is black"
    if len(set(fill)) == 1:
        return fill[0], ""
    if any(isinstance(step, Letterbox) for step in geometry.moves):
        return None, f"the border is {fill}, and that of `letterbox` is the same in every channel"
    return fill, ""
