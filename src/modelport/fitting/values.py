"""From levels of pixels to values: which constants, and which order of float operations, to the last bit."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import msgspec
import numpy as np

from ..steps.image import Cast, Normalize, Scale
from ..steps.step import PreStep
from ..tensors import Array

_TOLERANCES = (1e-4, 1e-5, 2e-6, 4e-7, 1e-7, 0.0)
_HALF_TOLERANCES = (2e-2, 5e-3, 2e-3, 5e-4, *_TOLERANCES)
_MOST_ULPS = 16
_NEARLY = 2.0
"""Levels that values may bend by and still have a nearest line."""
_KNOWN = (
    ("ImageNet's mean and deviation", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ("CLIP's mean and deviation", (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    ("CIFAR-10's mean and deviation", (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    ("CIFAR-10's mean and deviation", (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    ("CIFAR-100's mean and deviation", (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
    ("MNIST's mean and deviation", (0.1307,), (0.3081,)),
)
_CAFFE = ((103.939, 116.779, 123.68), (104.0, 117.0, 123.0), (104.00698793, 116.66876762, 122.67891434))


class Table(msgspec.Struct, frozen=True, eq=False):
    """What each level became, by channel of the output."""

    seen: Array
    """bool[channels, 256]"""
    values: Array
    """float64[channels, 256], nothing where not seen"""
    dtype: str
    """Of the reference's output."""


class Affine(msgspec.Struct, frozen=True, eq=False):
    """value = slope * level + offset, by channel."""

    slope: Array
    offset: Array

    def level(self, values: Array) -> Array:
        """Values [..., channels] as levels, float64."""
        return np.asarray((values.astype(np.float64) - self.offset) / self.slope)


class Values(msgspec.Struct, frozen=True):
    """Steps that make the values."""

    steps: tuple[PreStep, ...]
    text: str
    largest: float
    """Difference from the reference over all levels that were seen; 0: equal bits."""
    problem: str = ""
    """Why no steps make them."""


def affine_of(table: Table) -> Affine:
    """The straight line through a table, by least squares."""
    slopes, offsets = [], []
    for seen, values in zip(table.seen, table.values, strict=True):
        levels = np.flatnonzero(seen).astype(np.float64)
        slope, offset = (
            (0.0, float(values[seen][0])) if len(levels) < 2 else np.polyfit(levels, values[seen], 1)
        )
        slopes.append(float(slope))
        offsets.append(float(offset))
    return Affine(np.array(slopes), np.array(offsets))


def recognise(table: Table) -> Values:
    """The steps from levels to the table's values."""
    line = affine_of(table)
    if not line.slope.all():
        return Values((), "", math.inf, "the output does not depend on the picture")
    levels = np.arange(256.0)
    drawn = line.slope[:, None] * levels + line.offset[:, None]
    bend = np.abs(drawn - table.values)[table.seen].max() / np.abs(line.slope).min()
    bent = ""
    if bend > (0.5 if table.dtype == "float16" else 0.02):
        bent = f"the values are no straight line of the levels: they bend by {bend:.3g} levels"
        bent += " (gamma, clipping, a look-up table)"
    if bent and (bend > _NEARLY or table.dtype not in ("float16", "float32", "float64")):
        return Values((), "", math.inf, bent)
    if table.dtype not in ("float16", "float32", "float64"):
        return _whole(table)
    best: tuple[float, tuple[PreStep, ...]] | None = None
    scale = np.abs(table.values[table.seen]).max()
    half = table.dtype == "float16"
    for tolerance in _HALF_TOLERANCES if half else _TOLERANCES:
        for form in _forms(line, tolerance, 1e-3 if half else 1e-6):
            steps = (*form, Cast("float16")) if half else form
            off = _difference(steps, table)
            if off == 0 and not bent:
                return Values(steps, _text(steps, line), 0.0)
            if best is None or off < best[0] / 2:
                best = off, steps
    assert best is not None
    ulp = float(np.spacing(np.float16(scale) if half else np.float32(scale)))
    problem = bent
    if not bent and best[0] > _MOST_ULPS * ulp:
        problem = f"no order of operations comes nearer than {best[0]:.3g}"
    return Values(best[1], _text(best[1], line), best[0], problem)


def _whole(table: Table) -> Values:
    """Levels as they are, in an integer type."""
    same = all(
        np.array_equal(values[seen], np.flatnonzero(seen))
        for seen, values in zip(table.seen, table.values, strict=True)
    )
    if not same:
        return Values((), "", math.inf, f"{table.dtype} values that are not the levels themselves")
    if table.dtype == "uint8":
        return Values((), "levels 0 to 255 as they are (uint8)", 0.0)
    if table.dtype not in ("int32", "int64"):
        return Values((), "", math.inf, f"there is no step that makes {table.dtype}")
    return Values((Cast(table.dtype),), f"levels 0 to 255 as they are ({table.dtype})", 0.0)  # type: ignore[arg-type]


def _difference(steps: Sequence[PreStep], table: Table) -> float:
    x = np.repeat(np.arange(256, dtype=np.uint8)[:, None, None], len(table.seen), axis=2)
    for step in steps:
        x = step.reference(x)
    want = table.values if table.dtype == "float16" else table.values.astype(np.float32).astype(np.float64)
    return float(np.abs(x[:, 0].T.astype(np.float64) - want)[table.seen].max())


def _forms(line: Affine, tolerance: float, zero: float) -> Iterator[tuple[PreStep, ...]]:
    """Steps for this line, the plainest first, constants rounded within the tolerance."""
    a, b = line.slope, line.offset
    deviation, mean = 1 / a, -b / a
    short = [_short(array, tolerance) for array in (a, b, mean, deviation, mean / 255, deviation / 255)]
    by, offset, level_mean, level_deviation, unit_mean, unit_deviation = short
    if _is(a, 1.0, tolerance) and _is(b, 0.0, 255 * tolerance):
        yield (Cast("float32"),)
        return
    if _is(b, 0.0, zero * float(np.abs(a).max()) * 255):
        if isinstance(level_deviation, float) and isinstance(by, float):
            yield (Scale(divide=level_deviation),)
            yield (Scale(by=by),)
            yield (Scale(by=1 / level_deviation),)
        yield (Normalize(mean=0.0, std=level_deviation),)
    if isinstance(offset, float) and isinstance(level_deviation, float) and isinstance(by, float):
        yield (Scale(divide=level_deviation, offset=offset),)
        yield (Scale(by=by, offset=offset),)
        yield (Scale(by=1 / level_deviation, offset=offset),)
    yield (Scale(divide=255.0), Normalize(mean=unit_mean, std=unit_deviation))
    yield (Normalize(mean=level_mean, std=level_deviation),)
    yield (Scale(by=1 / 255), Normalize(mean=unit_mean, std=unit_deviation))
    if isinstance(by, float):
        yield Normalize(mean=level_mean), Scale(by=by)
        yield Scale(by=by), Normalize(mean=_short(-b, tolerance))
    more = _short(a * 255, tolerance)
    if isinstance(more, float) and isinstance(offset, float):
        yield Scale(divide=255.0), Scale(by=more, offset=offset)
        yield Scale(divide=255.0, offset=-_first(unit_mean)), Scale(by=more)
        yield Scale(by=1 / 255), Scale(by=more, offset=offset)
    yield from ((*steps, Normalize(mean=0.0, std=unit_deviation)) for steps in _centred(unit_mean))
    yield (
        Normalize(mean=_short(mean / 255, tolerance, 255.0), std=_short(deviation / 255, tolerance, 255.0)),
    )


def _centred(unit_mean: float | tuple[float, ...]) -> Iterator[tuple[PreStep, ...]]:
    yield Scale(divide=255.0), Normalize(mean=unit_mean)


def _first(numbers: float | tuple[float, ...]) -> float:
    return numbers if isinstance(numbers, float) else numbers[0]


def _is(numbers: Array, value: float, tolerance: float) -> bool:
    return bool(np.all(np.abs(numbers - value) <= max(tolerance, 1e-9)))


def _short(numbers: Array, tolerance: float, times: float = 1.0) -> float | tuple[float, ...]:
    """The numbers with the fewest digits within a relative tolerance; one where all are the same.

    `times`: what the short numbers are multiplied by.
    """
    floor = float(np.abs(numbers).max()) or 1.0
    found = tuple(_shortest(float(number), tolerance, floor) * times for number in numbers)
    return found[0] if len(set(found)) == 1 else found


def _shortest(number: float, tolerance: float, floor: float) -> float:
    if tolerance == 0:
        return float(np.float32(number))
    for digits in range(1, 12):
        rounded = float(f"{number:.{digits}g}")
        if abs(rounded - number) <= tolerance * max(abs(number), floor * 1e-2):
            return rounded
    return number


def _text(steps: Sequence[PreStep], line: Affine) -> str:
    """The values in words."""
    mean, deviation = -line.offset / line.slope, 1 / line.slope
    for name, known_mean, known_deviation in _KNOWN:
        if len(known_mean) != len(mean):
            continue
        for turn, words in ((1, ""), (-1, ", in the order of BGR")):
            near = np.allclose(mean / 255, known_mean[::turn], rtol=2e-4, atol=0) and np.allclose(
                deviation / 255, known_deviation[::turn], rtol=2e-4, atol=0
            )
            if near:
                return name + words
    if np.allclose(deviation, 1, atol=1e-5) and len(mean) == 3:
        for caffe in _CAFFE:
            for turn in (1, -1):
                if np.allclose(mean, caffe[::turn], atol=1e-3):
                    return "0 to 255 minus Caffe's mean colour" + (" in the order of RGB" if turn < 0 else "")
    low, high = line.offset, line.slope * 255 + line.offset
    small = 1e-6 * np.abs(high - low).max()
    low, high = (np.where(np.abs(each) < small, 0.0, each) for each in (low, high))
    if np.allclose(low, low[0], atol=1e-5) and np.allclose(high, high[0], atol=1e-5):
        return f"{low[0]:.5g} to {high[0]:.5g}"
    spans = ", ".join(f"{start:.4g} to {end:.4g}" for start, end in zip(low, high, strict=True))
    return f"by channel {spans}"
