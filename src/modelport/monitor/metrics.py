"""Counts per model and version, cheap enough for every request.

Updated from one event loop, without locks and without looking labels up: whoever answers holds its model's
`ModelMetrics` and writes plain lists and numbers. Knows nothing of HTTP, and of Prometheus only where
`render` asks for it.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import msgspec

from ..errors import UsageError, did_you_mean
from .declared import COUNTERS, FAULTS, GAUGES, REASONS
from .histogram import BOUNDS, Histogram

if TYPE_CHECKING:
    from .snapshot import Snapshot

MAX_SIZES = 256
"""Batch sizes told apart; further ones are counted at the next power of two."""
KEPT = 64
"""Versions whose counts are kept after they were let go of; see `Metrics.keeps`."""


class BatchCount(msgspec.Struct, eq=False):
    """How many executions there were of one batch size, and their time together in seconds."""

    count: int = 0
    seconds: float = 0.0


class ModelMetrics(msgspec.Struct, eq=False):
    """One version's counts, of earlier loads and other processes too where they are added; durations are
    in seconds."""

    name: str
    version: str
    request: Histogram = msgspec.field(default_factory=Histogram)
    decode: Histogram = msgspec.field(default_factory=Histogram)
    queue: Histogram = msgspec.field(default_factory=Histogram)
    pre: Histogram = msgspec.field(default_factory=Histogram)
    net: Histogram = msgspec.field(default_factory=Histogram)
    post: Histogram = msgspec.field(default_factory=Histogram)
    execution: Histogram = msgspec.field(default_factory=Histogram)
    shadow: Histogram = msgspec.field(default_factory=Histogram)
    """Those of `request` that were asked as a shadow: no caller saw their answers."""
    shadow_unmet: int = 0
    """What was asked as a shadow, and refused or failed."""
    rows: int = 0
    batches: dict[int, BatchCount] = msgspec.field(default_factory=dict)
    refusals: dict[str, int] = msgspec.field(default_factory=lambda: dict.fromkeys(REASONS, 0))
    failures: dict[str, int] = msgspec.field(default_factory=lambda: dict.fromkeys(FAULTS, 0))
    failed_seconds: float = 0.0
    gauges: dict[str, float] = msgspec.field(default_factory=dict)
    weights: dict[str, float] = msgspec.field(default_factory=dict)
    """Of gauges that are a mean: of how many."""
    counters: dict[str, int] = msgspec.field(default_factory=dict)
    waiting: int = 0
    """Rows in the queue now."""
    executors: int = 0
    """Executors running side by side now."""
    ready: bool = False
    """Whether this version answers."""
    info: dict[str, str] = msgspec.field(default_factory=dict)
    """What does not change while it is loaded (digest, task, variant, runtime): labels of one info metric."""
    last: float = 0.0
    """When the last execution ended, in seconds since 1970; 0 before the first."""

    def answered(
        self,
        total: float,
        decode: float = 0.0,
        queue: float = 0.0,
        pre: float = 0.0,
        net: float = 0.0,
        post: float = 0.0,
        rows: int = 1,
    ) -> None:
        """One request was answered: its seconds altogether and by stage. A stage of 0 s did not happen."""
        self.ran(1, decode, pre, net, post)
        self.took(total, queue, rows)

    def ran(self, requests: int, decode: float, pre: float, net: float, post: float) -> None:
        """Requests that were run together had these stages, each of them; see `took` for the rest."""
        for stage, seconds in ((self.decode, decode), (self.pre, pre), (self.net, net), (self.post, post)):
            if seconds:
                stage.counts[bisect_left(BOUNDS, seconds)] += requests
                stage.seconds += seconds * requests

    def took(self, total: float, queue: float, rows: int) -> None:
        """One of them was answered: its own seconds, altogether and in the queue."""
        stage = self.request
        stage.counts[bisect_left(BOUNDS, total)] += 1
        stage.seconds += total
        if queue:
            stage = self.queue
            stage.counts[bisect_left(BOUNDS, queue)] += 1
            stage.seconds += queue
        self.rows += rows

    def batch(self, rows: int, seconds: float) -> None:
        """The network ran once on a batch of `rows`."""
        self.execution.observe(seconds)
        size = self.batches.get(rows)
        if size is None:
            if len(self.batches) >= MAX_SIZES:
                rows = 1 << (rows - 1).bit_length()
            size = self.batches.setdefault(rows, BatchCount())
        size.count += 1
        size.seconds += seconds
        self.last = time.time()

    def shadowed(self, seconds: float | None) -> None:
        """Of what was counted, one was asked as a shadow: answered after `seconds`, or not (None)."""
        if seconds is None:
            self.shadow_unmet += 1
        else:
            self.shadow.observe(seconds)

    def refused(self, reason: str) -> None:
        """A request was refused, for one of REASONS."""
        self.refusals[reason if reason in self.refusals else "other"] += 1

    def failed(self, reason: str = "internal", seconds: float = 0.0) -> None:
        """A request failed after `seconds`, by the fault of one of FAULTS."""
        self.failures[reason if reason in self.failures else "internal"] += 1
        self.failed_seconds += seconds

    def gauge(self, name: str, value: float, weight: float = 1.0) -> None:
        """Set one of GAUGES.

        Args:
            weight: of how many it is the mean, where it is one.

        Raises:
            UsageError: it is not one of them.
        """
        if name not in GAUGES:
            raise UsageError(f"no gauge is called {name!r}", hint=did_you_mean(name, GAUGES))
        self.gauges[name] = float(value)
        if GAUGES[name].merge is None:
            self.weights[name] = float(weight)

    def count(self, name: str, times: int = 1) -> None:
        """Count one of COUNTERS up.

        Raises:
            UsageError: it is not one of them.
        """
        if name not in COUNTERS:
            raise UsageError(f"no counter is called {name!r}", hint=did_you_mean(name, COUNTERS))
        self.counters[name] = self.counters.get(name, 0) + times

    def golden(self, ok: bool, difference: float) -> None:
        """The golden cases were replayed: whether they passed, and their largest difference."""
        self.gauge("golden_replay_ok", ok)
        self.gauge("golden_replay_difference", difference)
        self.gauge("golden_replay_time", time.time())
        self.count("golden_ok" if ok else "golden_failed")

    def add(self, other: ModelMetrics) -> None:
        """Count what another process has counted of the same version."""
        for field in ("request", "decode", "queue", "pre", "net", "post", "execution", "shadow"):
            getattr(self, field).add(getattr(other, field))
        for rows, theirs in other.batches.items():
            mine = self.batches.setdefault(rows, BatchCount())
            mine.count += theirs.count
            mine.seconds += theirs.seconds
        _add(self.refusals, other.refusals)
        _add(self.failures, other.failures)
        _add(self.counters, other.counters)
        for name in other.gauges.keys() & GAUGES.keys():
            both = [m for m in (self, other) if name in m.gauges]
            merge = GAUGES[name].merge
            if merge is not None:
                self.gauges[name] = merge([m.gauges[name] for m in both])
                continue
            weight = sum([m.weights[name] for m in both])
            self.gauges[name] = sum([m.gauges[name] * m.weights[name] for m in both]) / weight
            self.weights[name] = weight
        self.rows += other.rows
        self.shadow_unmet += other.shadow_unmet
        self.failed_seconds += other.failed_seconds
        self.waiting += other.waiting
        self.executors += other.executors
        self.ready = self.ready and other.ready
        self.info |= other.info
        self.last = max(self.last, other.last)


class _Dump(msgspec.Struct):
    """What one process says to the others."""

    started: float
    refusals: dict[str, int]
    models: list[ModelMetrics]
    before: list[ModelMetrics] = []
    """Of versions that are not loaded here now: let go of, or counted by the process whose place this has."""


class Metrics:
    """Everything that one server process counts."""

    def __init__(self) -> None:
        self.started = time.time()
        self.keeps = False
        """Whether counts of versions that were let go of are kept: other processes may have them loaded."""
        self.refusals = dict.fromkeys(REASONS, 0)
        self._models: dict[tuple[str, str], ModelMetrics] = {}
        self._before: dict[tuple[str, str], ModelMetrics] = {}

    def model(self, name: str, version: str) -> ModelMetrics:
        """The counts of one version, made if need be: of one that is loaded, never of a caller's words."""
        key = (name, version)
        if key not in self._models:
            before = self._before.pop(key) if key in self._before else ModelMetrics(name, version)
            before.ready = False
            self._models[key] = before
        return self._models[key]

    def forget(self, name: str, version: str) -> None:
        """Let go of a version that was unloaded; its series end."""
        gone = self._models.pop((name, version), None)
        if gone is not None and self.keeps:
            self._before.pop((name, version), None)
            self._before[name, version] = _ended(gone)
            if len(self._before) > KEPT:
                del self._before[next(iter(self._before))]

    def refused(self, reason: str) -> None:
        """A request was refused, for one of REASONS, before it was known to be for a model that is here."""
        self.refusals[reason if reason in self.refusals else "other"] += 1

    def models(self) -> list[ModelMetrics]:
        """The counts of every version, by name and in the order in which they were loaded."""
        return sorted(self._models.values(), key=lambda model: model.name)

    def dump(self) -> dict[str, Any]:
        """All of it as plain dictionaries, lists and numbers, to be encoded and sent to `merge` elsewhere."""
        dump = _Dump(self.started, self.refusals, [*self._models.values()], [*self._before.values()])
        plain: dict[str, Any] = msgspec.to_builtins(dump, str_keys=True)
        return plain

    def go_on(self, plain: Any) -> None:
        """Go on from the last dump of a process that ended, whose place this one takes.

        Raises:
            msgspec.ValidationError: it is no dump.
        """
        dump = msgspec.convert(plain, _Dump, str_keys=True)
        self.started = min(self.started, dump.started)
        _add(self.refusals, dump.refusals)
        for model in _counts(dump):
            self._before[model.name, model.version] = model

    @classmethod
    def merge(cls, dumps: Iterable[Any], ended: Iterable[Any] = ()) -> Metrics:
        """What several processes counted, as one: counts add up, gauges as GAUGES says.

        Args:
            ended: the last dumps of processes that are not there: their start and their refusals count, and
                of versions the counts of those that others have loaded, without gauges.

        Raises:
            msgspec.ValidationError: one of them is no dump.
        """
        merged = cls()
        before: list[ModelMetrics] = []
        for number, plain in enumerate(dumps):
            dump = msgspec.convert(plain, _Dump, str_keys=True)
            merged.started = min(merged.started, dump.started) if number else dump.started
            _add(merged.refusals, dump.refusals)
            for theirs in dump.models:
                mine = merged._models.setdefault((theirs.name, theirs.version), theirs)
                if mine is not theirs:
                    mine.add(theirs)
            before += dump.before
        for plain in ended:
            dump = msgspec.convert(plain, _Dump, str_keys=True)
            merged.started = min(merged.started, dump.started)
            _add(merged.refusals, dump.refusals)
            before += _counts(dump)
        for theirs in before:
            if (theirs.name, theirs.version) in merged._models:
                merged.model(theirs.name, theirs.version).add(theirs)
        return merged

    def copy(self) -> Metrics:
        """The counts as they stand now: a thread may read them while the event loop goes on counting."""
        return self.merge([self.dump()])

    def render(self, accept: str = "") -> bytes:
        """As Prometheus text, or as OpenMetrics where the Accept header `accept` asks for it."""
        from .exposition import render

        return render(self, accept)[0]

    def snapshot(self) -> Snapshot:
        """For people and statistics: counts, percentiles and what is going on now."""
        from .snapshot import take

        return take(self)


def _counts(dump: _Dump) -> list[ModelMetrics]:
    """What a process that ended had counted, without what it said of itself as it was then."""
    return [*map(_ended, dump.models), *dump.before]


def _ended(model: ModelMetrics) -> ModelMetrics:
    """The counts of a version that is not there any more, which are added to those of others."""
    model.waiting = model.executors = 0
    model.ready = True  # as those that are there say
    model.gauges, model.info = {}, {}
    return model


def _add(mine: dict[str, int], theirs: dict[str, int]) -> None:
    for key, times in theirs.items():
        mine[key] = mine.get(key, 0) + times
