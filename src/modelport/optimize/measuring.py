"""What is measured at the end of a search, how long that takes, and what comes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from ..engine.settings import usable_cores
from . import measure
from .bench.noise import disturbed, look
from .candidate import START, Candidate
from .clock import Clock
from .outcome import Entry

SHARE_OF_LATENCY = 0.45
"""Of the time that is left for measuring when every candidate has been started once."""
OPEN = 4
"""Undecided candidates that are measured, those that lose least."""
STARTING = 3.0
"""Seconds that a candidate takes to be started as often as is measured, and opened, more or less."""


def chosen(entries: Sequence[Entry]) -> list[str]:
    """The ids of those that pass, and of the undecided that lose least."""
    undecided = sorted((entry for entry in entries if entry.status == "undecided"), key=loss)
    return [entry.id for entry in entries if entry.status == "kept"] + [each.id for each in undecided[:OPEN]]


def seconds_needed(entries: Sequence[Entry], an_item: float) -> tuple[float, float]:
    """Seconds that measuring takes at least, and those with which every round is asked.

    Args:
        an_item: seconds of one, with all cores at work.
    """
    count, cores = 1 + len(chosen(entries)), usable_cores()
    at_once = sum(max(1, measure.TURNS // batch) * batch for batch in measure.BATCHES) * cores
    least, most = (
        rounds * measure.ITEMS + turns * at_once
        for rounds, turns in ((1 + measure.LEAST_ROUNDS, 1 + 1), (1 + measure.ROUNDS, 1 + 3))
    )
    starting = (1 + count) * STARTING
    return starting + count * least * an_item, starting + count * most * an_item


def measured(
    entries: Sequence[Entry], made: Mapping[str, Candidate], items: tuple[bytes, ...], clock: Clock
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
    begun = clock.spent
    with measure.guarded(START, {}):
        measure.start_up(made[START], items[0])
    left = max(0.0, clock.left_to_measure - len(candidates) * (clock.spent - begun))
    before, begun = look(), clock.spent
    seconds = SHARE_OF_LATENCY * left
    times, failed = measure.latencies(candidates, items, seconds=seconds, tick=tick)
    able = {name: candidates[name] for name in times}
    rates, late = measure.throughputs(able, items, seconds=seconds, tick=tick)
    failed |= late
    notes = disturbed(before, look(), clock.spent - begun, usable_cores())
    figures: dict[str, measure.Figures] = {}
    for name in rates:
        with measure.guarded(name, failed):
            figures[name] = measure.figures(
                candidates[name], times[name], times[START], rates[name], items[0]
            )
    start = Entry(id=START, title="as it is", status="start", reason="what all is compared with")
    with_figures = [
        msgspec.structs.replace(entry, figures=figures.get(entry.id)) for entry in (start, *entries)
    ]
    return [_refused(entry, failed) for entry in with_figures], notes


def _refused(entry: Entry, failed: Mapping[str, str]) -> Entry:
    """The entry as it is, unless it is of a candidate that failed."""
    if entry.id not in failed:
        return entry
    changed: Entry = msgspec.structs.replace(entry, status="refused", reason=failed[entry.id])
    return changed


def loss(entry: Entry) -> float:
    """What a candidate loses, in points; of one that was not judged more than anything."""
    return entry.judgement.loss if entry.judgement is not None else float("inf")
