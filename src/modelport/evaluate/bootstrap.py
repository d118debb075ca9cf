"""How far a metric would move on other data of the same kind: items drawn with repetition, percentiles.

Efron's percentile bootstrap over items (pictures, rows), not over boxes or pixels, which are not
independent of each other. A draw is a weight for each item: how often it was drawn.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import msgspec
import numpy as np

from ..errors import UsageError
from ..tensors import Array
from .values import Change, Metric, Resampling

_CHUNK = 4 << 20
"""Weights made at once: 16 MB of them."""
_DEFINED = 0.5
"""Share of the draws in which a metric must be defined to have an interval."""


class Scorer(Protocol):
    """The metrics of one set of outcomes."""

    def values(self) -> dict[str, float | None]:
        """Each metric on all items."""
        ...

    def resampled(self, weights: Array) -> dict[str, Array]:
        """Metrics on draws: weights int32[r, items] -> float64[r] for each; NaN where one is not defined.

        Metrics that have no interval are left out.
        """
        ...


def draws(items: int, resampling: Resampling) -> Iterator[Array]:
    """Weights int32[r, items] of all replicates, a few at a time; the same seed gives the same."""
    rng = np.random.default_rng(resampling.seed)
    rows = max(1, _CHUNK // max(1, items))
    for start in range(0, resampling.replicates, rows):
        count = min(rows, resampling.replicates - start)
        drawn = rng.integers(0, items, (count, items))
        drawn += np.arange(count)[:, None] * items
        yield np.bincount(drawn.ravel(), minlength=count * items).astype(np.int32).reshape(count, items)


class Resampled(msgspec.Struct, frozen=True, eq=False):
    """The metrics of one set of outcomes, on all items and on each draw."""

    values: dict[str, float | None]
    drawn: dict[str, Array]
    """float64[replicates] for each metric that has an interval; NaN where it is not defined."""
    level: float


def resampled(scorer: Scorer, items: int, resampling: Resampling) -> Resampled:
    """Every metric on all items and on each draw; the same items and seed are drawn alike."""
    drawn: dict[str, Array] = {}
    if resampling.replicates and items > 1:
        drawn = _joined([scorer.resampled(weights) for weights in draws(items, resampling)])
    return Resampled(scorer.values(), drawn, resampling.level)


def with_intervals(scorer: Scorer, items: int, resampling: Resampling) -> dict[str, Metric]:
    """Every metric with its interval."""
    found = resampled(scorer, items, resampling)
    return {
        name: Metric(value, *_percentiles(found.drawn.get(name), found.level))
        for name, value in found.values.items()
    }


def changes(first: Resampled, second: Resampled) -> dict[str, Change]:
    """Every metric that both have, with the interval of its change; both of the same draws."""
    found = {}
    for name, before in first.values.items():
        if name not in second.values:
            continue
        after, spread = second.values[name], None
        if name in first.drawn and name in second.drawn:
            spread = second.drawn[name] - first.drawn[name]
        difference = None if before is None or after is None else after - before
        found[name] = Change(before, after, difference, *_percentiles(spread, first.level))
    return found


def check(resampling: Resampling) -> None:
    """Refuse settings that make no sense.

    Raises:
        UsageError: fewer than 0 replicates, or a level outside 0 to 1.
    """
    if resampling.replicates < 0 or not 0 < resampling.level < 1:
        raise UsageError(
            f"bootstrap of {resampling.replicates} replicates at level {resampling.level:g}: expected 0 or "
            "more, and a level between 0 and 1"
        )


def _joined(parts: list[dict[str, Array]]) -> dict[str, Array]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _percentiles(drawn: Array | None, level: float) -> tuple[float | None, float | None]:
    if drawn is None:
        return None, None
    defined = drawn[np.isfinite(drawn)]
    if len(defined) < _DEFINED * len(drawn) or not len(defined):
        return None, None
    tail = 50 * (1 - level)
    low, high = np.percentile(defined, [tail, 100 - tail])
    return float(low), float(high)
