"""The work folder: what a search found out so far, so that one that was interrupted goes on where it was.

A candidate is a bundle and beside it what is said of it, written last: a bundle alone was cut off, and is
made again. Nothing here is ever changed in place. One process at a time is in a work folder: a second one
with the same question has a folder of its own.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import weakref
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import msgspec

from ..bundle.store import Bundle
from ..files import write_whole
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
    variant: str = ""


LOCK = ".lock"
JUDGED = ".judgement.json"


class Found:
    """One work folder.

    Args:
        folder: where it is; `FOLDER-2`, `FOLDER-3`, … while other processes are in it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, lock = _entered(folder)
        self.begun = any(path.name != LOCK for path in self.folder.iterdir())
        """Whether an earlier run left anything."""
        self._left = weakref.finalize(self, os.close, lock)
        self.before = len(list(self.folder.glob(f"*{JUDGED}")))
        """Candidates that an earlier run judged."""

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
                said.variant,
            )
        shutil.rmtree(place, ignore_errors=True)
        made = make(self.folder)
        plain = _Said(
            made.title,
            made.passes,
            made.notes,
            made.runtime,
            dict(made.settings),
            made.machine_bound,
            made.variant,
        )
        write_whole(kept, msgspec.json.encode(plain))
        return made

    def judgement(self, name: str, judge: Callable[[], Judgement]) -> Judgement:
        """A judgement that is there, or is made now."""
        kept = self.folder / f"{name}{JUDGED}"
        known: Judgement | None = _decoded(kept, Judgement)
        if known is None:
            known = judge()
            write_whole(kept, msgspec.json.encode(known))
        return known

    def forget(self) -> None:
        """Take the folder away, and its parent where nothing else is in it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self._left()
        with contextlib.suppress(OSError):
            self.folder.parent.rmdir()


def _entered(folder: Path) -> tuple[Path, int]:
    """The first of FOLDER, FOLDER-2, … that no other process is in, and the open file that says so."""
    for number in count(1):
        place = folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
        while True:
            place.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):  # it was forgotten just now
                lock = os.open(place / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
                if not _locked(lock):
                    os.close(lock)
                    break
                if os.fstat(lock).st_nlink:
                    return place, lock
                os.close(lock)
    raise AssertionError("count ends")


def _locked(file: int) -> bool:
    """Whether this process has the file for itself now, until it closes it or ends."""
    try:
        import fcntl  # not on Windows, where two searches of one question share a folder
    except ImportError:
        return True
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as problem:
        return problem.errno not in (errno.EACCES, errno.EAGAIN)  # else the file system has no locks
    return True


def key_of(*said: object) -> str:
    """The same for the same question, so that what was found before still holds."""
    return hashlib.sha256("\n".join(map(str, said)).encode()).hexdigest()[:16]


def _decoded(path: Path, kind: type[Any]) -> Any:
    with contextlib.suppress(OSError, msgspec.DecodeError):
        return msgspec.json.decode(path.read_bytes(), type=kind)
    return None
