"""The range of every value in a network, on the calibration items: what scales of 8 bits are made of.

ONNX Runtime's own calibrators keep every value, or count each in Python: minutes for a detector of 640
pixels, where this takes seconds. The extremes are exact on the items that are looked at, fewer of a large
network; the distributions are of a sample of the numbers.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np
import onnx
from onnx import TensorProto

from ..engine.cores import usable_cores
from ..runtimes.onnxruntime import OnnxRuntime
from ..runtimes.session import Session
from ..sampling import evenly
from ..tensors import Array
from .calibration import Calibration, stacked
from .rewriting import copied, makers

Calibrator = Literal["minmax", "entropy", "percentile"]
_Group = list[dict[str, Array]]
"""Prepared items that are run as one batch."""

NUMBERS = 1 << 30
"""Looked at for the extremes; of a large network fewer items."""
LEAST_ITEMS = 16
COUNTED_ITEMS = 32
"""Items whose distributions are counted."""
SAMPLE = 1 << 15
"""Numbers of one value and one item that are counted, evenly picked."""
BINS, STEP = 2048, 16
PERCENTILE = 99.999
LEVELS = 256
"""What 8 bits hold."""
SMOOTH = 8
"""Bins by which counts are smoothed, as a standard deviation: half of a step of 8 bits with a sign."""


class Range(msgspec.Struct, frozen=True):
    """Where a value's numbers lie."""

    low: float
    high: float


class NotFinite(Exception):
    """A value is infinite or no number on some item; the text says which."""


class _Seen(msgspec.Struct):
    """One value: its extremes, and how its magnitudes are distributed below the largest."""

    low: float = 0.0
    high: float = 0.0
    counts: Array | None = None
    """float64[BINS] of |x|, from 0 to the larger extreme."""

    @property
    def reach(self) -> float:
        return max(-self.low, self.high)


def ranges(
    network: onnx.ModelProto, calibrator: Calibrator, calibration: Calibration, rows: int = 1
) -> dict[str, Range]:
    """The range of every float value of `network` that is no weight; found once for each network.

    `minmax`: the extremes. `percentile`: what holds all but 0.001 % of the magnitudes. `entropy`: where
    cutting off loses least of the distribution (Migacz, 8-bit inference with TensorRT, GTC 2017).

    Args:
        network: with inferred shapes, which say what is float.
        calibration: the items, prepared; what was found is kept in it.
        rows: of a batch, for a network that takes no other.

    Raises:
        NotFinite: a range has no end.
    """
    digest = hashlib.sha256(network.SerializeToString(deterministic=True)).hexdigest()
    seen = calibration.ranges.get((digest, "seen"))
    counted = calibrator != "minmax"
    if seen is None or (counted and any(each.counts is None for each in seen.values())):
        seen = calibration.ranges[digest, "seen"] = _seen(network, calibration, rows, counted, seen)
    cut = {"minmax": lambda each: each.reach, "percentile": _percentile, "entropy": _entropy}[calibrator]
    found = {}
    for name, each in seen.items():
        end = cut(each)
        found[name] = Range(max(each.low, -end), min(each.high, end))
    return found


def _seen(
    network: onnx.ModelProto,
    calibration: Calibration,
    rows: int,
    counted: bool,
    known: dict[str, _Seen] | None,
) -> dict[str, _Seen]:
    names = _values(network)
    session = watched(network, names)
    # Put together when they are run: all batches at once would be a second copy of the items.
    groups = calibration.groups(rows)
    try:
        seen = known or _extremes(session, groups, rows, set(names))
        if counted:
            _count(session, groups, rows, seen)
    finally:
        session.close()
    return seen


def _extremes(session: Session, groups: list[_Group], rows: int, names: set[str]) -> dict[str, _Seen]:
    seen: dict[str, _Seen] = {}
    size = sum(array.size for array in _numbers(session, groups[0], rows, names).values())
    for group in evenly(groups, max(LEAST_ITEMS, NUMBERS // max(1, size))):
        for name, array in _numbers(session, group, rows, names).items():
            low, high = float(array.min()), float(array.max())
            if not (np.isfinite(low) and np.isfinite(high)):
                raise NotFinite(f"{name} is infinite, or no number, on some item")
            own = seen.setdefault(name, _Seen(low, high))
            own.low, own.high = min(own.low, low), max(own.high, high)
    return seen


def _count(session: Session, groups: list[_Group], rows: int, seen: dict[str, _Seen]) -> None:
    for own in seen.values():
        own.counts = np.zeros(BINS)
    for group in evenly(groups, COUNTED_ITEMS):
        for name, array in _numbers(session, group, rows, set(seen)).items():
            own, flat = seen[name], array.ravel()
            picked = np.abs(flat[:: _stride(len(flat))]).astype(np.float64)
            places = picked * (BINS / own.reach) if own.reach else np.zeros(len(picked))
            inside = np.minimum(places.astype(np.int64), BINS - 1)
            assert own.counts is not None
            own.counts += np.bincount(inside, minlength=BINS)


def _stride(size: int) -> int:
    """From one number that is counted to the next: of no common divisor with the size.

    A multiple of the width, or of the channels where they come last, would see one column or channel alone.
    """
    step = max(1, size // SAMPLE)
    while math.gcd(step, size) > 1:
        step += 1
    return step


def _percentile(seen: _Seen) -> float:
    assert seen.counts is not None
    share = np.cumsum(seen.counts) / max(1.0, float(seen.counts.sum()))
    place = int(np.searchsorted(share, PERCENTILE / 100))
    return seen.reach * min(BINS, place + 1) / BINS


def _entropy(seen: _Seen) -> float:
    """The end with the least Kullback-Leibler divergence between what is cut there and its 8-bit form."""
    counts = _smoothed(seen)
    levels = round(LEVELS * seen.reach / ((max(seen.high, 0.0) - min(seen.low, 0.0)) or 1.0)) or LEVELS
    best, end = np.inf, BINS
    for size in range(BINS, levels - 1, -STEP):
        cut = counts[:size].copy()
        there = cut > 0
        edges = np.arange(levels) * size // levels
        width = np.add.reduceat(there.astype(np.float64), edges)
        mean = np.divide(np.add.reduceat(cut, edges), width, out=np.zeros(levels), where=width > 0)
        rounded = np.repeat(mean, np.diff(np.append(edges, size))) * there
        cut[-1] += counts[size:].sum()
        divergence = _divergence(cut, rounded)
        if divergence < best:
            best, end = divergence, size
    return seen.reach * end / BINS


def _smoothed(seen: _Seen) -> Array:
    """The counts as a density, even at zero as magnitudes are.

    Of few numbers the bins differ by chance. Narrow ends, where a bin is a step, keep that and wide ones lose
    it: as it is nothing that was learned, the entropy would cut at a tenth of what the numbers reach.
    """
    assert seen.counts is not None
    counts, ends = seen.counts.copy(), 3 * SMOOTH
    # A ReLU's zeros are exact at any end, and most of what there is: beside them nothing else would count.
    counts[0] = counts[1]
    bell = np.exp(-0.5 * (np.arange(-ends, ends + 1) / SMOOTH) ** 2)
    around = np.concatenate([counts[ends:0:-1], counts, np.zeros(ends)])
    return np.convolve(around, bell / bell.sum(), "valid")


def _divergence(one: Array, other: Array) -> float:
    p, q = one / max(one.sum(), 1e-12), other / max(other.sum(), 1e-12)
    there = p > 0
    return float((p[there] * np.log(p[there] / np.maximum(q[there], 1e-10))).sum())


def _values(network: onnx.ModelProto) -> list[str]:
    """The float values that are computed, or come in."""
    graph = network.graph
    weights = {tensor.name for tensor in graph.initializer}
    named = [*graph.value_info, *graph.output, *graph.input]
    found = [each.name for each in named if each.type.tensor_type.elem_type == TensorProto.FLOAT]
    return sorted(set(found) - weights)


def watched(network: onnx.ModelProto, names: Sequence[str]) -> Session:
    """The network with these values among its outputs; what it is given, or gives anyway, is not added.

    Args:
        network: with inferred shapes.
    """
    own = copied(network)
    known = {each.name for each in (*own.graph.output, *own.graph.input)}
    made = makers(own.graph).keys()
    kinds = {each.name: each for each in own.graph.value_info}
    own.graph.output.extend(kinds[name] for name in names if name in made - known)
    return OnnxRuntime().open(own.SerializeToString(), threads=usable_cores())


def rows_of(network: onnx.ModelProto) -> int:
    """Rows of a batch: what the network is fixed at, or one."""
    dims = network.graph.input[0].type.tensor_type.shape.dim
    return int(dims[0].dim_value) or 1 if dims else 1


def _numbers(session: Session, group: _Group, rows: int, names: set[str]) -> dict[str, Array]:
    """The float values of one run, of a batch of `rows` that is filled up with its own first items."""
    batch = stacked([group[place % len(group)] for place in range(rows)])
    return {
        name: array
        for name, array in {**batch, **session.run(batch)}.items()
        if name in names and array.size and array.dtype == np.float32
    }
