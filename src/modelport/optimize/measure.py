"""What bundles cost end to end: decode, pre, network, post; by turns, so that noise hits all alike.

A round asks every bundle the same items, in an order that is drawn anew. Ratios to the START are made round
by round, and their interval by the bootstrap over rounds: what both share goes out.
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

from ..bundle.store import Bundle
from ..engine.settings import usable_cores
from ..errors import ModelFailed
from ..runtimes.pipeline import Pipeline
from ..tensors import Array

ITEMS = 4
"""Items of a round."""
ROUNDS = 15
BATCHES = (1, 4, 16)
TURNS = 8
"""Runs of one core at batch 1 in a round; fewer at larger ones."""
DRAWS = 1000
LEVEL = 0.95
SECONDS = 120.0
"""The longest that a start may take."""


class Interval(msgspec.Struct, frozen=True):
    """A figure, and where it would lie in 95 of 100 measurements like this one."""

    value: float
    low: float
    high: float


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What one bundle costs on this machine."""

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


class Latency(msgspec.Struct, frozen=True):
    """Seconds of every item, by round."""

    rounds: tuple[tuple[float, ...], ...]


def latencies(
    bundles: Mapping[str, Bundle],
    items: Sequence[bytes],
    *,
    rounds: int = ROUNDS,
    tick: Callable[[], None] = lambda: None,
) -> dict[str, Latency]:
    """Every bundle's times, measured by turns.

    Args:
        bundles: by id.
        items: encoded.
        rounds: each asks every bundle `ITEMS` items.
        tick: called after each turn.
    """
    random = np.random.default_rng(0)
    taken = [items[place * len(items) // ITEMS] for place in range(ITEMS)]
    found: dict[str, list[tuple[float, ...]]] = {name: [] for name in bundles}
    with contextlib.ExitStack() as opened:
        pipelines = {
            name: opened.enter_context(Pipeline.open(bundle, threads=usable_cores()))
            for name, bundle in bundles.items()
        }
        for turn in range(rounds + 1):
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
    ratios = own / other
    drawn = np.random.default_rng(seed).integers(0, len(ratios), (DRAWS, len(ratios)))
    medians = np.median(ratios[drawn], axis=1)
    tail = 50 * (1 - LEVEL)
    low, high = np.percentile(medians, [tail, 100 - tail])
    return Interval(float(np.median(ratios)), float(low), float(high))


def throughputs(
    bundles: Mapping[str, Bundle],
    items: Sequence[bytes],
    *,
    rounds: int = 3,
    tick: Callable[[], None] = lambda: None,
) -> dict[str, tuple[float, int]]:
    """Items a second with a network of one thread on every core, at the best of `BATCHES`; and that batch.

    Medians of rounds in which all bundles take turns.
    """
    cores = usable_cores()
    rates: dict[str, dict[int, list[float]]] = {name: {batch: [] for batch in BATCHES} for name in bundles}
    with contextlib.ExitStack() as opened:
        pool = opened.enter_context(ThreadPoolExecutor(cores))
        pipelines = {
            name: [opened.enter_context(Pipeline.open(bundle, threads=1)) for _ in range(cores)]
            for name, bundle in bundles.items()
        }
        for turn in range(rounds + 1):
            for batch in BATCHES:
                for name, own in pipelines.items():
                    rate = _rate(pool, own, items, batch)
                    tick()
                    if turn:
                        rates[name][batch].append(rate)
    return {
        name: max((float(np.median(found)), batch) for batch, found in by_batch.items())
        for name, by_batch in rates.items()
    }


def _rate(
    pool: ThreadPoolExecutor, pipelines: Sequence[Pipeline], items: Sequence[bytes], batch: int
) -> float:
    whole = [items[place % len(items)] for place in range(batch)]

    def job(pipeline: Pipeline) -> None:
        pipeline.answer_many([pipeline.decode(item) for item in whole])

    turns = max(1, TURNS // batch)
    begun = time.perf_counter()
    list(pool.map(job, [pipeline for _ in range(turns) for pipeline in pipelines]))
    return turns * len(pipelines) * batch / (time.perf_counter() - begun)


def start_up(bundle: Bundle, item: bytes) -> tuple[float, int]:
    """Seconds from a new process to its first answer, and the most memory that it had.

    Raises:
        ModelFailed: the process ended with an error.
    """
    with tempfile.TemporaryDirectory(prefix="modelport-start-") as folder:
        place = Path(folder, "item")
        place.write_bytes(item)
        command = [sys.executable, "-m", "modelport.optimize.startup", str(bundle.path), str(place)]
        begun = time.perf_counter()
        done = subprocess.run(command, capture_output=True, timeout=SECONDS, check=False)
        seconds = time.perf_counter() - begun
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().splitlines() or ["no reason was given"]
        raise ModelFailed(f"{bundle.manifest.version} does not start: {last[-1]}")
    return seconds, int(json.loads(done.stdout)["peak_bytes"])


def figures(
    bundle: Bundle,
    latency: Latency,
    start: Latency,
    best: tuple[float, int],
    item: bytes,
) -> Figures:
    """All that one bundle costs; its latency and its throughput were measured beside the others."""
    times = np.array(latency.rounds).ravel() * 1e3
    rate, batch = best
    seconds, peak = start_up(bundle, item)
    return Figures(
        p50_ms=round(float(np.percentile(times, 50)), 3),
        p95_ms=round(float(np.percentile(times, 95)), 3),
        ratio=ratio(latency, start),
        throughput=round(rate, 2),
        batch=batch,
        peak_bytes=peak,
        start_seconds=round(seconds, 3),
        size_bytes=bundle.manifest.files[bundle.manifest.graphs.net.file].size,
    )


def _seconds(pipeline: Pipeline, item: bytes) -> float:
    begun = time.perf_counter()
    decoded: dict[str, Array] = pipeline.decode(item)
    pipeline.answer(decoded)
    return time.perf_counter() - begun
