"""A version that changes under load, again and again: what callers notice, and whether memory comes back."""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil

from modelport import AsyncClient, Bundle, ModelportError

from ..context import Context
from ..result import Goal, Result, Table

NAME = "swap"
SWAPS = 50
CLIENTS = 2
"""Each asks again as soon as it is answered: with two of them both cores are busy, and p99 is the server's
time more than that in a queue."""
CALM_SECONDS = 1.0
LONGEST_SWAP = 180.0
"""A version that loads steps back for those that answer: on a machine that is full this takes seconds."""
DIGITS = Path(__file__).parents[3] / "src" / "modelport" / "models" / "digits" / "1"


@dataclass
class Seen:
    """What was seen over all swaps; latencies in seconds."""

    before: list[float] = field(default_factory=list)
    during: list[float] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)
    """p99 while a version loads and takes over, over that of the second before: for each swap."""
    without: list[float] = field(default_factory=list)
    """The same of two seconds without a swap."""
    took: list[float] = field(default_factory=list)
    """Seconds from a version's arrival to its first answer."""
    sizes: list[float] = field(default_factory=list)
    """MiB after each swap."""
    failed: int = 0


def run(context: Context) -> Result:
    """Fifty new versions of the digits model, one after the other."""
    result = Result(
        NAME,
        "Versions that change under load",
        f"The shipped digits bundle, {CLIENTS} clients that ask for its network (OIP binary) without pause, "
        f"and {SWAPS} new versions put into the repository one after the other. Compared are the 99th "
        "percentiles of the latency in the second before a version comes and in the time in which it loads "
        "and takes over; beside that stands what two seconds without a swap differ by. Memory is that of the "
        "server and its executors, shared pages once.",
    )
    seen = asyncio.run(_measured(context))
    early, late = statistics.median(seen.sizes[1:6]), statistics.median(seen.sizes[-5:])
    figures = {
        "answers": f"{len(seen.before) + len(seen.during):,}",
        "failed requests": str(seen.failed),
        "p99 ms, before and during": f"{p99(seen.before) * 1e3:.2f}, {p99(seen.during) * 1e3:.2f}",
        "p99 of two seconds without a swap, median and worst": _middle_and_worst(seen.without),
        "p99 during over before, median and worst": _middle_and_worst(seen.ratios),
        "seconds until a version answers, median and worst": _middle_and_worst(seen.took),
        "MiB after the versions 2 to 6, and after the last 5": f"{early:.0f}, {late:.0f}",
    }
    result.tables = [Table(f"{SWAPS} swaps", ["what", "figure"], [list(each) for each in figures.items()])]
    result.goals = [
        Goal("failed requests", 0, seen.failed, at_most=True),
        Goal(
            "p99 during over before, all swaps together", 2, p99(seen.during) / p99(seen.before), at_most=True
        ),
        Goal("p99 during over before, the median swap", 2, statistics.median(seen.ratios), at_most=True),
        Goal("p99 during over before, the worst swap", 2, max(seen.ratios), at_most=True),
        Goal(
            "memory after the last 5 versions over that after the versions 2 to 6",
            1.05,
            late / early,
            at_most=True,
        ),
    ]
    result.settings = f"{SWAPS} swaps, {CLIENTS} clients"
    return result


def p99(seconds: list[float]) -> float:
    """Seconds that 99 of 100 answers took at most."""
    return float(np.percentile(seconds, 99))


def _middle_and_worst(values: list[float]) -> str:
    return f"{statistics.median(values):.2f}, {max(values):.2f}"


async def _measured(context: Context) -> Seen:
    with tempfile.TemporaryDirectory() as folder:
        repo = Path(folder) / "repo"
        first = Bundle.open(DIGITS)
        first.save_as(repo / "digits" / "1")
        with _serving(repo) as (url, pid):
            answers: list[tuple[float, float, str]] = []
            stop = asyncio.Event()
            asking = asyncio.ensure_future(_load(url, stop, answers, context))
            await asyncio.sleep(2)
            seen = Seen()
            for version in range(2, SWAPS + 2):
                # Made before the clock starts: it is this process, which asks, that has to make it.
                made = Path(folder) / "made" / str(version)
                await asyncio.to_thread(first.derive, made, {}, version=str(version))
                await _swap(made, repo / "digits" / str(version), answers, seen)
                seen.sizes.append(_memory(pid))
                context.say(f"version {version}: {seen.ratios[-1]:.2f}, {seen.took[-1]:.1f} s")
            stop.set()
            seen.failed = await asking
    return seen


async def _swap(made: Path, place: Path, answers: list[tuple[float, float, str]], seen: Seen) -> None:
    """Put one version into the repository, and wait until it answers.

    Raises:
        RuntimeError: it does not.
    """
    calm = time.perf_counter()
    await asyncio.sleep(CALM_SECONDS)
    middle = time.perf_counter()
    await asyncio.sleep(CALM_SECONDS)
    start = time.perf_counter()
    made.rename(place)
    while not any(version == place.name for _, _, version in answers[-50:]):
        if time.perf_counter() - start > LONGEST_SWAP:
            raise RuntimeError(f"version {place.name} did not answer within {LONGEST_SWAP:g} s")
        await asyncio.sleep(0.02)
    seen.took.append(time.perf_counter() - start)
    await asyncio.sleep(0.5)  # the old one drains and ends
    first = [seconds for when, seconds, _ in answers if calm <= when < middle]
    before = [seconds for when, seconds, _ in answers if middle <= when < start]
    during = [seconds for when, seconds, _ in answers if start <= when]
    seen.ratios.append(p99(during) / p99(before))
    seen.without.append(p99(before) / p99(first))
    seen.before += before
    seen.during += during
    answers.clear()


async def _load(
    url: str, stop: asyncio.Event, answers: list[tuple[float, float, str]], context: Context
) -> int:
    """Ask without a pause; (when, seconds, version) of each answer goes to `answers`. The failures."""
    rows = np.random.default_rng(0).random((1, 1, 28, 28), np.float32)

    async def caller() -> int:
        failed = 0
        async with AsyncClient(url, retries=0) as client:
            while not stop.is_set():
                began = time.perf_counter()
                try:
                    result = await client.infer("digits.net", {"input": rows})
                except ModelportError as problem:
                    context.say(f"failed: {problem}")
                    failed += 1
                    continue
                answers.append((began, time.perf_counter() - began, str(result.version)))
        return failed

    return sum(await asyncio.gather(*(caller() for _ in range(CLIENTS))))


def _memory(pid: int) -> float:
    """MiB of the server and its children, shared pages once."""
    server = psutil.Process(pid)
    return sum(each.memory_full_info().pss for each in (server, *server.children())) / 2**20


@contextmanager
def _serving(repo: Path) -> Iterator[tuple[str, int]]:
    """A server of the repository that looks for new versions: its address and its process id."""
    command = [sys.executable, "-m", "modelport", "serve", str(repo), "--port", "0", "--json"]
    server = subprocess.Popen([*command, "--watch", "100ms"], stdout=subprocess.PIPE)
    try:
        assert server.stdout is not None
        yield json.loads(server.stdout.readline())["url"], server.pid
    finally:
        server.terminate()
        server.wait(60)
