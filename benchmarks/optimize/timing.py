"""All networks of a case by turns: network only and end to end, latency on all cores and throughput.

A round asks every contestant, in an order that is drawn anew; ratios are made round by round, so what slows
the machine for a while slows both sides. Nothing is made here: what `make` left in the cache is run.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from modelport.bundle.store import Bundle
from modelport.engine.cores import usable_cores
from modelport.optimize.intervals import interval
from modelport.runtimes.pipeline import Pipeline
from modelport.sampling import evenly

from .cases import Case
from .contestants import OURS, START, contestants
from .making import chosen_bundle, made_path, opened
from .networks import around
from .places import MADE, RESULTS, read_json, write_json

ITEMS = 8
BATCHES = (1, 8)
PAUSE = 0.02
"""Seconds between turns: ONNX Runtime's threads go on spinning for some milliseconds after a run."""
LEAST_ROUNDS = 5
TURN = 0.06
"""Seconds that a turn should take, so that small networks are run often enough."""
Tell = Callable[[str], None]


@dataclass
class Entrant:
    """One contestant, loaded in both ways."""

    id: str
    alone: Pipeline
    """One run at a time, on all cores."""
    beside: dict[int, list[Pipeline]]
    """As many runs at a time as there are cores, by batch size."""


def measured_path(case: Case) -> Path:
    """The times of a case."""
    return RESULTS / f"measured-{case.name}.json"


def measure(case: Case, data: Path, *, seconds: float, only: str, tell: Tell) -> None:
    """Time all networks of a case that were made, and write it down."""
    bundle, labelled = case.bundle(data), case.labelled(data)
    made = {
        name: told
        for name, told in read_json(made_path(case)).items()
        if "judged" in told and re.search(only, name)
    }
    items = _items(labelled.calibration)
    batches = BATCHES if bundle.manifest.graphs.net.batch else (1,)
    begun = time.monotonic()
    with contextlib.ExitStack() as stack:
        order = [each.id for each in contestants(case) if each.id in made]
        entrants = [_load(stack, case, bundle, name, made[name], batches) for name in order]
        tell(f"{case.name}: {len(entrants)} networks loaded in {time.monotonic() - begun:.0f} s")
        times = _rounds(entrants, items, seconds - (time.monotonic() - begun))
    told = {name: _figures(of, times[START]) for name, of in times.items()}
    cores = usable_cores()
    rounds = len(times[START]["net"])
    write_json(measured_path(case), {"rounds": rounds, "cores": cores, "items": ITEMS, "figures": told})
    for name, of in told.items():
        tell(f"    {name:22} " + "  ".join(f"{what} {of[what]['ratio']:.2f}" for what in sorted(of)))


def _items(folder: Path) -> list[bytes]:
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    return [path.read_bytes() for path in evenly(found, ITEMS)]


def _load(
    stack: contextlib.ExitStack, case: Case, bundle: Bundle, name: str, told: Any, batches: Sequence[int]
) -> Entrant:
    """Ours is opened as `serve` opens it; a peer's network is put between the START's pre and post."""
    folder, cores = MADE / "networks" / case.name / told["folder"], usable_cores()

    def keep(pipeline: Pipeline) -> Pipeline:
        return stack.enter_context(pipeline)

    if name in (START, OURS):
        own = bundle if name == START else chosen_bundle(bundle, folder, told)
        variant = "" if name == START else None
        alone = keep(Pipeline.open(own, threads=cores, variant=variant))
        many = [keep(Pipeline.open(own, threads=1, variant=variant)) for _ in range(cores)]
        return Entrant(name, alone, dict.fromkeys(batches, many))
    alone = keep(around(bundle, opened(bundle, folder, told, threads=cores, rows=1)))
    beside = {}
    for rows in batches:
        shared = opened(bundle, folder, told, threads=1, rows=rows, streams=cores)
        own_each = told["runtime"] == "onnxruntime"
        first = keep(around(bundle, shared))
        others = [
            keep(around(bundle, opened(bundle, folder, told, threads=1) if own_each else shared))
            for _ in range(cores - 1)
        ]
        beside[rows] = [first, *others]
    return Entrant(name, alone, beside)


def _rounds(entrants: Sequence[Entrant], items: Sequence[bytes], seconds: float) -> dict[str, Any]:
    """Seconds of a run, and runs a second, by contestant, by what was measured, by round."""
    random, until = np.random.default_rng(0), time.monotonic() + seconds
    times: dict[str, dict[str, list[float]]] = {each.id: {} for each in entrants}
    prepared = _prepared(entrants[0].alone, items)
    turns = 0
    with ThreadPoolExecutor(len(next(iter(entrants[0].beside.values())))) as pool:
        while turns <= LEAST_ROUNDS or time.monotonic() < until:
            for place in random.permutation(len(entrants)):
                turned = [*items[turns % ITEMS :], *items[: turns % ITEMS]]
                for what, value in _turn(entrants[place], turned, prepared, pool):
                    if turns:  # the first round warms up
                        times[entrants[place].id].setdefault(what, []).append(value)
            turns += 1
    return times


def _prepared(pipeline: Pipeline, items: Sequence[bytes]) -> list[dict[str, np.ndarray]]:
    taken = {spec.name for spec in pipeline.bundle.manifest.graphs.net.signature.inputs}
    made = [pipeline.pre(pipeline.decode(item)) for item in items]
    return [{name: array for name, array in each.items() if name in taken} for each in made]


def _turn(
    entrant: Entrant, items: Sequence[bytes], prepared: Sequence[Any], pool: ThreadPoolExecutor
) -> Iterator[tuple[str, float]]:
    """One contestant's part of a round."""
    alone = entrant.alone
    single = [{name: array[None] for name, array in item.items()} for item in prepared]
    time.sleep(PAUSE)
    alone.net(single[0])
    yield "net", _each(lambda place: alone.net(single[place]), len(items))
    yield "whole", _each(lambda place: alone.answer(alone.decode(items[place])), len(items))
    time.sleep(PAUSE)
    for rows, pipelines in entrant.beside.items():
        batch = {
            name: np.stack([prepared[place % len(items)][name] for place in range(rows)])
            for name in prepared[0]
        }

        def net(pipeline: Pipeline, turn: int, batch: Any = batch) -> None:
            pipeline.net(batch)

        def whole(pipeline: Pipeline, turn: int, rows: int = rows) -> None:
            encoded = [items[(turn * rows + place) % len(items)] for place in range(rows)]
            pipeline.answer_many([pipeline.decode(item) for item in encoded])

        yield f"net rate {rows}", _rate(pool, pipelines, net, rows)
        yield f"whole rate {rows}", _rate(pool, pipelines, whole, rows)


def _each(run: Callable[[int], Any], items: int) -> float:
    """Median seconds of one run, over as many runs as fill a turn."""
    found: list[float] = []
    begun = time.perf_counter()
    while len(found) < items or time.perf_counter() - begun < TURN:
        at = time.perf_counter()
        run(len(found) % items)
        found.append(time.perf_counter() - at)
    return float(np.median(found))


def _rate(
    pool: ThreadPoolExecutor, pipelines: Sequence[Pipeline], run: Callable[[Pipeline, int], None], rows: int
) -> float:
    """Items a second, every pipeline in a thread of its own for a turn."""

    def work(pipeline: Pipeline) -> tuple[int, float]:
        run(pipeline, 0)
        count, at = 0, time.perf_counter()
        while count < 2 or time.perf_counter() - at < TURN:
            run(pipeline, count)
            count += 1
        return count, time.perf_counter() - at

    done = list(pool.map(work, pipelines))
    return sum(count * rows / seconds for count, seconds in done)


def _figures(own: dict[str, list[float]], start: dict[str, list[float]]) -> dict[str, Any]:
    """Medians, and ratios to the START round by round: above 1 is better in all."""
    told = {
        what: _compared([1 / v for v in own[what]], [1 / v for v in start[what]]) for what in ("net", "whole")
    }
    for what in ("net rate", "whole rate"):
        best = {
            side: max(
                (name for name in of if name.startswith(what)), key=lambda name: float(np.median(of[name]))
            )
            for side, of in (("own", own), ("start", start))
        }
        told[what] = _compared(own[best["own"]], start[best["start"]]) | {
            "batch": int(best["own"].split()[-1])
        }
    return told


def _compared(own: Sequence[float], start: Sequence[float]) -> dict[str, float]:
    ratios = np.array(own) / np.array(start)
    found = interval(ratios)
    return {
        "value": round(float(np.median(own)), 2),
        "ratio": round(found.value, 3),
        "low": round(found.low, 3),
        "high": round(found.high, 3),
    }
