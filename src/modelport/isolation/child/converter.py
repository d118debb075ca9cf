"""What every converter is, and how it says that a source is not converted."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Protocol

from .frames import Array

LAST_WORDS = "last_words.json"
"""In the process's own folder."""
FAILURES = (
    RuntimeError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    NotImplementedError,
    AssertionError,
    ImportError,
)
"""What frameworks raise for networks that they cannot load, follow or convert; they have no common base."""


class Refused(Exception):
    """The source is damaged, does not fit together, or holds what no source of its kind holds."""

    kind = "refused"

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class NotConverted(Exception):
    """A sound source, of a kind that is not converted; `hint` says what to do instead."""

    kind = "unsupported"

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class Unclear(Exception):
    """The user has to say what the source does not; `hint` says how."""

    kind = "usage"

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


def last_words(problem: Refused | NotConverted | None) -> None:
    """Leave what is to be said if native code ends this process before it can answer; None: nothing.

    Some converters call abort() where Python would raise.
    """
    said = {} if problem is None else {"kind": problem.kind, "reason": str(problem), "hint": problem.hint}
    Path(LAST_WORDS).write_text(json.dumps(said) if said else "")


def first_line(problem: BaseException) -> str:
    """What went wrong, in one line; torch's exporters put the reason into the cause."""
    while isinstance(problem.__cause__, Exception):
        problem = problem.__cause__
    plain = re.sub(r"\x1b\[[0-9;]*m", "", str(problem))
    # Keras prints the whole configuration of a layer first.
    plain = plain.rpartition("Exception encountered:")[2]
    lines = [line.strip() for line in plain.splitlines() if line.strip()]
    return lines[0][:300] if lines else type(problem).__name__


class Converter(Protocol):
    """Lives as long as its process, and opens one source.

    `{"do": "open", "path": ..., "inputs": [{"name", "dtype", "shape"}], ...}` is answered with `framework`
    (with its version), `kind`, and perhaps `labels`, `notes`, `columns` and `declared`, and with the array
    `onnx`: uint8[bytes]. `{"do": "run"}` with the network's inputs is answered with its outputs, both by
    their names in ONNX, computed by the framework that the source is of.
    """

    def answer(
        self, fields: dict[str, Any], arrays: dict[str, Array]
    ) -> tuple[dict[str, Any], dict[str, Array]]:
        """One request to its answer."""
        ...
