"""Layers back in float until the answers are right: the fewest of those that are most worth their time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .sensitivity import Layer

DEAREST = 0.6
"""Of the layers' time: with more of it in float 8 bits are not worth their name."""


def most(ranked: Sequence[Layer]) -> int:
    """How many of the first layers may be in float: those that together take `DEAREST` of the time."""
    whole = sum(layer.milliseconds for layer in ranked)
    spent = 0.0
    for count, layer in enumerate(ranked):
        spent += layer.milliseconds
        if spent > DEAREST * whole:
            return count
    return max(0, len(ranked) - 1)


def fewest(limit: int, passes: Callable[[int], bool]) -> int | None:
    """The least count up to `limit` that passes, by bisection; None where not even `limit` does.

    Args:
        passes: whether so many do; if some number does, more are taken to do as well.
    """
    if limit < 1 or not passes(limit):
        return None
    low, high = 0, limit  # `low` does not pass, or is none at all
    while high - low > 1:
        middle = (low + high) // 2
        if passes(middle):
            high = middle
        else:
            low = middle
    return high
