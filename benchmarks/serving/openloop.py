"""A client that does not wait: requests are due at random moments, whatever the server does.

    python -m benchmarks.serving.openloop < job.json

A closed loop such as wrk's sends less when the server is slow, and so never sees an overload. Here every
request has a moment at which it is due (a Poisson process), and its time counts from that moment, also where
it had to wait in this client for a connection: there is no coordinated omission. A request that is not
answered within `patience` is given up as a person would, by hanging up. What comes out says how late the
client itself was, so that a client that could not keep up shows.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import resource
import sys
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import cast

import httptools
import uvloop

TICK = 1e-3
"""Seconds; the least that the client sleeps."""


@dataclass(frozen=True)
class Job:
    """What to send, where to, how often."""

    port: int
    path: str
    headers: dict[str, str]
    body: str
    """A file."""
    rate: float
    """Requests a second."""
    seconds: float
    deadline: float
    """Seconds from the moment a request is due; an answer after that is of no use."""
    patience: float = 1.0
    connections: int = 1024
    """At most; what is due beyond them waits here."""
    seed: int = 0


@dataclass
class Tally:
    """What became of the requests; pure, so that it can be tested."""

    deadline: float
    due: int = 0
    """Requests that were to be sent so far."""
    counts: Counter[str] = field(default_factory=Counter)
    good: list[float] = field(default_factory=list)
    """Seconds of each answer in time, from when it was due."""
    lateness: list[float] = field(default_factory=list)
    """Seconds by which each request was sent too late."""

    def sent(self, late: float) -> None:
        """One left this client."""
        self.lateness.append(late)

    def answered(self, status: int, took: float) -> None:
        """One came back."""
        if status != 200:
            self.counts["refused"] += 1
        elif took > self.deadline:
            self.counts["late"] += 1
        else:
            self.counts["good"] += 1
            self.good.append(took)

    def ended(self, how: str) -> None:
        """One did not: `gave_up` or `lost`."""
        self.counts[how] += 1

    def summary(self, seconds: float) -> dict[str, float]:
        """Each kind a second, and percentiles in seconds.

        Raises:
            RuntimeError: a request was forgotten or counted twice.
        """
        if self.counts.total() != self.due:
            raise RuntimeError(f"{self.due} requests were due, and these became of them: {self.counts}")
        kinds = ("good", "late", "refused", "gave_up", "lost")
        rates = {"offered": self.due / seconds} | {kind: self.counts[kind] / seconds for kind in kinds}
        times = {"p50": percentile(self.good, 0.5), "p99": percentile(self.good, 0.99)}
        return rates | times | {"lateness_p99": percentile(self.lateness, 0.99)}


def percentile(values: list[float], share: float) -> float:
    """The value below which `share` of them lie; 0 of none."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(share * len(ranked)))] if ranked else 0.0


def moments(rate: float, seconds: float, seed: int) -> Iterator[float]:
    """When requests are due: a Poisson process, the same for the same seed."""
    rng, now = random.Random(seed), 0.0
    while (now := now + rng.expovariate(rate)) < seconds:
        yield now


class Connection(asyncio.Protocol):
    """One request at a time; tells the client when it is free again."""

    def __init__(self, client: Client, first: float) -> None:
        self.client = client
        self.due: float | None = first
        self.transport: asyncio.Transport | None = None
        self.parser = httptools.HttpResponseParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is none by its class
        if self.due is None:
            self.client.free(self)
        else:
            self.send(self.due)

    def send(self, due: float) -> None:
        """Ask, for a request that was due then."""
        assert self.transport is not None
        self.due = due
        self.client.tally.sent(self.client.loop.time() - due)
        self.transport.write(self.client.message)

    def data_received(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            if self.transport:
                self.transport.abort()

    def on_message_complete(self) -> None:
        if self.due is None:
            return
        took = self.client.loop.time() - self.due
        self.client.tally.answered(self.parser.get_status_code(), took)
        self.due = None
        if self.parser.should_keep_alive():
            self.parser = httptools.HttpResponseParser(self)
            self.client.free(self)
        elif self.transport:
            self.transport.close()

    def connection_lost(self, problem: Exception | None) -> None:
        if self.due is not None:
            self.client.tally.ended("lost")
            self.due = None
        self.client.gone(self)


class Client:
    """Sends what is due on whatever connection is free."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.loop = asyncio.get_running_loop()
        self.tally = Tally(job.deadline)
        self.open: set[Connection] = set()
        self.idle: list[Connection] = []
        self.tasks: set[asyncio.Task[None]] = set()
        self.waiting: deque[float] = deque()
        body = Path(job.body).read_bytes()
        lines = [f"POST {job.path} HTTP/1.1", f"Host: 127.0.0.1:{job.port}", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in job.headers.items()]
        self.message = "\r\n".join([*lines, "", ""]).encode() + body

    async def run(self) -> dict[str, float]:
        """Send everything, and wait for what is still out."""
        start = self.loop.time() + 0.05
        watch = self.loop.create_task(self._watch())
        for moment in moments(self.job.rate, self.job.seconds, self.job.seed):
            due = start + moment
            # Timers tick in milliseconds: what falls due within one goes together, and counts as late.
            while due > self.loop.time():
                await asyncio.sleep(max(TICK, due - self.loop.time()))
            self.ask(due)
        end = self.loop.time() + self.job.patience + 0.1
        while self.loop.time() < end and (self.waiting or len(self.idle) < len(self.open)):
            await asyncio.sleep(0.02)
        watch.cancel()
        self.hang_up(math.inf)
        for connection in self.idle:
            if connection.transport:
                connection.transport.abort()
        while self.open and self.loop.time() < end + 1:
            await asyncio.sleep(TICK)
        return self.tally.summary(self.job.seconds)

    def ask(self, due: float) -> None:
        """Send now if a connection is free, on a new one if there may be more, else wait."""
        self.tally.due += 1
        self._ask(due)

    def _ask(self, due: float) -> None:
        if self.idle:
            self.idle.pop().send(due)
        elif len(self.open) < self.job.connections:
            connection = Connection(self, due)
            self.open.add(connection)
            task = self.loop.create_task(self._connect(connection))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
        else:
            self.waiting.append(due)

    def free(self, connection: Connection) -> None:
        """A connection has nothing to do: the oldest request that waits takes it."""
        if self.waiting:
            connection.send(self.waiting.popleft())
        else:
            self.idle.append(connection)

    def gone(self, connection: Connection) -> None:
        """A connection is closed."""
        self.open.discard(connection)
        if connection in self.idle:
            self.idle.remove(connection)
        if self.waiting:
            self._ask(self.waiting.popleft())

    async def _connect(self, connection: Connection) -> None:
        try:
            await self.loop.create_connection(lambda: connection, "127.0.0.1", self.job.port)
        except OSError:
            connection.connection_lost(None)

    def hang_up(self, before: float) -> None:
        """Give up every request that was due before then, also those that never got out."""
        while self.waiting and self.waiting[0] < before:
            self.waiting.popleft()
            self.tally.ended("gave_up")
        for connection in list(self.open):
            if connection.due is not None and connection.due < before:
                connection.due = None
                self.tally.ended("gave_up")
                if connection.transport:
                    connection.transport.abort()

    async def _watch(self) -> None:
        """Hang up on what has taken too long."""
        while True:
            await asyncio.sleep(0.02)
            self.hang_up(self.loop.time() - self.job.patience)


async def _main(job: Job) -> dict[str, float]:
    summary = await Client(job).run()
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return summary | {"client_cpu": usage.ru_utime + usage.ru_stime}


def message(job: Job) -> str:
    """The job as this module reads it from standard input."""
    return json.dumps(asdict(job))


if __name__ == "__main__":
    print(json.dumps(uvloop.run(_main(Job(**json.load(sys.stdin))))))
