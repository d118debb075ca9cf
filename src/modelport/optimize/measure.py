"""What candidates cost end to end: decode, pre, network, post; by turns, so that noise hits all alike.

A round asks every candidate the same items, in an order that is drawn anew. Ratios to the START are made
round by round, and their interval by the bootstrap over rounds: what both share goes out. A candidate that
fails is left out from there on, with the reason; where the START fails, there is nothing to compare with.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import numpy as np

from ..engine.cores import usable_cores
from ..errors import ModelFailed
from ..runtimes.pipeline import Pipeline
from ..sampling import evenly
from ..tensors import Array
from .bench.memory import COPIES, SHARE, free_memory
from .candidate import START, Candidate, disk_is_full, in_a_line, opened
from .intervals import Interval, interval, percentile
from .stages import settle

ITEMS = 4
"""Items of a round."""
ROUNDS, LEAST_ROUNDS = 15, 6
"""Of the median of n values the bootstrap draws none beyond their ends, which hold it 1 - 2**(1 - n) of the
time: six are the fewest that 95 % can be said of."""
BATCHES = (1, 4, 16)
TURNS = 8
"""Runs of one core at batch 1 in a round; fewer at larger ones."""
STARTS = 2
"""Starts of each candidate: what else the machine does makes one slower, and never quicker."""
SECONDS = 120.0
"""The longest that a start may take."""


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What one candidate costs on this machine."""

    p50_ms: float
    """Of one item at a time, end to end, with all cores."""
    p95_ms: float
    ratio: Interval
    """Its latency over that of the START, round by round."""
    throughput: float
    """Items a second at `batch`, as many at a time as there are cores."""
    batch: int
    peak_bytes: int
    """The most memory of a process that answers with it."""
    start_seconds: float
    """From the process's start to the first answer, the least of `STARTS`."""
    size_bytes: int
    """Of the network's file."""
    throughput_interval: Interval | None = None
    """That of `throughput`, by the bootstrap over rounds; None in reports of earlier versions."""
    p95_interval: Interval | None = None
    """That of `p95_ms`, by the bootstrap over rounds; None in reports of earlier versions."""

    @property
    def throughput_notes(self) -> list[str]:
        """What is said beside the throughput: its interval, where several rounds show one, and the batch."""
        known, said = self.throughput_interval, []
        if known is not None:
            said.append(f"{known.low:.1f} to {known.high:.1f}" if known.low < known.high else "one round")
        return [*said, f"batch {self.batch}"]


class Latency(msgspec.Struct, frozen=True):
    """Seconds of every item, by round."""

    rounds: tuple[tuple[float, ...], ...]


@contextlib.contextmanager
def guarded(name: str, failed: dict[str, str]) -> Iterator[None]:
    """Where a candidate fails here, the reason is kept in `failed`, and the others go on.

    Raises:
        ModelFailed: the START failed, which all are compared with.
    """
    try:
        yield
    except Exception as problem:  # a runtime of a third party raises what it likes
        if disk_is_full(problem):
            raise
        reason = f"failed while it was measured: {in_a_line(problem)}"
        if name == START:
            raise ModelFailed(f"the bundle as it is, which all is compared with, {reason}") from problem
        failed[name] = f"it {reason}"


def latencies(
    candidates: Mapping[str, Candidate],
    items: Sequence[bytes],
    *,
    rounds: int = ROUNDS,
    seconds: float = float("inf"),
    tick: Callable[[], None] = lambda: None,
) -> tuple[dict[str, Latency], dict[str, str]]:
    """Every candidate's times, measured by turns; and of those that failed the reason alone.

    Args:
        candidates: by id.
        items: encoded.
        rounds: each asks every candidate `ITEMS` items.
        seconds: after these no further round begins, if there were `LEAST_ROUNDS`.
        tick: called after each turn.

    Raises:
        ModelFailed: the START failed.
    """
    random = np.random.default_rng(0)
    taken = evenly(items, ITEMS)
    found: dict[str, list[tuple[float, ...]]] = {name: [] for name in candidates}
    failed: dict[str, str] = {}
    pipelines: dict[str, Pipeline] = {}
    begun = time.monotonic()
    with contextlib.ExitStack() as entered:
        for name, candidate in candidates.items():
            with guarded(name, failed):
                pipelines[name] = _settled(entered, candidate, usable_cores(), taken)
        for turn in range(rounds + 1):
            if turn > LEAST_ROUNDS and time.monotonic() - begun > seconds:
                break
            for name in map(str, random.permutation(sorted(pipelines.keys() - failed.keys()))):
                with guarded(name, failed):
                    times = tuple(_seconds(pipelines[name], item) for item in taken)
                    if turn:  # the first round warms up
                        found[name].append(times)
                tick()
    return {name: Latency(tuple(times)) for name, times in found.items() if name not in failed}, failed


def ratio(latency: Latency, start: Latency, seed: int = 0) -> Interval:
    """The median over rounds of this latency over the START's in the same round, with its interval."""
    own = np.median(np.array(latency.rounds), axis=1)
    other = np.median(np.array(start.rounds), axis=1)
    return interval(own / other, seed)


def throughputs(
    candidates: Mapping[str, Candidate],
    items: Sequence[bytes],
    *,
    rounds: int = 3,
    seconds: float = float("inf"),
    tick: Callable[[], None] = lambda: None,
) -> tuple[dict[str, tuple[Interval, int]], dict[str, str]]:
    """Items a second with a network of one thread on every core, at the best of `BATCHES`; and that batch.

    Medians of rounds in which all candidates take turns, and of those that failed the reason alone. After
    `seconds` no further round begins, if there was one. Where there is no room for all of them side by side,
    they are measured in groups, each beside the START, whose throughput in the first one the others are
    brought to.

    Raises:
        ModelFailed: the START failed.
    """
    found: dict[str, tuple[Interval, int]] = {}
    failed: dict[str, str] = {}
    groups = in_groups(candidates, usable_cores(), free_memory())
    for group in groups:
        rates = _rates(group, evenly(items, TURNS), rounds, seconds / len(groups), tick, failed)
        best = {name: max(own, key=lambda batch: np.median(own[batch])) for name, own in rates.items()}
        scale = 1.0
        if START in found:
            scale = found[START][0].value / float(np.median(rates[START][best[START]]))
        own = {name: (interval(scale * np.array(rates[name][batch])), batch) for name, batch in best.items()}
        found = own | found
    return {name: found[name] for name in candidates if name in found}, failed


def in_groups(
    candidates: Mapping[str, Candidate], cores: int, free: int | None
) -> list[dict[str, Candidate]]:
    """Candidates of which a copy for each core has room side by side, the START in every group.

    Args:
        free: bytes; None where that is not known, and all are in one group.
    """
    start = {name: each for name, each in candidates.items() if name == START}
    room = float("inf") if free is None else SHARE * free - cores * sum(map(_loaded_bytes, start.values()))
    groups: list[dict[str, Candidate]] = [{}]
    for name, own in candidates.items():
        if name == START:
            continue
        if groups[-1] and cores * sum(map(_loaded_bytes, (*groups[-1].values(), own))) > room:
            groups.append({})
        groups[-1][name] = own
    return [start | group for group in groups]


def _loaded_bytes(candidate: Candidate) -> int:
    return COPIES * _size(candidate)


def _size(candidate: Candidate) -> int:
    """Bytes of the network's file."""
    manifest = candidate.bundle.manifest
    return manifest.files[manifest.graphs.net.file].size


def _rates(
    candidates: Mapping[str, Candidate],
    items: Sequence[bytes],
    rounds: int,
    seconds: float,
    tick: Callable[[], None],
    failed: dict[str, str],
) -> dict[str, dict[int, list[float]]]:
    """Items a second by candidate and batch, one value a round; those that fail are told in `failed`."""
    cores, begun = usable_cores(), time.monotonic()
    rates: dict[str, dict[int, list[float]]] = {name: {batch: [] for batch in BATCHES} for name in candidates}
    pipelines: dict[str, list[Pipeline]] = {}
    with contextlib.ExitStack() as entered:
        pool = entered.enter_context(ThreadPoolExecutor(cores))
        for name, candidate in candidates.items():
            with guarded(name, failed):
                pipelines[name] = [_settled(entered, candidate, 1, items) for _ in range(cores)]
        for turn in range(rounds + 1):
            if turn > 1 and time.monotonic() - begun > seconds:
                break
            for batch in BATCHES:
                for name in [each for each in pipelines if each not in failed]:
                    with guarded(name, failed):
                        rate = _rate(pool, pipelines[name], items, batch)
                        if turn:  # the first round warms up: OpenVINO compiles for every shape that is new
                            rates[name][batch].append(rate)
                    tick()
    return {name: own for name, own in rates.items() if name not in failed}


def _rate(
    pool: ThreadPoolExecutor, pipelines: Sequence[Pipeline], items: Sequence[bytes], batch: int
) -> float:
    def job(pipeline: Pipeline, turn: int) -> None:
        whole = [items[(turn * batch + place) % len(items)] for place in range(batch)]
        pipeline.answer_many([pipeline.decode(item) for item in whole])

    turns = max(1, TURNS // batch)
    jobs = [(pipeline, turn) for turn in range(turns) for pipeline in pipelines]
    begun = time.perf_counter()
    list(pool.map(job, *zip(*jobs, strict=True)))
    return turns * len(pipelines) * batch / (time.perf_counter() - begun)


def starts(
    candidates: Mapping[str, Candidate], item: bytes, *, tick: Callable[[], None] = lambda: None
) -> tuple[dict[str, tuple[float, int]], dict[str, str]]:
    """Every candidate's `start_up`, one after the other; and of those that failed the reason alone.

    Raises:
        ModelFailed: the START failed.
    """
    found: dict[str, tuple[float, int]] = {}
    failed: dict[str, str] = {}
    for name, candidate in candidates.items():
        with guarded(name, failed):
            found[name] = start_up(candidate, item)
        tick()
    return found, failed


def start_up(candidate: Candidate, item: bytes) -> tuple[float, int]:
    """Seconds from a new process to its first answer, the least of `STARTS`, and the most memory that it had.

    Raises:
        ModelFailed: the process ended with an error, or had no answer within `SECONDS`.
    """
    how = json.dumps(
        {
            "variant": candidate.variant,
            "runtime": candidate.runtime,
            "settings": dict(candidate.settings),
        }
    )
    with tempfile.TemporaryDirectory(prefix="modelport-start-") as folder:
        place = Path(folder, "item")
        place.write_bytes(item)
        # -P: a file of the folder that this runs in is not to be taken for a module.
        program = [sys.executable, "-P", "-m", "modelport.optimize.startup"]
        command = [*program, str(candidate.bundle.path), str(place), how]
        found = [_started(command, candidate.bundle.manifest.version) for _ in range(STARTS)]
    return min(seconds for seconds, _ in found), max(peak for _, peak in found)


def _started(command: Sequence[str], version: str) -> tuple[float, int]:
    begun = time.perf_counter()
    try:
        done = subprocess.run(command, capture_output=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise ModelFailed(f"{version} gave no answer within {SECONDS:g} s of its start") from None
    seconds = time.perf_counter() - begun
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().splitlines() or ["no reason was given"]
        raise ModelFailed(f"{version} does not start: {last[-1]}")
    # A runtime may have said something before, and after.
    said = [line for line in done.stdout.splitlines() if line.startswith(b'{"peak_bytes"')]
    if not said:
        raise ModelFailed(f"{version} ended before it said how much memory it took")
    return seconds, int(json.loads(said[-1])["peak_bytes"])


def p50_ms(latency: Latency) -> float:
    """Milliseconds of one item, the median of all."""
    return round(float(np.percentile(np.array(latency.rounds) * 1e3, 50)), 3)


def figures(
    candidate: Candidate,
    latency: Latency,
    start: Latency,
    best: tuple[Interval, int],
    started: tuple[float, int],
) -> Figures:
    """All that one candidate costs; its latency and its throughput were measured beside the others."""
    p95 = percentile(np.array(latency.rounds) * 1e3, 95)
    rate, batch = best
    seconds, peak = started
    return Figures(
        p50_ms=p50_ms(latency),
        p95_ms=round(p95.value, 3),
        p95_interval=p95,
        ratio=ratio(latency, start),
        throughput=round(rate.value, 2),
        throughput_interval=rate,
        batch=batch,
        peak_bytes=peak,
        start_seconds=round(seconds, 3),
        size_bytes=_size(candidate),
    )


def _settled(
    entered: contextlib.ExitStack, candidate: Candidate, threads: int, items: Sequence[bytes]
) -> Pipeline:
    pipeline = entered.enter_context(opened(candidate, threads))
    settle(pipeline, items)
    return pipeline


def _seconds(pipeline: Pipeline, item: bytes) -> float:
    begun = time.perf_counter()
    decoded: dict[str, Array] = pipeline.decode(item)
    pipeline.answer(decoded)
    return time.perf_counter() - begun
