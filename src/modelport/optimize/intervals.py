"""How far a figure would move in other measurements like this one: the bootstrap over rounds."""

from __future__ import annotations

import msgspec
import numpy as np

from ..tensors import Array

LEVEL = 0.95
DRAWS = 1000
DRAWN = 4 << 20
"""Values drawn for one interval, at most."""


class Interval(msgspec.Struct, frozen=True):
    """A figure, and where it would lie in 95 of 100 measurements like this one."""

    value: float
    low: float
    high: float


def interval(values: Array, seed: int = 0) -> Interval:
    """The median of one value a round, with its interval by the bootstrap over rounds."""
    drawn = np.random.default_rng(seed).integers(0, len(values), (DRAWS, len(values)))
    return _around(float(np.median(values)), np.median(values[drawn], axis=1))


def percentile(calls: Array, share: float, seed: int = 0) -> Interval:
    """A percentile of all calls, with its interval by the bootstrap over rounds.

    Args:
        calls: float64[rounds, calls].
        share: 0 to 100.
    """
    draws = max(100, min(DRAWS, DRAWN // calls.size))
    drawn = np.random.default_rng(seed).integers(0, len(calls), (draws, len(calls)))
    found = np.percentile(calls[drawn].reshape(draws, -1), share, axis=1)
    return _around(float(np.percentile(calls, share)), found)


def _around(value: float, found: Array) -> Interval:
    tail = 50 * (1 - LEVEL)
    low, high = np.percentile(found, [tail, 100 - tail])
    return Interval(value, float(low), float(high))
