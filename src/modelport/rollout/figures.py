"""What was seen of a version: counts and latencies that add up, over a window that slides. No clock.

Everything here is a sum: figures of two slices of time, of two processes or of two stages are added.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Generic, Protocol, TypeVar

import msgspec

from .compare import Comparison

BUCKETS_AN_OCTAVE = 16
"""Latencies are kept to 2^(1/16), about 4.4 %."""
_FLOOR = 1e-6
_LAST = 40 * BUCKETS_AN_OCTAVE

Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 62)]
Bucket = Annotated[int, msgspec.Meta(ge=0, le=_LAST)]


class Latency(msgspec.Struct, forbid_unknown_fields=True):
    """A histogram of seconds in buckets that grow by 2^(1/16), from a microsecond to twelve days."""

    counts: dict[Bucket, Count] = {}

    def add(self, seconds: float) -> None:
        """Count one duration."""
        bucket = 0
        if seconds > _FLOOR:
            bucket = min(math.ceil(math.log2(seconds / _FLOOR) * BUCKETS_AN_OCTAVE), _LAST)
        self.counts[bucket] = self.counts.get(bucket, 0) + 1

    @property
    def total(self) -> int:
        """Durations counted."""
        return sum(self.counts.values())

    def rank(self, place: float) -> float | None:
        """The upper edge of the bucket in which the duration of that rank lies, in seconds.

        Ranks count from 1, the shortest; None where there is no such rank.
        """
        if not 1 <= place <= self.total:
            return None
        buckets = iter(sorted(self.counts))
        seen, bucket = 0, 0
        while seen < place:
            bucket = next(buckets)
            seen += self.counts[bucket]
        return _FLOOR * math.pow(2.0, bucket / BUCKETS_AN_OCTAVE)

    def quantile(self, share: float) -> float | None:
        """The duration that `share` of all do not pass, in seconds; None where nothing was counted."""
        total = self.total
        return self.rank(min(max(math.ceil(share * total), 1), total)) if total else None

    def merge(self, other: Latency) -> None:
        """Count what the other one counted."""
        for bucket, count in other.counts.items():
            self.counts[bucket] = self.counts.get(bucket, 0) + count


class Observed(msgspec.Struct, forbid_unknown_fields=True):
    """The requests of one version; `errors` are failures of the model or the server, not of the caller."""

    requests: Count = 0
    errors: Count = 0
    latency: Latency = msgspec.field(default_factory=Latency)
    """Of those that were answered."""

    def add(self, ok: bool, seconds: float) -> None:
        """Count one request."""
        self.requests += 1
        if ok:
            self.latency.add(seconds)
        else:
            self.errors += 1

    def merge(self, other: Observed) -> None:
        """Count what the other one counted."""
        self.requests += other.requests
        self.errors += other.errors
        self.latency.merge(other.latency)

    @property
    def error_rate(self) -> float | None:
        """Share of the requests that failed; None where there were none."""
        return self.errors / self.requests if self.requests else None


class Compared(msgspec.Struct):
    """The shadowed requests: how the answers of two versions went together."""

    requests: int = 0
    agreed: int = 0
    """Requests with the same labels."""
    unlike: int = 0
    """Answers that no number tells apart: other tensors, other shapes, a number against none."""
    failed: int = 0
    """Requests that the stable version answered and the shadow did not; they are in no other count but
    `requests`."""
    max_difference: float = 0.0
    """The largest difference between two numbers, over the answers that are alike in shape."""
    answering: Latency = msgspec.field(default_factory=Latency)
    listening: Latency = msgspec.field(default_factory=Latency)
    """Latencies of the stable version and of the shadow, on the same requests."""

    def add(self, comparison: Comparison | None, seconds: float, shadow_seconds: float) -> None:
        """Count one shadowed request; without a comparison the shadow failed."""
        self.requests += 1
        self.answering.add(seconds)
        if comparison is None:
            self.failed += 1
            return
        self.listening.add(shadow_seconds)
        self.agreed += comparison.agree
        if math.isfinite(comparison.difference):
            self.max_difference = max(self.max_difference, comparison.difference)
        else:
            self.unlike += 1

    def merge(self, other: Compared) -> None:
        """Count what the other one counted."""
        self.requests += other.requests
        self.agreed += other.agreed
        self.unlike += other.unlike
        self.failed += other.failed
        self.max_difference = max(self.max_difference, other.max_difference)
        self.answering.merge(other.answering)
        self.listening.merge(other.listening)

    @property
    def agreement(self) -> float | None:
        """Share of the shadowed requests with the same labels; a failure is none. None where none were."""
        return self.agreed / self.requests if self.requests else None

    def as_observed(self) -> tuple[Observed, Observed]:
        """The two versions' requests as far as they were shadowed: the stable one's, the shadow's."""
        return (
            Observed(self.requests, 0, self.answering),
            Observed(self.requests, self.failed, self.listening),
        )


class _Sum(Protocol):
    def merge(self, other: Any) -> None: ...


Figures = TypeVar("Figures", bound=_Sum)


class Window(Generic[Figures]):
    """Figures of the last `width` seconds, in slices: what is forgotten goes a slice at a time.

    Args:
        kind: `Observed` or `Compared`.
        width: seconds that count.
        slices: into how many parts they are cut; up to one part more than `width` is kept.
    """

    def __init__(self, kind: Callable[[], Figures], width: float, slices: int = 12) -> None:
        self.kind = kind
        self.width = width
        self.slices = slices
        self.current: Figures = kind()
        """The slice that counts now: add to it."""
        self._past: deque[tuple[float, Figures]] = deque()
        self._began: float | None = None

    def turn(self, now: float) -> None:
        """Close the current slice if it has lasted its part, and forget what is too old."""
        if self._began is None or now < self._began:
            self._began = now  # the first turn, or a clock that was set back
        if now - self._began >= self.width / self.slices:
            self._past.append((now, self.current))
            self.current = self.kind()
            self._began = now
        while self._past and (self._past[0][0] <= now - self.width or self._past[0][0] > now):
            self._past.popleft()

    def total(self) -> Figures:
        """All that counts, added up; the caller's to keep."""
        return added(self.kind, [*(figures for _, figures in self._past), self.current])


def added(kind: Callable[[], Figures], parts: Iterable[Figures]) -> Figures:
    """The sum of figures, as figures of their own."""
    total = kind()
    for part in parts:
        total.merge(part)
    return total
