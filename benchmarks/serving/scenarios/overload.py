"""More requests than can be answered: how many are still answered in time."""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import sys
import urllib.parse
from dataclasses import dataclass, replace

from ..contestants import net_of
from ..context import Context
from ..machine import alive, wait_for_quiet
from ..models import MODELS
from ..openloop import Job, message
from ..places import HERE
from ..process import Failed, Running, Server, running
from ..result import Goal, Result, Table
from ..wrk import wrk
from .synthetic import sleeping

NAME = "overload"
DEADLINE = 0.05
SLO = f"--slo={DEADLINE * 1e3:g}ms"
LATE = 5e-3
"""Seconds that the client may be late (99th percentile) before a round is repeated."""
LOADS = (0.5, 0.8, 1.0, 1.5, 3.0)
"""Of the peak that the same server reaches in a closed loop."""
SLEEP_PEERS = ("mosec", "pytriton", "litserve", "bentoml", "fastapi")
PIXEL_PEERS = ("mosec", "pytriton", "fastapi")


@dataclass(frozen=True)
class Point:
    """One server under one offered load: medians of the rounds, all a second."""

    server: str
    peak: float
    load: float
    offered: float
    good: float
    late: float
    refused: float
    gave_up: float
    lost: float
    p50: float
    p99: float
    lateness_p99: float


def run(context: Context) -> Result:
    """A server that is short of its model, and one that is short of processors."""
    result = Result(
        NAME,
        "Overload: answers in time",
        "Requests are due at random moments (Poisson), whatever the server does, and an answer counts if it "
        f"comes within {DEADLINE * 1e3:g} ms of the moment it was due; unanswered requests hang up after a "
        "second. `load` is of the rate that the same server reached with wrk in a closed loop. Servers that "
        "can be told of the deadline are (Modelport `--slo 50ms`, mosec `--timeout`, Triton's queue policy, "
        "LitServe `timeout`, BentoML `max_latency_ms`). The client shares the two cores; `client late` says "
        "whether it kept up.",
    )
    model = MODELS["sleep"]
    pairs = [(sleeping("--executors=1"), sleeping("--executors=1", SLO))]
    pairs += [(peer, _told(peer)) for peer in context.peers(SLEEP_PEERS, model, 1, result)]
    slept = [point for plain, told in pairs for point in _points(context, plain, told, 64)]
    model = MODELS["conv_uint8"]
    pairs = [(net_of(model), net_of(model, SLO))]
    for name in PIXEL_PEERS:
        found = context.peers([name], model, 1 if name == "fastapi" else 2, result)
        pairs += [(peer, _told(peer)) for peer in found]
    computed = [point for plain, told in pairs for point in _points(context, plain, told, 16)]
    result.tables = [
        _table("The model that sleeps, one executor", slept),
        _table("The 224x224 network, uint8 bodies of 150 KB, both cores", computed),
    ]
    for points, what in ((slept, "the model that sleeps"), (computed, "the 224x224 network")):
        ours = [point for point in points if point.server.startswith("modelport")]
        highest = max((point.good for point in ours), default=0.0)
        worst = next((point.good for point in ours if point.load == LOADS[-1]), None)
        share = worst / highest if worst is not None and highest else None
        result.goals.append(Goal(f"{what}: goodput at 3x over the peak goodput", 0.9, share))
    result.notes += sorted({f"{told.name}: {told.note}" for _, told in pairs if told.note})
    result.measured = [point.__dict__ for point in (*slept, *computed)]
    return result


def _points(context: Context, plain: Server, told: Server, clients: int) -> list[Point]:
    """Find the server's peak in a closed loop, then offer parts and multiples of it.

    Args:
        plain: the server without a deadline, for its peak.
        told: the same server, told of the deadline.
    """
    if not re.search(context.only, told.name):
        return []
    asked = plain.request
    points = []
    try:
        with running(plain) as live:
            wrk(live.url, asked.files(), asked.headers, clients, 2)
            peak = wrk(live.url, asked.files(), asked.headers, clients, context.settings.seconds).rate
        if not peak:
            raise Failed(f"{plain.name}: no answer in {context.settings.seconds:g} s")
        with running(told) as live:
            for load in LOADS:
                rounds = [_offer(context, told, live, peak * load, n) for n in range(context.settings.rounds)]
                middle = {key: statistics.median(each[key] for each in rounds) for key in rounds[0]}
                del middle["client_cpu"]
                points.append(Point(told.name, peak, load, **middle))
                context.say(f"{told.name:32} {load:g}x of {peak:.0f}/s: {middle['good']:.0f}/s in time")
    except Failed as problem:
        context.failed(problem)
    return points


def _told(server: Server) -> Server:
    """A peer that knows of the deadline, in its own way."""
    command = list(server.command)
    if server.name.startswith("mosec"):
        command[command.index("--timeout") + 1] = str(round(DEADLINE * 1e3))
    environment = {**server.environment, "DEADLINE": str(DEADLINE)}
    return replace(server, command=tuple(command), environment=environment)


def _offer(context: Context, server: Server, live: Running, rate: float, turn: int) -> dict[str, float]:
    """One round; one in which the client itself was late is repeated."""
    port = urllib.parse.urlsplit(live.url).port
    assert port is not None
    asked, seconds = server.request, max(3.0, context.settings.seconds)
    job = Job(port, asked.path, asked.headers, str(asked.files()[0]), rate, seconds, DEADLINE, seed=turn)
    for _ in range(context.settings.retries + 1):
        wait_for_quiet(alive(live.processes()), patience=context.settings.patience)
        summary = _summary(job)
        if summary["lateness_p99"] < LATE:
            break
    return summary


def _summary(job: Job) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.serving.openloop"]
    done = subprocess.run(command, input=message(job), capture_output=True, text=True, cwd=HERE.parents[1])
    if done.returncode or done.stderr:
        raise RuntimeError(f"the open-loop client ended with {done.returncode}: {done.stderr[-500:]}")
    summary: dict[str, float] = json.loads(done.stdout)
    return summary


def _table(title: str, points: list[Point]) -> Table:
    columns = ["server", "load", "offered/s", "in time/s", "of its best", "p50 ms", "p99 ms", "late/s",
               "refused/s", "gave up/s", "client late p99 ms"]  # fmt: skip
    best = {name: max(p.good for p in points if p.server == name) for name in {p.server for p in points}}
    cells = [
        [
            p.server,
            f"{p.load:g}x",
            f"{p.offered:,.0f}",
            f"{p.good:,.0f}",
            f"{p.good / best[p.server]:.2f}" if best[p.server] else "0",
            f"{p.p50 * 1e3:.1f}",
            f"{p.p99 * 1e3:.1f}",
            f"{p.late:,.0f}",
            f"{p.refused:,.0f}",
            f"{p.gave_up + p.lost:,.0f}",
            f"{p.lateness_p99 * 1e3:.1f}",
        ]
        for p in points
    ]
    return Table(title, columns, cells)
