"""What a batch costs: T(n), learned from every run, and what follows from it. Pure: no clock.

Batching pays only where T(n)/n falls. Some networks are so (a call has a price of its own), others grow
dearer by the row (a large convolutional network falls out of the cache), and which is which depends on
the machine; so it is measured, not configured.
"""

from __future__ import annotations

from collections.abc import Mapping

_SMOOTHING = 0.2
"""Weight of a new observation in the moving average."""
_AFTER_A_PAUSE = 0.6
"""The same where nothing ran for a while: how busy the machine was then says little of now."""
_PAIRED = 0.15
"""Weight of one comparison of two sizes that ran one after the other."""
_WORTH = 0.95
"""A larger batch must bring the seconds per row down to this share to be preferred: smaller ones leave
more to overlap, and answer sooner."""
_WORTH_OF_LONG = 0.88
"""The same where a row takes a millisecond and more: a batch then keeps its first row waiting, and what
measuring differs by must not decide it."""
_LONG = 1e-3
_HANDLING = 170e-6
"""Seconds that handing a batch to an executor and back costs both processes beside the run itself."""
_OUTSIDE = 30e-6
"""Seconds that a row costs outside of its run, whatever the batch: what is saved is judged against all of it.
Without this a tiny network's rows would all be put into one batch, and nothing would overlap."""
_EXPLORE_EVERY = 50
"""One in so many batches under load tries a neighbouring size, so that a wrong first impression heals."""


class CostModel:
    """Seconds of one run by its number of rows, in powers of two (1, 2, 3-4, 5-8, …).

    Args:
        max_rows: the most rows a run may have.
        longest: seconds that a run should not exceed, where fewer rows make it shorter.
    """

    def __init__(self, max_rows: int, longest: float = float("inf")) -> None:
        self.max_rows = max_rows
        self.longest = longest
        self._per_row: dict[int, float] = {}
        """Seconds a row by size, on a machine as busy as it was when `_busy` was 1; by `~size` of runs that
        had every core to themselves."""
        self._busy = 1.0
        """How much longer runs take now: a neighbour's work is no property of the size that ran meanwhile."""
        self._before: tuple[int, float] | None = None
        """The size of the run before this one, and how busy the machine was by it."""
        self._apart = 0.0
        """Seconds a row for what is done item by item; larger batches make none of it cheaper."""
        self._best = 0
        self._batches = 0
        self.row = 0.0
        """Seconds that one row costs in a batch of the best size; 0 while nothing is known."""

    def observe(
        self, rows: int, seconds: float, apart: float = 0.0, *, wide: bool = False, paused: bool = False
    ) -> None:
        """Learn from one run.

        Args:
            apart: of its seconds, those that went into decoding and preparing, item by item.
            wide: whether it had every core to itself: then it says nothing of what sizes cost beside others,
                but how busy the machine is.
            paused: whether nothing ran for a while before it.
        """
        weight = _AFTER_A_PAUSE if paused else _SMOOTHING
        if apart:
            each = apart / rows
            self._apart += (weight if self._apart else 1.0) * (each - self._apart)
        bucket = (rows - 1).bit_length()
        self._learn(~bucket if wide else bucket, (seconds - apart + _HANDLING) / rows, weight)
        self._best = 0
        self.row = self.predict(self.best_rows()) / self.best_rows()

    def _learn(self, bucket: int, per_row: float, weight: float) -> None:
        """Sizes are compared by runs that followed on each other; everything else is how busy it is now."""
        if bucket not in self._per_row:
            self._per_row[bucket] = per_row / self._busy
            self._before = bucket, self._busy
            return
        # One stalled run (a page fault, a neighbour's burst) is not what the size costs.
        busy = min(per_row / self._per_row[bucket], 4 * self._busy)
        if self._before is not None and self._before[0] != bucket:
            other, then = self._before
            step = min(max(busy / then, 0.5), 2.0) ** _PAIRED
            self._per_row[bucket] *= step
            self._per_row[other] /= step
            busy, self._before = busy / step, (bucket, busy / step)
        else:
            self._before = bucket, busy
        self._busy += weight * (busy - self._busy)

    def predict(self, rows: int) -> float:
        """Seconds that a run of `rows` rows will take; 0 while nothing is known."""
        bucket = (rows - 1).bit_length()
        known = self._per_row.get(bucket)
        if known is None:
            sizes = self._sizes()
            if not sizes:
                return 0.0
            known = self._per_row[min(sizes, key=lambda other: abs(other - bucket))]
        return (known * self._busy + self._apart) * rows

    def predict_alone(self, rows: int) -> float:
        """The same of a run that has every core to itself; 0 while there was none of this size."""
        known = self._per_row.get(~(rows - 1).bit_length(), 0.0)
        return (known * self._busy + self._apart) * rows if known else 0.0

    def _sizes(self) -> list[int]:
        """Those that ran beside others, smallest first."""
        return sorted(size for size in self._per_row if size >= 0)

    def best_rows(self) -> int:
        """The fewest rows whose cost per row is nearly the lowest; `max_rows` while nothing is known.

        The largest size observed may be doubled if it was better than the one before it, and is the
        best so far: the next size is then tried.
        """
        if not self._best:
            self._best = self._find_best()
        return self._best

    def next_rows(self, backlog: bool) -> int:
        """Rows that the next batch may have: the best, or under load now and then a neighbouring size."""
        best = self.best_rows()
        if not backlog:
            return best
        self._batches += 1
        if self._batches % _EXPLORE_EVERY:
            return best
        larger = (self._batches // _EXPLORE_EVERY) % 2
        return min(best * 2, self.max_rows) if larger else max(best // 2, 1)

    def per_second(self) -> float:
        """Rows a second of one executor at the best size; infinity while nothing is known."""
        best = self.best_rows()
        seconds = self.predict(best)
        return best / seconds if seconds else float("inf")

    def curve(self) -> Mapping[int, float]:
        """Seconds per row by the largest number of rows of each bucket, for people."""
        return {1 << bucket: self.predict(1 << bucket) / (1 << bucket) for bucket in self._sizes()}

    def patience(self, waiting: int, returning: int) -> float:
        """Seconds that `waiting` rows may be held for `returning` others that are likely to come.

        Running them together saves T(w) + T(r) - T(w + r); a quarter of that may be spent on waiting,
        and nothing at all where it saves less than a tenth of the run.
        """
        together = min(waiting + returning, self.best_rows())
        others = together - waiting
        if others <= 0:
            return 0.0
        alone = self.predict(waiting)
        saved = alone + self.predict(others) - self.predict(together)
        return saved / 4 if saved > 0.1 * alone else 0.0

    def _find_best(self) -> int:
        buckets = self._sizes()
        if not buckets:
            return self.max_rows
        short = [each for each in buckets if self.predict(1 << each) <= self.longest]
        buckets = short or buckets[:1]
        outside = (_OUTSIDE + self._apart) / self._busy
        worth = _WORTH if self._per_row[buckets[0]] < _LONG else _WORTH_OF_LONG
        best = buckets[0]
        for bucket in buckets[1:]:
            if self._per_row[bucket] + outside < worth * (self._per_row[best] + outside):
                best = bucket
        if best == buckets[-1] and best + 1 not in self._per_row and self._worth_trying(buckets):
            best += 1
        return min(1 << best, self.max_rows)

    def _worth_trying(self, buckets: list[int]) -> bool:
        """Whether the size above all that were tried may be better still, and is allowed."""
        last = self.predict(1 << buckets[-1])
        if 2 * last > self.longest:
            return False
        # What a row costs here, and in runs of half the size.
        return len(buckets) < 2 or last < _WORTH * 2 * self.predict(1 << buckets[-2])
