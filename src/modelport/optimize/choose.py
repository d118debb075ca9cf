"""Which candidates are worth keeping, and which is the best: by figures with their intervals.

Latency, its p95 and throughput are told apart by their intervals. Loss counts as it was seen, on the same
items for all; the size is exact; memory and start-up are of two processes, and count where they differ by
more than they do from one process of a form to the next.
"""

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
LIGHTER = 0.95
"""Of another one's size: for less of a difference nobody keeps a form."""
LESS_MEMORY = 0.9
"""Of another one's peak: those of one process and the next differ by hundredths."""
SOONER = 0.75
"""Of another one's start: on a busy machine the quicker of two differs by tenths from the next two."""
NEARLY = 0.95
"""Of a throughput: its rounds are three at most, and their bootstrap knows no others; less shows nothing."""
ALONE = 0.82
"""The same of one round, of each of two: on a busy machine those of the same network differ by half."""
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
    right = [entry for entry in entries[1:] if entry.status == "kept"]
    best, how = _best(right, start)
    slower = [entry.id for entry in right if _is_slower(entry, start)]
    able = [entry for entry in right if entry.id not in slower]
    kept = _worth_having(able, start, best)
    found = [start]
    for entry in entries[1:]:
        if entry.id in slower:
            text = f"slower than the START: {_times(entry, start)}; {entry.explained}"
            entry = _with(entry, "slower", text.rstrip("; "))
        elif best is not None and entry.id == best.id:
            entry = _with(entry, "chosen", f"{how}: {_times(entry, start)}")
        elif entry.status == "kept":
            entry = _placed(entry, kept, able, best)
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
    quick = [entry for entry in faster(entries) if entry in able]
    quick = [entry for entry in quick if not made[entry.id].machine_bound] or quick
    return min(quick, key=lambda entry: _figures(entry).ratio.value).id if quick else ""


def faster(entries: Sequence[Entry]) -> list[Entry]:
    """Those that are surely faster than the START, and whose throughput is not surely less."""
    start = next((entry for entry in entries if entry.id == START), None)
    return [
        entry
        for entry in entries
        if entry.figures is not None
        and entry.figures.ratio.high < 1
        and (start is None or not _surely_more(start, entry))
    ]


ORDER = ("start", "chosen", "kept", "tie", "dominated", "slower", "undecided", "refused", "skipped")


def in_order(entries: Sequence[Entry]) -> list[Entry]:
    """As they are shown: what is best first, what was not tried last."""
    return sorted(entries, key=lambda entry: ORDER.index(entry.status))


def _best(right: Sequence[Entry], start: Entry) -> tuple[Entry | None, str]:
    """The best of the surely faster, else the smallest of the surely not slower; and what decided.

    None whose throughput is surely less than the START's.
    """
    quick = faster([start, *right])
    if quick:
        best, how = _of_the_fastest(quick)
        less = sum(_figures(entry).ratio.high < 1 for entry in right) > len(quick)
        return best, f"{how}, among those with no less throughput than the START" if less else how
    smaller = [
        entry
        for entry in right
        if not _surely_more(start, entry)
        and _figures(entry).ratio.low <= 1
        and _figures(entry).ratio.high <= NOT_SLOWER
        and _figures(entry).size_bytes < SMALLER * _figures(start).size_bytes
    ]
    best_size = min(smaller, key=lambda entry: _figures(entry).size_bytes, default=None)
    return best_size, "smaller, and not slower"


def _of_the_fastest(quick: Sequence[Entry]) -> tuple[Entry, str]:
    """Of those that none is surely faster than the one to take, and what decided.

    Latencies and throughputs that cannot be told apart decide nothing. Of those whose throughput may as well
    be the best one, the loss as it was seen decides, be it by one item; of equals in that it is the one with
    the fewest steps that has nearly their best throughput.
    """
    bound = min(_figures(entry).ratio.high for entry in quick)
    alike = [entry for entry in quick if _figures(entry).ratio.low <= bound]
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


def _is_slower(entry: Entry, start: Entry) -> bool:
    """Whether it is surely slower, without surely more throughput for it."""
    return _figures(entry).ratio.low > 1 and not _surely_more(entry, start)


def _worth_having(able: Sequence[Entry], start: Entry, best: Entry | None) -> list[Entry]:
    """Those that have something before each of the others, the best and the START, which are there anyway.

    Of several that have nothing before each other the one that loses least stays, then the fastest.
    """
    found = [start, *sorted(able, key=lambda entry: (_lost(entry), _figures(entry).ratio.value))]
    for entry in found[:0:-1]:
        others = [other for other in found if other is not entry]
        if entry is not best and not all(_gains(entry, other) for other in others):
            found.remove(entry)
    return found


def _placed(entry: Entry, kept: Sequence[Entry], able: Sequence[Entry], best: Entry | None) -> Entry:
    """One that is neither the best nor slower, with its status and the reason.

    Args:
        kept: what is worth having, the START first.
        able: of what the others were compared with as well.
    """
    times = _times(entry, kept[0])
    if entry in kept:
        said = f"{times}; beside {_named(best or kept[0])} {' and '.join(_gains(entry, best or kept[0]))}"
        version = "; the version has it as well, for --variant" if best is not None else ""
        return _with(entry, "kept", f"{said}{version}")
    if best is not None and _ties(entry, best):
        more = _lost(entry) > _lost(best)
        loss = "and of what is lost; it loses more as it was seen" if more else "and it loses no more"
        text = f"tie with {best.id}: the intervals of latency and throughput meet, {loss}"
        return _with(entry, "tie", text)
    others = (other for other in (*kept[1:], kept[0], *able) if other.id != entry.id)
    better = next(other for other in others if not _gains(entry, other))
    text = f"{_named(better)} is as good or better in all that is measured, as far as can be told: {times}"
    return _with(entry, "dominated", text)


def _times(entry: Entry, start: Entry) -> str:
    """Its latency in words, and where it pays for that with its throughput."""
    own = _figures(entry)
    said = f"{own.ratio.value:.2f} of the START's latency ({own.ratio.low:.2f} to {own.ratio.high:.2f})"
    if own.ratio.high < 1 and _surely_more(start, entry):
        said += f", with less throughput than that: {own.throughput:.1f} items/s to {_rate(start):.1f}"
    return said


def _named(entry: Entry) -> str:
    return "the START" if entry.id == START else entry.id


def _gains(one: Entry, other: Entry) -> list[str]:
    """What one has before another of all that is measured, as far as it can be told, in words."""
    a, b = _figures(one), _figures(other)
    gains = {
        "it loses less": _lost(one) < _lost(other),
        "it is faster": a.ratio.high < b.ratio.low,
        "its slowest calls are faster": _below(a.p95_interval, b.p95_interval),
        "it has more throughput": _surely_more(one, other),
        "it is smaller": a.size_bytes < LIGHTER * b.size_bytes,
        "it takes less memory": a.peak_bytes < LESS_MEMORY * b.peak_bytes,
        "it starts sooner": a.start_seconds < SOONER * b.start_seconds,
    }
    return [text for text, there in gains.items() if there]


def _ties(entry: Entry, best: Entry) -> bool:
    """Whether it cannot be told apart from the best in latency and throughput, nor loses surely more."""
    if not _meet(_figures(entry).ratio, _figures(best).ratio):
        return False
    loses_no_more = _lost(entry) <= _lost(best) or _meet(_losses(entry), _losses(best))
    return loses_no_more and _meet(_throughput(entry), _throughput(best))


def _surely_more(one: Entry, other: Entry) -> bool:
    """Whether its throughput is."""
    return _throughput(one).low > _throughput(other).high


def _below(one: Interval | None, other: Interval | None) -> bool:
    """Whether a figure surely is; not where the interval of one is not known."""
    return one is not None and other is not None and one.high < other.low


def _meet(one: Interval, other: Interval) -> bool:
    return one.low <= other.high and other.low <= one.high


def _rate(entry: Entry) -> float:
    return _figures(entry).throughput


def _throughput(entry: Entry) -> Interval:
    """With its interval, which is no narrower than what so few rounds show; see `NEARLY` and `ALONE`."""
    value, known = _rate(entry), _figures(entry).throughput_interval
    if known is None or known.low == known.high:
        return Interval(value, ALONE * value, value / ALONE)
    return Interval(value, min(known.low, NEARLY * value), max(known.high, value / NEARLY))


def _loss(entry: Entry) -> float:
    return entry.judgement.loss if entry.judgement is not None else 0.0


def _losses(entry: Entry) -> Interval:
    known = entry.judgement
    return Interval(known.loss, known.low, known.high) if known is not None else Interval(0.0, 0.0, 0.0)


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
    if judgement.failed:
        count = judgement.items + judgement.failed
        said = f"fails on {judgement.failed} of {count} items that the START answers: {judgement.error}"
        return f"{said}; the other items were not asked" if judgement.part else said
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
        return f"some of the objects in {judgement.items} items differ from the START's"
    number, verb = round(count), "differs" if round(count) == 1 else "differ"
    return f"{number or 'none'} of {judgement.items} answers {verb} from the START's"


def machine_note(figures: Mapping[str, Figures]) -> str:
    """A warning where the machine was too noisy to tell anything apart; empty else."""
    widths = [each.ratio.high - each.ratio.low for name, each in figures.items() if name != START]
    if widths and min(widths) > 0.3:
        return "the machine was noisy: no latency is known to better than 30 %; run it again when it is quiet"
    return ""
