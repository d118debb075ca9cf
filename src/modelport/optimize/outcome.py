"""What the search found, as values that JSON holds: `report.json`."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from .judge import Judgement
from .measure import Figures
from .schema import schema_of

SCHEMA = "modelport.optimize/1"

Status = Literal["start", "chosen", "kept", "tie", "dominated", "slower", "refused", "undecided", "skipped"]


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
