"""The work folder: what a search found out so far, so that one that was interrupted goes on where it was.

A candidate is a bundle and beside it what is said of it, written last: a bundle alone was cut off, and is
made again. Each is in a folder that is called by the key of what it is of: names say less. Nothing here is
ever changed in place. One process at a time is in a work folder: a second one with the same question has a
folder of its own.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import time
import weakref
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from ..bundle.store import Bundle
from ..files import write_whole
from .candidate import Candidate
from .judge import Judgement
from .sensitivity import Layer


class _Said(msgspec.Struct, frozen=True):
    """What of a candidate is not in its bundle."""

    title: str
    passes: tuple[str, ...]
    notes: tuple[str, ...]
    runtime: str
    settings: dict[str, Any]
    machine_bound: bool
    variant: str = ""


T = TypeVar("T")
LOCK = ".lock"
JUDGED = ".judgement.json"
STALE = 30 * 24 * 3600.0
"""Seconds after which nobody goes on with a search that was interrupted."""


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
        self.before = len(list(self.folder.glob(f"*/*{JUDGED}")))
        """Candidates that an earlier run judged."""

    @property
    def evaluation(self) -> Path:
        """Where the START's evaluation is kept."""
        return self.folder / "start.evaluation.json"

    def bundle(self, name: str, make: Callable[[Path], Bundle]) -> Bundle:
        """A bundle that is there, or is made now; bundles are written whole or not at all."""
        place = self.folder / name
        return Bundle.open(place) if place.is_dir() else make(place)

    def candidate(self, name: str, of: str, make: Callable[[Path], Candidate]) -> Candidate:
        """A candidate that is there, or is made now in the folder that `make` is given.

        Args:
            of: the key of the step and of what it works on, which may be others under the same name.
        """
        if (known := self.made(name, of)) is not None:
            return known
        folder = self.folder / of
        shutil.rmtree(folder / name, ignore_errors=True)
        folder.mkdir(exist_ok=True)
        made = make(folder)
        plain = _Said(
            made.title,
            made.passes,
            made.notes,
            made.runtime,
            dict(made.settings),
            made.machine_bound,
            made.variant,
        )
        write_whole(folder / f"{name}.json", msgspec.json.encode(plain))
        return made

    def made(self, name: str, of: str) -> Candidate | None:
        """A candidate that is there, whole; None where it is not.

        Args:
            of: see `candidate`.
        """
        place = self.folder / of / name
        said = _decoded(place.with_name(f"{name}.json"), _Said)
        if said is None or not place.is_dir():
            return None
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

    def judgement(self, name: str, of: str, judge: Callable[[], Judgement]) -> Judgement:
        """A judgement that is there, or is made now.

        Args:
            of: the key of the network and the way of running it.
        """
        return self._known(self.folder / of / f"{name}{JUDGED}", Judgement, judge)

    def judged(self, name: str, of: str) -> bool:
        """Whether a judgement is there.

        Args:
            of: see `judgement`.
        """
        return _decoded(self.folder / of / f"{name}{JUDGED}", Judgement) is not None

    def ranking(self, name: str, of: str, rank: Callable[[], list[Layer]]) -> list[Layer]:
        """A candidate's layers as they were ranked, or are now: their times differ from one run to the next.

        Args:
            of: the key of the network.
        """
        return self._known(self.folder / of / f"{name}.layers.json", list[Layer], rank)

    def _known(self, kept: Path, kind: type[T], make: Callable[[], T]) -> T:
        known: T | None = _decoded(kept, kind)
        if known is None:
            known = make()
            kept.parent.mkdir(exist_ok=True)
            write_whole(kept, msgspec.json.encode(known))
        return known

    def forget(self) -> None:
        """Take the folder away, and its parent where nothing else is in it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self._left()
        with contextlib.suppress(OSError):
            self.folder.parent.rmdir()

    def finish(self) -> None:
        """Forget it, since the question was answered, and what else in the parent is of no use any more.

        That is what is left of searches for the same, and what nobody touched for a month.
        """
        question, now = self.folder.name.partition("-")[0], time.time()
        for place in self.folder.parent.iterdir():
            with contextlib.suppress(OSError):  # gone meanwhile, or nothing of ours
                same = place.name.partition("-")[0] == question
                if place != self.folder and (same or now - place.stat().st_mtime > STALE):
                    _drop(place)
        self.forget()


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


def _drop(place: Path) -> None:
    """Take a folder of a search away, unless a process is in it."""
    lock = os.open(place / LOCK, os.O_RDWR)
    try:
        if _locked(lock):
            shutil.rmtree(place, ignore_errors=True)
    finally:
        os.close(lock)


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
