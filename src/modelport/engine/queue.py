"""Which requests run together, and when. No clock, no threads, no asyncio.

Rows wait in lanes; only rows of one lane are ever handed out together. The lane served next is the one
whose first row has the earliest deadline, then the one that has waited longest, so that without
deadlines the queue is first come, first served across lanes. All times are seconds on the caller's
clock.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Hashable
from typing import Generic, TypeVar

import msgspec

T = TypeVar("T")


class Waiting(msgspec.Struct, Generic[T], order=True):
    """One item in the queue, ordered by deadline and then by arrival."""

    deadline: float
    number: int
    rows: int
    arrived: float
    item: T


class BatchQueue(Generic[T]):
    """Items of one or more rows, popped as batches of at most `max_rows` rows.

    Args:
        max_rows: the most rows in one batch; an item with more rows goes alone.
        max_waiting: the most rows that may wait; `push` refuses beyond it.
        max_wait: how long the first row of a lane may wait for company, in seconds. Zero, the default,
            hands out whatever is there: a batch then forms only while the executor is busy, and a lone
            request never waits for nobody.
    """

    def __init__(self, *, max_rows: int, max_waiting: int = 4096, max_wait: float = 0.0) -> None:
        self.max_rows = max_rows
        self.max_waiting = max_waiting
        self.max_wait = max_wait
        self._lanes: dict[Hashable, list[Waiting[T]]] = {}
        self._rows: dict[Hashable, int] = {}
        self._number = 0
        self._waiting = 0

    def __len__(self) -> int:
        """Rows that wait, over all lanes."""
        return self._waiting

    def push(
        self, item: T, *, rows: int = 1, lane: Hashable = None, now: float, deadline: float = math.inf
    ) -> bool:
        """Add an item; false, and nothing added, if `max_waiting` rows would be passed."""
        if len(self) + rows > self.max_waiting:
            return False
        self._number += 1
        heapq.heappush(self._lanes.setdefault(lane, []), Waiting(deadline, self._number, rows, now, item))
        self._rows[lane] = self._rows.get(lane, 0) + rows
        self._waiting += rows
        return True

    def due(self) -> float | None:
        """When the next batch is ready: a time that may have passed, or None while nothing waits."""
        times = [self._ready_at(lane) for lane in self._lanes]
        return min(times, default=None)

    def pop(self, now: float) -> list[T]:
        """The next batch, all of one lane, or an empty list while none is ready."""
        ready = [lane for lane in self._lanes if self._ready_at(lane) <= now]
        if not ready:
            return []
        lane = min(ready, key=lambda name: self._lanes[name][0])
        waiting = self._lanes[lane]
        batch: list[T] = []
        rows = 0
        while waiting and (not batch or rows + waiting[0].rows <= self.max_rows):
            entry = heapq.heappop(waiting)
            batch.append(entry.item)
            rows += entry.rows
        self._take(lane, rows)
        return batch

    def expire(self, now: float) -> list[T]:
        """Remove and return every item whose deadline has passed."""
        gone: list[T] = []
        for lane in list(self._lanes):
            waiting = self._lanes[lane]
            while waiting and waiting[0].deadline <= now:
                entry = heapq.heappop(waiting)
                self._take(lane, entry.rows)
                gone.append(entry.item)
        return gone

    def _take(self, lane: Hashable, rows: int) -> None:
        """Account for rows that left; an empty lane is forgotten."""
        self._waiting -= rows
        self._rows[lane] -= rows
        if not self._lanes[lane]:
            del self._lanes[lane], self._rows[lane]

    def _ready_at(self, lane: Hashable) -> float:
        if self.max_wait == 0 or self._rows[lane] >= self.max_rows:
            return -math.inf
        return min(entry.arrived for entry in self._lanes[lane]) + self.max_wait
