"""Durations counted in fixed buckets, and what such counts say about percentiles. No clock, no labels."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

import msgspec

_MANTISSAS = (1.0, 1.25, 1.6, 2.0, 2.5, 3.15, 4.0, 5.0, 6.3, 8.0)

BOUNDS: tuple[float, ...] = (
    *(float(f"{mantissa}e{decade}") for decade in range(-5, 2) for mantissa in _MANTISSAS),
    100.0,
)
"""Upper bounds in seconds, 10 us to 100 s; neighbours differ by a quarter, and so may percentiles."""

EXPOSED: tuple[float, ...] = (
    5e-5,
    *(float(f"{mantissa}e{decade}") for decade in range(-4, 2) for mantissa in (1.0, 2.5, 5.0)),
)
"""The bounds that leave the process: each is one of BOUNDS, so that nothing is estimated on the way."""

_EXPOSED_AT = tuple(BOUNDS.index(bound) + 1 for bound in EXPOSED)


class Histogram(msgspec.Struct, eq=False):
    """How many durations fell into each bucket of BOUNDS (the last count is of longer ones), and their sum.

    `ModelMetrics.answered` writes `counts` and `seconds` itself; a call would double its cost.
    """

    counts: list[int] = msgspec.field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    seconds: float = 0.0

    def observe(self, seconds: float) -> None:
        """Count one duration."""
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.seconds += seconds

    def add(self, other: Histogram) -> None:
        """Count everything that `other` has counted."""
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]
        self.seconds += other.seconds

    def count(self) -> int:
        """How many durations were counted."""
        return sum(self.counts)

    def cumulative(self) -> list[tuple[float, int]]:
        """For each exposed bound, how many durations were at most that long; +Inf is left to the caller."""
        totals, running = [], 0
        for count in self.counts:
            running += count
            totals.append(running)
        return [(bound, totals[at - 1]) for bound, at in zip(EXPOSED, _EXPOSED_AT, strict=True)]

    def quantile(self, share: float) -> float:
        """An estimate in seconds of the duration that `share` (0..1) of all were at most; 0 without any."""
        return quantile(self.counts, share)


def quantile(counts: Sequence[int], share: float) -> float:
    """The duration in seconds that `share` (0..1) of those counted were at most, 0 if none were counted.

    Linear inside the bucket it falls into; past the last bound, that bound.
    """
    rank = share * sum(counts)
    running = 0
    for number, count in enumerate(counts):
        if count and running + count >= rank:
            if number == len(BOUNDS):
                return BOUNDS[-1]
            low = BOUNDS[number - 1] if number else 0.0
            return low + (BOUNDS[number] - low) * (rank - running) / count
        running += count
    return 0.0
