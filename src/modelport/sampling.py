"""Some of many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def evenly(items: Sequence[T], most: int) -> list[T]:
    """At most so many, in their order and as far apart as they go; all of them where there are no more."""
    count = min(most, len(items))
    return [items[place * len(items) // count] for place in range(count)]
