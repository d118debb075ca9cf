"""Are a candidate's answers the same on other processors? Asked of the chosen one, where time is left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from ..emulation.machine import machines
from ..runtimes.form import DEFAULT
from ..sampling import evenly
from ..verify.portability import Replay, portable, replay
from .candidate import START, Candidate, same_network
from .choose import fallback, settled
from .clock import Clock
from .outcome import Elsewhere, Entry
from .ways import computed_alike

ITEMS = 8
"""Of which so many are replayed as `replay` takes."""
FETCHED = "`modelport verify --on` fetches first what that needs"
LEAST_SECONDS = 10.0
"""With less time left no machine is asked."""
SHARE, PORTABLE_SHARE, MOST_SECONDS = 0.05, 0.2, 120.0
"""Of the time budget that is kept for them; more where portable answers were asked for."""


def settled_everywhere(
    entries: list[Entry],
    made: Mapping[str, Candidate],
    items: tuple[bytes, ...],
    clock: Clock,
    must: bool,
) -> tuple[list[Entry], str]:
    """The entries with their status and the id of the best, after replaying answers on other machines.

    A network is replayed without settings: that holds for each of its ways that compute alike. Where the
    best needs another runtime than ONNX Runtime, which no emulated machine has, the fastest that every
    installation runs is replayed.

    Args:
        entries: judged and measured, the START's first.
        made: the candidates, by id.
        items: encoded.
        clock: what bounds the replaying.
        must: refuse what is replayed where its answers change on some machine, and take the next.
    """
    while True:
        found, best = settled(entries)
        if best == START:
            return found, best
        replayed = best if made[best].runtime == DEFAULT else fallback(found, made, best)
        known = next((entry for entry in found if entry.id == replayed), None)
        if known is None or known.elsewhere is not None:
            return found, best
        there = asked(made[replayed], items, clock, must)
        ways = {name for name in made if same_network(made[name], made[replayed])}
        plain = msgspec.structs.replace(made[replayed], settings={})
        alike = {name for name in ways if computed_alike(made[name], plain)}
        found = [_with(entry, there) if entry.id in alike else entry for entry in found]
        entries = [_with(entry, there) if entry.id in alike else entry for entry in entries]
        if not (must and there.changes):
            return found, best
        entries = [_refused(entry, there) if entry.id in ways else entry for entry in entries]


def seconds_kept(budget: float, must: bool) -> float:
    """Seconds of the budget that the other machines are given; 0 where there is none that can be asked."""
    if not any(machine.available and machine.ready for machine in machines()):
        return 0.0
    return min(MOST_SECONDS, budget * (PORTABLE_SHARE if must else SHARE))


def note_of(entries: Sequence[Entry]) -> str:
    """That the best was replayed on no other machine, and what does that; empty where it was."""
    for entry in sorted(entries, key=lambda each: each.status != "chosen"):
        there = entry.elsewhere
        if (
            there is not None
            and entry.status != "refused"
            and not any(each["cases"] for each in there.replays)
        ):
            named = "" if entry.status == "chosen" else f" --variant {entry.id}"
            return (
                f"what {entry.id} answers on other kinds of processor is not known; "
                f"`modelport verify --on all{named}` asks them about the new version"
            )
    return ""


def asked(candidate: Candidate, items: tuple[bytes, ...], clock: Clock, must: bool = False) -> Elsewhere:
    """What other machines that can be emulated here answer, as far as time is left.

    Args:
        must: ask the first one also where none is.
    """
    replays: list[Replay] = []
    left_out: dict[str, list[str]] = {}
    for machine in machines():
        if not machine.available or not machine.ready:
            left_out.setdefault(machine.reason or FETCHED, []).append(machine.name)
        elif clock.left < LEAST_SECONDS and (replays or not must):
            left_out.setdefault("the time budget was spent", []).append(machine.name)
        else:
            clock.say(f"{candidate.title}: answering on {machine.title}")
            replays.append(
                replay(
                    candidate.bundle,
                    candidate.variant,
                    machine,
                    items=evenly(items, ITEMS),
                    seconds=max(clock.left, LEAST_SECONDS) / 2,
                )
            )
    said = [f"on {each.machine} {each.sentence()}" for each in replays]
    said += [f"{', '.join(names)}: not asked; {reason}" for reason, names in left_out.items()]
    return Elsewhere(
        changes=any(each.changes for each in replays),
        portable=portable(replays),
        replays=tuple(each.to_dict() for each in replays),
        said=tuple(said),
    )


def _with(entry: Entry, there: Elsewhere) -> Entry:
    return msgspec.structs.replace(entry, elsewhere=there)


def _refused(entry: Entry, there: Elsewhere) -> Entry:
    reason = f"its network's answers change on another machine: {'; '.join(there.said)}"
    return msgspec.structs.replace(entry, status="refused", reason=reason)
