"""How far a metric would move on other data of the same kind: items drawn with repetition, percentiles.

Efron's percentile bootstrap over items (pictures, rows), not over boxes or pixels, which are not
independent of each other. A draw is a weight for each item: how often it was drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

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


def with_intervals(scorer: Scorer, items: int, resampling: Resampling) -> dict[str, Metric]:
    """Every metric with its interval."""
    values = scorer.values()
    if resampling.replicates == 0 or items < 2:
        return {name: Metric(value) for name, value in values.items()}
    drawn = _joined([scorer.resampled(weights) for weights in draws(items, resampling)])
    return {
        name: Metric(value, *_percentiles(drawn.get(name), resampling.level))
        for name, value in values.items()
    }


def changes(first: Scorer, second: Scorer, items: int, resampling: Resampling) -> dict[str, Change]:
    """Every metric that both have, with the interval of its change; each draw is the same for both."""
    before, after = first.values(), second.values()
    spread: Mapping[str, Array] = {}
    if resampling.replicates and items > 1:
        differences = []
        for weights in draws(items, resampling):
            left, right = first.resampled(weights), second.resampled(weights)
            differences.append({name: right[name] - left[name] for name in left if name in right})
        spread = _joined(differences)
    found = {}
    for name in before:
        if name in after:
            left_value, right_value = before[name], after[name]
            difference = None if left_value is None or right_value is None else right_value - left_value
            low, high = _percentiles(spread.get(name), resampling.level)
            found[name] = Change(left_value, right_value, difference, low, high)
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
