"""Which candidates are worth keeping, and which is the best: by figures with their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from ..runtimes.form import DEFAULT
from .candidate import START, Candidate, same_network
from .intervals import Interval
from .judge import Judgement
from .measure import Figures
from .outcome import Entry

SMALLER = 0.9
"""Of the START's size: what counts as smaller."""
NOT_SLOWER = 1.05
"""Of the START's latency, the upper end of the interval: what is taken for its size alone."""
FASTER = 1.02
"""Of the START's throughput."""
NEARLY = 0.95
"""Of a throughput: its rounds are three at most, and their bootstrap knows no others; less shows nothing."""
DIGITS = 6
"""Of points, where losses are compared."""
WHOLE = 1e-6
"""What a sum of binary fractions may be off a whole number."""


def settled(entries: Sequence[Entry]) -> tuple[list[Entry], str]:
    """The entries with their status, and the id of the best.

    Args:
        entries: the START's first; those that passed the gate have the status `kept`.
    """
    start = entries[0]
    assert start.figures is not None
    kept = [entry for entry in entries[1:] if entry.status == "kept"]
    best, how = _best(kept, start.figures)
    found = [start]
    for entry in entries[1:]:
        if entry.status == "kept":
            entry = _placed(entry, kept, start.figures, best, how)
        found.append(entry)
    return found, best.id if best else START


def fallback(entries: list[Entry], made: Mapping[str, Candidate], best: str) -> str:
    """What is taken where the best is not, since it needs another runtime or settings measured here.

    That is its network without the settings, or the fastest that every installation runs; empty where there
    is none.
    """
    if best == START or not made[best].machine_bound:
        return ""
    able = [
        entry
        for entry in entries
        if entry.status in ("kept", "tie", "dominated")
        and entry.figures is not None
        and made[entry.id].runtime == DEFAULT
    ]
    if made[best].runtime == DEFAULT:
        plain = (each.id for each in able if not made[each.id].machine_bound)
        return next((name for name in plain if same_network(made[name], made[best])), "")
    faster = [entry for entry in able if entry.figures is not None and entry.figures.ratio.high < 1]
    faster = [entry for entry in faster if not made[entry.id].machine_bound] or faster
    key = {entry.id: entry.figures.ratio.value for entry in faster if entry.figures is not None}
    return min(key, key=lambda name: key[name], default="")


ORDER = ("start", "chosen", "kept", "tie", "dominated", "slower", "undecided", "refused", "skipped")


def in_order(entries: Sequence[Entry]) -> list[Entry]:
    """As they are shown: what is best first, what was not tried last."""
    return sorted(entries, key=lambda entry: ORDER.index(entry.status))


def _best(kept: Sequence[Entry], start: Figures) -> tuple[Entry | None, str]:
    """The best of the surely faster, else the smallest of the surely not slower; and what decided."""
    faster = [entry for entry in kept if _figures(entry).ratio.high < 1]
    if faster:
        return _of_the_fastest(faster)
    smaller = [
        entry
        for entry in kept
        if _figures(entry).ratio.high <= NOT_SLOWER
        and _figures(entry).size_bytes < SMALLER * start.size_bytes
    ]
    best_size = min(smaller, key=lambda entry: _figures(entry).size_bytes, default=None)
    return best_size, "smaller, and not slower"


def _of_the_fastest(faster: Sequence[Entry]) -> tuple[Entry, str]:
    """Of those that none is surely faster than the one to take, and what decided.

    What cannot be told apart decides nothing. Of those whose throughput may as well be the best one, it is
    the one that loses least; of equals in that the one with the fewest steps that has nearly their best
    throughput.
    """
    bound = min(_figures(entry).ratio.high for entry in faster)
    alike = [entry for entry in faster if _figures(entry).ratio.low <= bound]
    if len(alike) == 1:
        return alike[0], "the fastest that passes"
    most = max(alike, key=_rate)
    busy = [entry for entry in alike if _meet(_throughput(entry), _throughput(most))]
    said = f"of {len(alike)} whose latencies tie for the fastest"
    if len(busy) == 1:
        return most, f"{said}, the one with the best throughput"
    said += f", {'all tie' if len(busy) == len(alike) else f'{len(busy)} tie'} for the best throughput"
    least = min(_lost(entry) for entry in busy)
    right = [entry for entry in busy if _lost(entry) == least]
    if len(right) == 1:
        return right[0], f"{said}, and it loses the least of these"
    said += f", {'all' if len(right) == len(busy) else len(right)} of these lose the least alike"
    near = [entry for entry in right if _rate(entry) >= NEARLY * max(map(_rate, right))]
    fewest = min(len(entry.passes) for entry in near)
    plainest = [entry for entry in near if len(entry.passes) == fewest]
    best = max(plainest, key=lambda entry: (_rate(entry), -_figures(entry).ratio.value))
    if len(plainest) < len(near):
        few = "1 step" if fewest == 1 else f"{fewest} steps"
        nearly = f"of those that have {NEARLY:.0%} of the best throughput or more it was made in the fewest"
        return best, f"{said}; {nearly} ({few})"
    return best, f"{said}, and it has the best throughput of those"


def _placed(entry: Entry, kept: Sequence[Entry], start: Figures, best: Entry | None, how: str) -> Entry:
    """With its status, and the reason; `how` says why the best is."""
    own = _figures(entry)
    times = f"{own.ratio.value:.2f} of the START's latency ({own.ratio.low:.2f} to {own.ratio.high:.2f})"
    if best is not None and entry.id == best.id:
        return _with(entry, "chosen", f"{how}: {times}")
    if own.ratio.low > 1 and own.throughput < FASTER * start.throughput:
        return _with(entry, "slower", f"slower than the START: {times}; {entry.explained}".rstrip("; "))
    better = next((other for other in kept if other.id != entry.id and _dominates(other, entry)), None)
    if better is not None:
        return _with(entry, "dominated", f"{better.id} is at least as good in everything: {times}")
    if best is not None and _overlap(own, _figures(best)):
        return _with(entry, "tie", f"tie with {best.id}: the intervals meet")
    return _with(entry, "kept", f"{times}{_worth(entry, best)}")


def _worth(entry: Entry, best: Entry | None) -> str:
    """Why the version has one that is not the best: what it has before that one."""
    if best is None:
        return ""
    own, other = _figures(entry), _figures(best)
    gains = [
        text
        for text, there in (
            ("it loses less", _lost(entry) < _lost(best)),
            ("it is smaller", own.size_bytes < other.size_bytes),
            ("it has more throughput", own.throughput > other.throughput),
        )
        if there
    ]
    said = f"; beside {best.id} {' and '.join(gains)}" if gains else ""
    return f"{said}; the version has it as well, for --variant"


def _dominates(one: Entry, other: Entry) -> bool:
    """Surely faster, and in nothing else worse."""
    a, b = _figures(one), _figures(other)
    return (
        a.ratio.high < b.ratio.low
        and a.throughput >= b.throughput
        and a.size_bytes <= b.size_bytes
        and _loss(one) <= _loss(other)
    )


def _overlap(one: Figures, other: Figures) -> bool:
    return _meet(one.ratio, other.ratio)


def _meet(one: Interval, other: Interval) -> bool:
    return one.low <= other.high and other.low <= one.high


def _rate(entry: Entry) -> float:
    return _figures(entry).throughput


def _throughput(entry: Entry) -> Interval:
    """With its interval, which is no narrower than what so few rounds show; see `NEARLY`."""
    value, known = _rate(entry), _figures(entry).throughput_interval
    low, high = (known.low, known.high) if known is not None else (value, value)
    return Interval(value, min(low, NEARLY * value), max(high, value / NEARLY))


def _loss(entry: Entry) -> float:
    return entry.judgement.loss if entry.judgement is not None else 0.0


def _lost(entry: Entry) -> float:
    """Without what sums of binary fractions are off: equal losses are equal."""
    return round(_loss(entry), DIGITS)


def _figures(entry: Entry) -> Figures:
    assert entry.figures is not None  # everything that passed was measured
    return entry.figures


def _with(entry: Entry, status: str, reason: str) -> Entry:
    changed: Entry = msgspec.structs.replace(entry, status=status, reason=reason)
    return changed


def gate_reason(judgement: Judgement, margin: float) -> str:
    """What the gate says, in a sentence."""
    if judgement.by == "agreement":
        said = _differing(judgement)
        end = f"at least {judgement.low:.2g}" if judgement.part else f"up to {judgement.high:.2g}"
        worst = f"{judgement.loss:.2g} points ({end})"
    else:
        change = f"{judgement.start:.4g} became {judgement.value:.4g}"
        said = f"{judgement.metric} {change} on {judgement.items} items"
        worst = f"a loss of {judgement.loss:.2g} points ({judgement.low:.2g} to {judgement.high:.2g})"
    if judgement.part:
        return f"{said}: {worst}, surely beyond {margin:g}; the other items were not asked"
    if judgement.verdict == "passes":
        return f"{said}: {worst}, within {margin:g}"
    if judgement.verdict == "fails":
        return f"{said}: {worst}, beyond {margin:g}"
    return f"{said}: {worst}; too few items to show that it is within {margin:g}"


def _differing(judgement: Judgement) -> str:
    """How many answers differ; one with objects may differ in part."""
    count = judgement.items * judgement.loss / 100
    if abs(count - round(count)) > WHOLE:
        return f"the objects in {judgement.items} items differ from the START's"
    number, verb = round(count), "differs" if round(count) == 1 else "differ"
    return f"{number or 'none'} of {judgement.items} answers {verb} from the START's"


def machine_note(figures: Mapping[str, Figures]) -> str:
    """A warning where the machine was too noisy to tell anything apart; empty else."""
    widths = [each.ratio.high - each.ratio.low for name, each in figures.items() if name != START]
    if widths and min(widths) > 0.3:
        return "the machine was noisy: no latency is known to better than 30 %; run it again when it is quiet"
    return ""
