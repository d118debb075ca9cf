"""The work folder: what a search found out so far, so that one that was interrupted goes on where it was.

A candidate is a bundle and beside it what is said of it, written last: a bundle alone was cut off, and is
made again. Nothing here is ever changed in place.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from ..bundle.store import Bundle
from .candidate import Candidate
from .judge import Judgement


class _Said(msgspec.Struct, frozen=True):
    """What of a candidate is not in its bundle."""

    title: str
    passes: tuple[str, ...]
    notes: tuple[str, ...]
    runtime: str
    settings: dict[str, Any]
    machine_bound: bool


class Found:
    """One work folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    @property
    def evaluation(self) -> Path:
        """Where the START's evaluation is kept."""
        return self.folder / "start.evaluation.json"

    def bundle(self, name: str, make: Callable[[Path], Bundle]) -> Bundle:
        """A bundle that is there, or is made now; bundles are written whole or not at all."""
        place = self.folder / name
        return Bundle.open(place) if place.is_dir() else make(place)

    def candidate(self, name: str, make: Callable[[Path], Candidate]) -> Candidate:
        """A candidate that is there, or is made now in the folder that `make` is given."""
        kept, place = self.folder / f"{name}.json", self.folder / name
        said = _decoded(kept, _Said)
        if said is not None and place.is_dir():
            return Candidate(
                name,
                said.title,
                Bundle.open(place),
                said.passes,
                said.notes,
                said.runtime,
                said.settings,
                said.machine_bound,
            )
        shutil.rmtree(place, ignore_errors=True)
        made = make(self.folder)
        plain = _Said(
            made.title, made.passes, made.notes, made.runtime, dict(made.settings), made.machine_bound
        )
        _write(kept, plain)
        return made

    def judgement(self, name: str, judge: Callable[[], Judgement]) -> Judgement:
        """A judgement that is there, or is made now."""
        kept = self.folder / f"{name}.judgement.json"
        known: Judgement | None = _decoded(kept, Judgement)
        if known is None:
            known = judge()
            _write(kept, known)
        return known

    def forget(self) -> None:
        """Take the folder away, and its parent where nothing else is in it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            self.folder.parent.rmdir()


def key_of(*said: object) -> str:
    """The same for the same question, so that what was found before still holds."""
    return hashlib.sha256("\n".join(map(str, said)).encode()).hexdigest()[:16]


def _decoded(path: Path, kind: type[Any]) -> Any:
    with contextlib.suppress(OSError, msgspec.DecodeError):
        return msgspec.json.decode(path.read_bytes(), type=kind)
    return None


def _write(path: Path, value: msgspec.Struct) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(msgspec.json.encode(value))
    temporary.replace(path)
