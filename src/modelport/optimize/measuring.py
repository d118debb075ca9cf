"""What is measured at the end of a search, how long that takes, and what comes of it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import msgspec

from ..engine.cores import usable_cores
from . import measure
from .bench.noise import disturbed, look, taken
from .candidate import START, Candidate
from .clock import Clock
from .outcome import Entry

SHARE_OF_LATENCY = 0.45
"""Of the time that is left for measuring when every candidate has been started."""
BUSY = 0.1
"""Of the cores, by others: threads that wait for each other lose to them, so that settings of threads seem to
gain which on an idle machine lose."""
THREADING = ("threads", "spinning")
"""Settings that change nothing but that."""
OPEN = 4
"""Undecided candidates that are measured, those that lose least."""
STARTING = 1.5
"""All starts and openings of a candidate over the START's starts alone, more or less; other runtimes take
longer than that one's."""


def chosen(entries: Sequence[Entry]) -> list[str]:
    """The ids of those that pass, and of the undecided that lose least."""
    undecided = sorted((entry for entry in entries if entry.status == "undecided"), key=loss)
    return [entry.id for entry in entries if entry.status == "kept"] + [each.id for each in undecided[:OPEN]]


def seconds_of_starts(start: Candidate, item: bytes) -> float:
    """Seconds that the START takes to be started as often as is measured.

    Raises:
        ModelFailed: it does not start.
    """
    begun = time.monotonic()
    with measure.guarded(START, {}):
        measure.start_up(start, item)
    return time.monotonic() - begun


def seconds_needed(entries: Sequence[Entry], an_item: float, starts: float) -> tuple[float, float]:
    """Seconds that measuring takes at least, and those with which every round is asked.

    Args:
        an_item: seconds of one, with all cores at work.
        starts: see `seconds_of_starts`.
    """
    count, cores = 1 + len(chosen(entries)), usable_cores()
    at_once = sum(max(1, measure.TURNS // batch) * batch for batch in measure.BATCHES) * cores
    least, most = (
        rounds * measure.ITEMS + turns * at_once
        for rounds, turns in ((1 + measure.LEAST_ROUNDS, 1 + 1), (1 + measure.ROUNDS, 1 + 3))
    )
    starting = count * STARTING * starts
    return starting + count * least * an_item, starting + count * most * an_item


def measured(
    entries: Sequence[Entry],
    made: Mapping[str, Candidate],
    items: tuple[bytes, ...],
    clock: Clock,
) -> tuple[list[Entry], list[str]]:
    """The START's entry and the others, those that pass, or may, with their figures; and what disturbed it.

    One that fails while it is measured is refused, and the others go on.

    Args:
        made: by id, the START too.
        items: encoded.

    Raises:
        ModelFailed: the START failed.
    """
    candidates = {name: made[name] for name in (START, *chosen(entries))}

    def tick() -> None:
        clock.say(f"measuring {len(candidates)} by turns")

    tick()
    # How long starting takes differs between runtimes, so that it comes first and the rest gets what is left.
    started, failed = measure.starts(candidates, items[0], tick=tick)
    before, begun = look(), clock.spent
    seconds = SHARE_OF_LATENCY * clock.left_to_measure
    able = {name: candidates[name] for name in started}
    times, late = measure.latencies(able, items, seconds=seconds, tick=tick)
    failed |= late
    able = {name: candidates[name] for name in times}
    rates, late = measure.throughputs(able, items, seconds=seconds, tick=tick)
    failed |= late
    after, took = look(), clock.spent - begun
    notes = disturbed(before, after, took, usable_cores())
    if (others := taken(before, after, took, usable_cores())) > BUSY:
        failed |= _misled(candidates, others)
    figures = {
        name: measure.figures(candidates[name], times[name], times[START], rates[name], started[name])
        for name in rates
    }
    start = Entry(id=START, title="as it is", status="start", reason="what all is compared with")
    with_figures = [
        msgspec.structs.replace(entry, figures=figures.get(entry.id)) for entry in (start, *entries)
    ]
    return [_refused(entry, failed) for entry in with_figures], notes


def _misled(candidates: Mapping[str, Candidate], others: float) -> dict[str, str]:
    """Why candidates that differ in settings of threads are not taken, by id."""
    reason = (
        f"settings of threads cannot be compared while other programs use {others:.0%} of the cores; "
        "modelport repeat measures it again"
    )
    threading = [name for name, each in candidates.items() if not each.settings.keys().isdisjoint(THREADING)]
    return dict.fromkeys(threading, reason)


def _refused(entry: Entry, failed: Mapping[str, str]) -> Entry:
    """The entry as it is, unless it is of a candidate that failed, or whose figures mislead."""
    if entry.id not in failed:
        return entry
    changed: Entry = msgspec.structs.replace(entry, status="refused", reason=failed[entry.id])
    return changed


def loss(entry: Entry) -> float:
    """What a candidate loses, in points; of one that was not judged more than anything."""
    return entry.judgement.loss if entry.judgement is not None else float("inf")
