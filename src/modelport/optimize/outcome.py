"""What the search found, as values that JSON holds: `report.json`."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from .judge import Judgement
from .measure import Figures

SCHEMA = "modelport.optimize/1"

Status = Literal["start", "chosen", "kept", "tie", "dominated", "slower", "refused", "undecided", "skipped"]


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One candidate, tried or not."""

    id: str
    title: str
    status: Status
    reason: str
    """Why it has this status, in a sentence."""
    passes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    explained: str = ""
    """What ONNX Runtime makes of it here: which layers run in 8 bits, what did not fuse."""
    judgement: Judgement | None = None
    figures: Figures | None = None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A whole search."""

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
    entries: tuple[Entry, ...]
    chosen: str
    """The id of the best candidate; `start` where none is better."""
    written: str = ""
    """NAME/VERSION of the new bundle; empty where nothing was written."""
    command: str = ""
    """What repeats the search."""
    notes: tuple[str, ...] = ()
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, with the schema's name."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return {"schema": SCHEMA, **plain}
