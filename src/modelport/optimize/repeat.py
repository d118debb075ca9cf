"""`modelport repeat`: a candidate of a report is made, judged and measured again, beside the START."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from ..bundle.store import Bundle
from ..errors import InputError, ModelFailed, NotFound, UsageError, did_you_mean
from ..sampling import evenly
from . import measure
from .agreement import same_answers
from .bases import EXACT
from .candidate import START, Candidate, Pass
from .clock import Tell, silent
from .judge import Judgement, same
from .measure import Figures
from .outcome import SCHEMA, Entry, Recipe, Report
from .passes.layout import Layout
from .passes.reduced import Reduced
from .passes.runtime import OnRuntime
from .plan import Plan
from .recipe import key_of_making, made_by
from .search import ALIKE, Search
from .ways import Way, computed_alike, in_way

MAX_BYTES = 64 << 20


class Repeated(msgspec.Struct, frozen=True, kw_only=True):
    """One candidate as the report has it, and as it is found now."""

    id: str
    judgement: Judgement | None
    """None for the START."""
    figures: Figures
    before: Entry
    start_p50_ms: float
    """Of the START, measured beside the candidate."""
    start_p50_ms_before: float | None
    """The same in the report."""
    start_throughput: float
    """Items a second of the START, measured beside the candidate."""
    start_throughput_before: float | None
    """The same in the report."""

    @property
    def holds(self) -> bool:
        """Whether the verdict is the same one, and the two intervals of the latency meet."""
        return not self.changed

    @property
    def changed(self) -> tuple[Literal["verdict", "latency"], ...]:
        """What does not hold."""
        found: list[Literal["verdict", "latency"]] = []
        one, other = self.before.judgement, self.judgement
        if one is not None and other is not None and one.verdict != other.verdict:
            found.append("verdict")
        if self.before.figures is not None:
            then, now = self.before.figures.ratio, self.figures.ratio
            if then.low > now.high or now.low > then.high:
                found.append("latency")
        return tuple(found)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        said: dict[str, Any] = {
            "schema": "modelport.repeat/1",
            "holds": self.holds,
            "changed": list(self.changed),
        }
        said |= msgspec.to_builtins(self)
        return said


def read_report(path: str | os.PathLike[str]) -> Report:
    """A `report.json`.

    Raises:
        NotFound: no such file. InputError: it is something else.
    """
    place = Path(path)
    place = place / "report.json" if place.is_dir() else place
    try:
        if place.stat().st_size > MAX_BYTES:
            raise InputError(f"{place} has over {MAX_BYTES} bytes")
        plain = msgspec.json.decode(place.read_bytes())
        if not isinstance(plain, dict) or plain.pop("schema", None) != SCHEMA:
            raise InputError(f"{place} is no report of optimize; expected the schema {SCHEMA!r}")
        return msgspec.convert(plain, Report)
    except OSError as problem:
        raise NotFound(f"cannot read {str(place)!r}: {problem.strerror or problem}") from problem
    except (msgspec.DecodeError, msgspec.ValidationError) as problem:
        raise InputError(f"{place} is no report of optimize: {problem}") from problem


def repeat(report: Report, name: str | None = None, *, tell: Tell = silent) -> Repeated:
    """Make, judge and measure one candidate of a report again, with the settings that the report tells.

    Args:
        report: of a search; its bundle and its data have to be where they were.
        name: a candidate's id; None for the one that was chosen.

    Raises:
        NotFound: no such candidate, bundle or data. InputError: the bundle is another one now, or the
        candidate was never made. UsageError: no name, and nothing was chosen. ModelFailed: it fails while it
        is measured.
    """
    entries = {entry.id: entry for entry in report.entries}
    name = _chosen(report) if name is None else name
    if name not in entries:
        raise NotFound(f"the report has no candidate {name!r}", hint=did_you_mean(name, list(entries)))
    _check_made(entries, name)
    bundle = Bundle.open(report.asked.bundle)
    if bundle.digest != report.digest:
        digests = f"{bundle.digest[:12]}, and {report.digest[:12]} in the report"
        raise InputError(f"{bundle.path} is another bundle now: {digests}")
    asked = report.asked
    plan = Plan(
        margin=report.margin,
        gate="interval" if asked.gate == "interval" else "estimate",
        seconds=asked.seconds,
        portable=asked.portable,
        evaluation=asked.evaluation,
    )
    labelled = Path(asked.labelled) if asked.labelled else None
    with tempfile.TemporaryDirectory(prefix="modelport-repeat-") as folder:
        search = Search(bundle, Path(asked.data), labelled, Path(folder), plan, tell)
        candidate = _made(search, entries, name)
        judgement = _judged(search, entries, name) if name != START else None
        search.clock.say(f"{candidate.title}: measuring it beside the START")
        both, items = {START: search.start, name: candidate}, search.calibration.items
        (times, failed), (rates, late) = measure.latencies(both, items), measure.throughputs(both, items)
        if reason := (failed | late).get(name):
            raise ModelFailed(f"{name} cannot be measured: {reason}")
        started = measure.start_up(candidate, items[0])
        figures = measure.figures(candidate, times[name], times[START], rates[name], started)
    then = entries[START].figures if START in entries else None
    return Repeated(
        id=name,
        judgement=judgement,
        figures=figures,
        before=entries[name],
        start_p50_ms=measure.p50_ms(times[START]),
        start_p50_ms_before=then.p50_ms if then is not None else None,
        start_throughput=round(rates[START][0].value, 2),
        start_throughput_before=then.throughput if then is not None else None,
    )


def _chosen(report: Report) -> str:
    """The id of the candidate that was chosen.

    Raises:
        UsageError: none was.
    """
    if report.chosen != START:
        return report.chosen
    names = [entry.id for entry in report.entries if entry.command and entry.id != START]
    raise UsageError(
        f"nothing was chosen; name one of {', '.join(names)}"
        if names
        else "nothing was chosen, and no candidate was made"
    )


def _check_made(entries: Mapping[str, Entry], name: str) -> Recipe | None:
    """Its recipe; None of the START.

    Raises:
        InputError: it was never made.
    """
    if name == START:
        return None
    recipe = entries[name].recipe
    if recipe is None or entries[name].status == "skipped":
        raise InputError(f"{name} was never made: {entries[name].reason}")
    return recipe


def _made(search: Search, entries: dict[str, Entry], name: str) -> Candidate:
    """A candidate made as its recipe says, and before it what it was made of.

    Raises:
        InputError: it has no recipe, or what it asks does not apply any more.
    """
    recipe = _check_made(entries, name)
    if recipe is None:
        return search.start
    base, step = _made(search, entries, recipe.base), _pass_of(search, recipe)
    if isinstance(step, OnRuntime | Reduced):
        return in_way(step, base, search.found, search.calibration)
    if (there := search.found.made(step.id, key_of_making(step, base))) is not None:
        return there
    search.clock.say(f"{step.title}: making it")
    return made_by(step, base, search.calibrated, search.found)


def _judged(search: Search, entries: dict[str, Entry], name: str) -> Judgement:
    """As the search judges it: what computes the same as what it was made of is judged as that is."""
    recipe, items = _check_made(entries, name), evenly(search.calibration.items, ALIKE)
    if recipe is None:
        return same(len(items))
    candidate, base = _made(search, entries, name), _made(search, entries, recipe.base)
    step = _pass_of(search, recipe)
    if isinstance(step, OnRuntime | Reduced):
        alike = computed_alike(candidate, base)
    else:
        alike = isinstance(step, EXACT) and same_answers(base, candidate, items)
    return _judged(search, entries, recipe.base) if alike else search.judge.judge(candidate)


def _pass_of(search: Search, recipe: Recipe) -> Pass | Way:
    kinds: dict[str, type[Any]] = {step.name: type(step) for step in (*search.bases(), *search.passes())}
    kinds |= {kind.name: kind for kind in (OnRuntime, Layout, Reduced)}
    if recipe.step not in kinds:
        raise InputError(f"this version has no pass {recipe.step!r}")
    if not recipe.fields:
        plain: Pass = kinds[recipe.step]()
        return plain
    try:
        found: Pass | Way = msgspec.convert(recipe.fields, kinds[recipe.step])
    except msgspec.ValidationError as problem:
        raise InputError(f"this version's pass {recipe.step} has other settings: {problem}") from problem
    return found
