"""What the search found, as values that JSON holds: `report.json`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from .candidate import START, Candidate, Pass
from .intervals import LEVEL as TIMES
from .judge import LEVEL, SURE, Judgement
from .measure import Figures
from .passes.reduced import Reduced
from .schema import schema_of

SCHEMA = "modelport.optimize/1"

Status = Literal["start", "chosen", "kept", "tie", "dominated", "slower", "refused", "undecided", "skipped"]


MEANINGS: dict[Status, str] = {
    "start": "the bundle as it is, which all are compared with",
    "chosen": "what the new version takes on machines of this class",
    "kept": "right, and better than the others in something; in the new version as well, where there is one",
    "tie": "right, in latency, throughput and loss not to be told apart from the chosen one",
    "dominated": "another one is as good or better in all that is measured, as far as can be told; or it was "
    "no faster at a quick look, and nothing else of it was measured",
    "slower": "right, and slower than the bundle as it is, without more throughput",
    "undecided": "too few items to show that it is right",
    "refused": "it loses more than it may, does not run, failed while it was measured, or the machine was "
    "too busy to compare it",
    "skipped": "not tried",
}
"""What each status says, for people."""


class Recipe(msgspec.Struct, frozen=True):
    """What makes a candidate again: `modelport repeat` reads it."""

    step: str
    """The pass's name."""
    fields: dict[str, Any]
    """Its settings."""
    base: str
    """The id of the candidate that it works on."""


class Elsewhere(msgspec.Struct, frozen=True, kw_only=True):
    """What a candidate answers on other machines, emulated here."""

    changes: bool
    """Whether answers are others on some machine."""
    portable: tuple[str, ...]
    """Classes of machines on which every stage gives the same bits."""
    replays: tuple[dict[str, Any], ...]
    """Each machine's, as `modelport verify --on` gives it."""
    said: tuple[str, ...]
    """The same in words, with the machines that could not be asked."""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One candidate, tried or not."""

    id: str
    title: str
    status: Status
    reason: str
    """Why it has this status, in a sentence."""
    recipe: Recipe | None = None
    passes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    explained: str = ""
    """What ONNX Runtime makes of it here: which layers run in 8 bits, what did not fuse."""
    judgement: Judgement | None = None
    figures: Figures | None = None
    command: str = ""
    """What measures its figures again."""
    elsewhere: Elsewhere | None = None
    """Of the candidate that was chosen, or that is taken where its runtime is not installed."""


def entry_of(candidate: Candidate, recipe: Recipe, status: Status, reason: str) -> Entry:
    """A candidate that was made."""
    return Entry(
        id=candidate.id,
        title=candidate.title,
        status=status,
        reason=reason,
        recipe=recipe,
        passes=candidate.passes,
        notes=candidate.notes,
    )


def skipped(step: Pass | Reduced | Candidate, reason: str, recipe: Recipe) -> Entry:
    """What was not tried, and why."""
    return Entry(id=step.id, title=step.title, status="skipped", reason=reason, recipe=recipe)


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """The question, in full: `modelport repeat` asks it again."""

    bundle: str
    data: str
    labelled: str
    """Empty where agreement with the START had to do."""
    gate: str
    portable: bool
    seconds: float
    evaluation: dict[str, Any] = {}


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A whole search. Each candidate's `command` measures its figures again."""

    bundle: str
    version: str
    digest: str
    machine: str
    """The class of machine that the times are of: see `runtimes.machine`."""
    cores: int
    versions: dict[str, str]
    data: str
    items: int
    labelled: str
    """The name of the labelled data; empty where agreement with the START had to do."""
    margin: float
    asked: Asked
    entries: tuple[Entry, ...]
    chosen: str
    """The id of the best candidate; `start` where none is better."""
    loss_level: float = LEVEL
    """Of the interval of every `judgement`: its upper end is the one-sided bound at 95 % that the margin is
    held against. Of one that was asked a part of the items (`part`) it is 0.98."""
    latency_level: float = TIMES
    """Of the intervals of latency and throughput."""
    written: str = ""
    """NAME/VERSION of the new bundle; empty where nothing was written."""
    folder: str = ""
    """NAME/VERSION.report, where the report is."""
    command: str = ""
    """What repeats the search."""
    notes: tuple[str, ...] = ()
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, with the schema's name."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return {"schema": SCHEMA, **plain}


def gained(report: Report) -> str:
    """What the chosen one gains and loses, in a line; empty where nothing was chosen."""
    by_id = {entry.id: entry for entry in report.entries}
    start, best = by_id[START].figures, by_id[report.chosen]
    own, judgement = best.figures, best.judgement
    if report.chosen == START or start is None or own is None or judgement is None:
        return ""
    times, size = own.throughput / start.throughput, own.size_bytes / start.size_bytes
    said = f"{times:.2f} times the items a second, {own.ratio.value:.2f} of the latency"
    said = f"{said}, {size:.2f} of the size"
    return f"{said}; {metric_of(report)} {judgement.start:.4g} became {judgement.value:.4g}"


def judged_by(report: Report) -> str:
    """What the loss is of: a metric and the data with the known answers, or agreement."""
    if not report.labelled:
        return "agreement with the answers of the bundle as it is, which says nothing of who is right"
    return f"{metric_of(report)}, against the known answers in {report.labelled}"


def metric_of(report: Report) -> str:
    """What a loss is lost of: `accuracy`, `map`, …"""
    judged = [entry.judgement for entry in report.entries if entry.judgement is not None]
    found = (each.metric for each in judged if not report.labelled or each.by == "accuracy")
    return next(found, "the metric" if report.labelled else "agreement")


def other_level(judgement: Judgement) -> str:
    """The level of the interval of the loss, where it is another than those of the report; else empty."""
    return f"{100 * SURE:g} %" if judgement.part else ""


def by_reason(entries: Sequence[Entry]) -> dict[str, list[Entry]]:
    """What was not tried, by the reason: of most there is one for many."""
    found: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry.status == "skipped":
            found.setdefault(entry.reason, []).append(entry)
    return found


def in_lines(name: str, most: int) -> list[str]:
    """A candidate's id in lines of at most so many letters, broken behind a hyphen where there is one."""
    lines = [""]
    for part in name.replace("-", "-\0").split("\0"):
        if lines[-1] and len(lines[-1]) + len(part) > most:
            lines.append("")
        lines[-1] += part
    return lines


def report_schema() -> dict[str, Any]:
    """The JSON Schema of `report.json`."""
    return schema_of(Report, SCHEMA, "report.json of modelport optimize")
