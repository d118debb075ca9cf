"""Which requests run together, and in which order. No clock, no threads, no asyncio.

Rows wait in lanes; only rows of one lane are ever handed out together. Who is served next is decided by
the earliest deadline, where a request counts as due at the latest `max_age` after it came: so urgent
requests pass patient ones, and nobody is passed for ever. All times are seconds on the caller's clock.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")

_Waiting = tuple[float, int, int, float, T]
"""(when it counts as due, number of arrival, rows, deadline, item): the order of service."""


class BatchQueue(Generic[T]):
    """Items of one or more rows, popped as batches of one lane.

    Args:
        max_rows: the most rows in one batch; an item with more rows goes alone.
        max_waiting: the most rows that may wait; `push` refuses beyond it.
        max_age: seconds after which an item counts as due, whatever its deadline: the bound on how long
            others may pass it.
    """

    def __init__(self, *, max_rows: int, max_waiting: int = 4096, max_age: float = 2.0) -> None:
        self.max_rows = max_rows
        self.max_waiting = max_waiting
        self.max_age = max_age
        self._lanes: dict[Hashable, list[_Waiting[T]]] = {}
        self._rows: dict[Hashable, int] = {}
        self._number = 0
        self._waiting = 0

    def __len__(self) -> int:
        """Rows that wait, over all lanes."""
        return self._waiting

    def waiting(self, lane: Hashable) -> int:
        """Rows that wait in one lane."""
        return self._rows.get(lane, 0)

    def push(
        self, item: T, rows: int = 1, lane: Hashable = None, now: float = 0.0, deadline: float = math.inf
    ) -> int:
        """Add an item: the rows that wait in its lane then; 0, and nothing added, if too many would wait."""
        if self._waiting + rows > self.max_waiting:
            return 0
        self._number += 1
        aged = now + self.max_age
        waiting = (deadline if deadline < aged else aged, self._number, rows, deadline, item)
        heap = self._lanes.get(lane)
        self._waiting += rows
        if heap is None:
            self._lanes[lane] = [waiting]
            self._rows[lane] = rows
            return rows
        heapq.heappush(heap, waiting)
        total = self._rows[lane] = self._rows[lane] + rows
        return total

    def push_back(self, item: T, *, rows: int, lane: Hashable, deadline: float = math.inf) -> None:
        """Return an item that was popped and could not be run; it is served before all others."""
        self._number += 1
        entry = (-math.inf, self._number, rows, deadline, item)
        heapq.heappush(self._lanes.setdefault(lane, []), entry)
        self._rows[lane] = self._rows.get(lane, 0) + rows
        self._waiting += rows

    def next_lane(self) -> Hashable:
        """The lane that is served next. Raises KeyError if nothing waits."""
        if not self._lanes:
            raise KeyError("nothing waits")
        if len(self._lanes) == 1:
            return next(iter(self._lanes))
        return min(self._lanes, key=lambda lane: self._lanes[lane][0][:2])

    def pop(self, rows: int | None = None, lane: Hashable = ...) -> list[T]:
        """The next batch, of `rows` rows at most (`max_rows` by default); an empty list if nothing waits."""
        if not self._lanes:
            return []
        if lane is ...:
            lane = self.next_lane()
        limit = min(rows or self.max_rows, self.max_rows)
        heap = self._lanes[lane]
        batch: list[T] = []
        taken = 0
        while heap and (not batch or taken + heap[0][2] <= limit):
            entry = heapq.heappop(heap)
            batch.append(entry[4])
            taken += entry[2]
        self._take(lane, taken)
        return batch

    def expire(self, now: float) -> list[T]:
        """Remove and return the items whose deadline has passed."""
        return self._remove(lambda entry: entry[3] <= now)

    def discard(self, unwanted: Callable[[T], bool]) -> list[T]:
        """Remove and return the items that nobody wants any more."""
        return self._remove(lambda entry: unwanted(entry[4]))

    def earliest_deadline(self) -> float:
        """The earliest deadline of all, or infinity."""
        return min((entry[3] for heap in self._lanes.values() for entry in heap), default=math.inf)

    def _remove(self, goes: Callable[[_Waiting[T]], bool]) -> list[T]:
        gone: list[T] = []
        for lane in list(self._lanes):
            heap = self._lanes[lane]
            leaving = [entry for entry in heap if goes(entry)]
            if not leaving:
                continue
            heap[:] = [entry for entry in heap if not goes(entry)]
            heapq.heapify(heap)
            gone += [entry[4] for entry in leaving]
            self._take(lane, sum(entry[2] for entry in leaving))
        return gone

    def _take(self, lane: Hashable, rows: int) -> None:
        """Account for rows that left; an empty lane is forgotten."""
        self._waiting -= rows
        self._rows[lane] -= rows
        if not self._lanes[lane]:
            del self._lanes[lane], self._rows[lane]
