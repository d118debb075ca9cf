"""A server measured by turns with the limit: what slows the machine slows both, so ratios hold.

A round is: wait for a quiet machine, the limit in one process and in two, then the server under load. A round
in which others used much of a core is repeated. What is reported is the median of the rounds.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from .limit import Limit, Network, Pictures, Sleep, Work
from .machine import alive, busy_seconds, cpu_seconds, memory_mb, wait_for_quiet
from .models import Model
from .process import Running, Server, running
from .wrk import wrk


@dataclass(frozen=True)
class Settings:
    """How long and how often."""

    rounds: int = 3
    seconds: float = 5.0
    """Of load in one round."""
    limit_seconds: float = 0.8
    noise: float = 0.15
    """Cores that others may use before a round is repeated."""
    retries: int = 2
    patience: float = 8.0
    """Seconds to wait for a quiet machine."""


@dataclass(frozen=True)
class Reference:
    """What the machine does without a server, measured just now."""

    one: float
    """Items a second in one process with one thread."""
    two: float
    """In two processes."""
    work: float
    """Processor seconds of one item."""
    direct: dict[str, float] = field(default_factory=dict)
    """Median seconds of calling a session for one item: by what kind of session."""


class Baseline(Protocol):
    """Measures a reference, for a load of so many connections."""

    def reference(self, connections: int, seconds: float) -> Reference: ...


@dataclass(frozen=True)
class InProcess:
    """ONNX Runtime at the model's best batch size; for a lone client also a session called directly."""

    limit: Limit
    model: Model

    def reference(self, connections: int, seconds: float) -> Reference:
        """One process, two processes; and with one connection: one thread, default options."""
        best = Network(self.model.name, self.limit.best_batch(self.model))
        one, two = self.limit.pace(best, seconds), self.limit.pace(best, seconds, 2)
        if connections > 1:
            return Reference(one.rate, two.rate, one.cpu)
        lone = self.limit.pace(Network(self.model.name), seconds)
        default = self.limit.pace(Network(self.model.name, threads=None), seconds)
        direct = {"one thread": lone.median, "default options": default.median}
        return Reference(one.rate, two.rate, lone.cpu, direct)


@dataclass(frozen=True)
class OfWork:
    """Any piece of work, whatever the load."""

    limit: Limit
    work: Work

    def reference(self, connections: int, seconds: float) -> Reference:
        """One process, two processes; pictures for one client also in one process on all cores."""
        one, two = self.limit.pace(self.work, seconds), self.limit.pace(self.work, seconds, 2)
        if connections > 1 or not isinstance(self.work, Pictures):
            return Reference(one.rate, two.rate, one.cpu)
        wide = self.limit.pace(replace(self.work, threads=None), seconds)
        return Reference(one.rate, two.rate, one.cpu, {"all cores": 1 / wide.rate})


@dataclass(frozen=True)
class Asleep:
    """The model that sleeps: full batches back to back, of at most as many rows as there are clients."""

    limit: Limit
    most_rows: int = 32

    def reference(self, connections: int, seconds: float) -> Reference:
        """One process; a second one would be a second accelerator."""
        pace = self.limit.pace(Sleep(min(self.most_rows, connections)), seconds)
        return Reference(pace.rate, 2 * pace.rate, pace.cpu)


@dataclass(frozen=True)
class Row:
    """One server under one load: medians of the rounds. Times in seconds, memory in MiB."""

    server: str
    wire: str
    model: str
    connections: int
    rate: float
    of_one: float
    of_two: float
    p50: float
    p99: float
    cpu: float
    """Processor seconds of the server for one request."""
    overhead: float
    """The same, without what the network itself takes."""
    direct: dict[str, float]
    memory: float
    started: float
    lost: int
    refused: int
    others: float
    """The most that others used in a round, in cores."""
    rounds: list[dict[str, Any]]
    note: str = ""


Say = Callable[[str], None]


def measure(
    server: Server, model: str, connections: Sequence[int], baseline: Baseline, settings: Settings, say: Say
) -> list[Row]:
    """Start the server, and load it with each number of connections by turns.

    Returns:
        a row for each number of connections.

    Raises:
        Failed: it did not start, or answered wrong.
    """
    rounds: dict[int, list[dict[str, Any]]] = {number: [] for number in connections}
    for number in connections:
        baseline.reference(number, 0.05)  # loads what it needs, before anything is timed
    with running(server) as live:
        warm = server.request
        wrk(live.url, warm.files(), warm.headers, max(connections), 2)
        for _ in range(settings.rounds):
            for number, seen in rounds.items():
                seen.append(_round(server, live, number, baseline, settings))
        memory = memory_mb(live.processes())
        started = live.started
    rows = [_row(server, model, number, seen, memory, started) for number, seen in rounds.items()]
    for row in rows:
        say(
            f"{row.server:32} {row.wire:10} c{row.connections:<3} {row.rate:8.0f}/s"
            f"  of one core {row.of_one:.2f}  of two {row.of_two:.2f}  p50 {row.p50 * 1e3:.2f} ms"
            f"  {row.cpu * 1e6:.0f} us/request  others {row.others:.2f}"
        )
    return rows


def _round(
    server: Server, live: Running, connections: int, baseline: Baseline, settings: Settings
) -> dict[str, Any]:
    request = server.request
    for attempt in range(settings.retries + 1):
        wait_for_quiet(alive(live.processes()), patience=settings.patience)
        reference = baseline.reference(connections, settings.limit_seconds)
        pids = live.processes()
        all_before, cpu_before, own_before = busy_seconds(), cpu_seconds(pids), time.process_time()
        start = time.monotonic()
        load = wrk(live.url, request.files(), request.headers, connections, settings.seconds)
        wall = time.monotonic() - start
        used = cpu_seconds(pids) - cpu_before
        own = time.process_time() - own_before
        others = (busy_seconds() - all_before - used - own - load.client_cpu) / wall
        if others < settings.noise or attempt == settings.retries:
            break
    each = used / max(1, load.requests)
    return {
        "rate": load.rate,
        "of_one": load.rate / reference.one,
        "of_two": load.rate / reference.two,
        "p50": load.p50,
        "p99": load.p99,
        "cpu": each,
        "overhead": each - reference.work,
        "lost": load.lost,
        "refused": load.refused,
        "others": others,
        "limit_one": reference.one,
        "limit_two": reference.two,
        "direct": reference.direct,
    }


def _row(
    server: Server, model: str, connections: int, seen: list[dict[str, Any]], memory: float, started: float
) -> Row:
    def middle(key: str) -> float:
        return float(statistics.median(each[key] for each in seen))

    kinds = seen[0]["direct"]
    return Row(
        server=server.name,
        wire=server.request.wire,
        model=model,
        connections=connections,
        **{key: middle(key) for key in ("rate", "of_one", "of_two", "p50", "p99", "cpu", "overhead")},
        direct={kind: statistics.median(each["direct"][kind] for each in seen) for kind in kinds},
        memory=memory,
        started=started,
        lost=sum(each["lost"] for each in seen),
        refused=sum(each["refused"] for each in seen),
        others=max(each["others"] for each in seen),
        rounds=seen,
        note=server.note,
    )
