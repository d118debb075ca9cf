"""What candidates cost end to end: decode, pre, network, post; by turns, so that noise hits all alike.

A round asks every candidate the same items, in an order that is drawn anew. Ratios to the START are made
round by round, and their interval by the bootstrap over rounds: what both share goes out.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import numpy as np

from ..engine.settings import usable_cores
from ..errors import ModelFailed
from ..runtimes.pipeline import Pipeline
from ..sampling import evenly
from ..tensors import Array
from .candidate import Candidate, opened
from .intervals import Interval, interval
from .stages import settle

ITEMS = 4
"""Items of a round."""
ROUNDS, LEAST_ROUNDS = 15, 3
BATCHES = (1, 4, 16)
TURNS = 8
"""Runs of one core at batch 1 in a round; fewer at larger ones."""
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
    """From the process's start to the first answer."""
    size_bytes: int
    """Of the network's file."""
    throughput_interval: Interval | None = None
    """That of `throughput`, by the bootstrap over rounds; None in reports of earlier versions."""

    @property
    def throughput_notes(self) -> list[str]:
        """What is said beside the throughput: its interval, where that is known, and the batch."""
        known = self.throughput_interval
        return [
            *([f"{known.low:.1f} to {known.high:.1f}"] if known is not None else []),
            f"batch {self.batch}",
        ]


class Latency(msgspec.Struct, frozen=True):
    """Seconds of every item, by round."""

    rounds: tuple[tuple[float, ...], ...]


def latencies(
    candidates: Mapping[str, Candidate],
    items: Sequence[bytes],
    *,
    rounds: int = ROUNDS,
    seconds: float = float("inf"),
    tick: Callable[[], None] = lambda: None,
) -> dict[str, Latency]:
    """Every candidate's times, measured by turns.

    Args:
        candidates: by id.
        items: encoded.
        rounds: each asks every candidate `ITEMS` items.
        seconds: after these no further round begins, if there were `LEAST_ROUNDS`.
        tick: called after each turn.
    """
    random = np.random.default_rng(0)
    taken = evenly(items, ITEMS)
    found: dict[str, list[tuple[float, ...]]] = {name: [] for name in candidates}
    begun = time.monotonic()
    with contextlib.ExitStack() as entered:
        pipelines = {
            name: _settled(entered, candidate, usable_cores(), taken)
            for name, candidate in candidates.items()
        }
        for turn in range(rounds + 1):
            if turn > LEAST_ROUNDS and time.monotonic() - begun > seconds:
                break
            for name in random.permutation(sorted(pipelines)):
                times = tuple(_seconds(pipelines[name], item) for item in taken)
                tick()
                if turn:  # the first round warms up
                    found[name].append(times)
    return {name: Latency(tuple(times)) for name, times in found.items()}


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
) -> dict[str, tuple[Interval, int]]:
    """Items a second with a network of one thread on every core, at the best of `BATCHES`; and that batch.

    Medians of rounds in which all candidates take turns. After `seconds` no further round begins, if there
    was one.
    """
    cores, begun = usable_cores(), time.monotonic()
    rates: dict[str, dict[int, list[float]]] = {name: {batch: [] for batch in BATCHES} for name in candidates}
    taken = evenly(items, TURNS)
    with contextlib.ExitStack() as entered:
        pool = entered.enter_context(ThreadPoolExecutor(cores))
        pipelines = {
            name: [_settled(entered, candidate, 1, taken) for _ in range(cores)]
            for name, candidate in candidates.items()
        }
        for own in pipelines.values():
            _rate(pool, own, taken, 1)  # warms up
        for turn in range(rounds):
            if turn and time.monotonic() - begun > seconds:
                break
            for batch in BATCHES:
                for name, own in pipelines.items():
                    rates[name][batch].append(_rate(pool, own, taken, batch))
                    tick()
    best = {name: max(found, key=lambda batch: np.median(found[batch])) for name, found in rates.items()}
    return {name: (interval(np.array(rates[name][batch])), batch) for name, batch in best.items()}


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


def start_up(candidate: Candidate, item: bytes) -> tuple[float, int]:
    """Seconds from a new process to its first answer, and the most memory that it had.

    Raises:
        ModelFailed: the process ended with an error.
    """
    bundle = candidate.bundle
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
        command = [*program, str(bundle.path), str(place), how]
        begun = time.perf_counter()
        done = subprocess.run(command, capture_output=True, timeout=SECONDS, check=False)
        seconds = time.perf_counter() - begun
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().splitlines() or ["no reason was given"]
        raise ModelFailed(f"{bundle.manifest.version} does not start: {last[-1]}")
    return seconds, int(json.loads(done.stdout)["peak_bytes"])


def p50_ms(latency: Latency) -> float:
    """Milliseconds of one item, the median of all."""
    return round(float(np.percentile(np.array(latency.rounds) * 1e3, 50)), 3)


def figures(
    candidate: Candidate,
    latency: Latency,
    start: Latency,
    best: tuple[Interval, int],
    item: bytes,
) -> Figures:
    """All that one candidate costs; its latency and its throughput were measured beside the others."""
    times = np.array(latency.rounds).ravel() * 1e3
    rate, batch = best
    seconds, peak = start_up(candidate, item)
    manifest = candidate.bundle.manifest
    return Figures(
        p50_ms=p50_ms(latency),
        p95_ms=round(float(np.percentile(times, 95)), 3),
        ratio=ratio(latency, start),
        throughput=round(rate.value, 2),
        throughput_interval=rate,
        batch=batch,
        peak_bytes=peak,
        start_seconds=round(seconds, 3),
        size_bytes=manifest.files[manifest.graphs.net.file].size,
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
