"""`REPO/NAME/rollout.json`: the only place where rollouts touch the disk.

The file is replaced whole (a temporary name, then a rename), so that a reader sees the old one or the new
one. Who changes it holds a lock beside it (`.rollout.lock`, which dies with its process), so that of two
writers the second one sees what the first one wrote. Names that begin with a dot are no versions of a
model, and neither is a file that is no `.zip`.
"""

from __future__ import annotations

import os
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from ..errors import BundleError, Unavailable, Unsupported, UsageError
from .change import FORMAT, Conflict, State

FILE = "rollout.json"
LOCK = ".rollout.lock"
DAMAGED = ".rollout.damaged.json"
MAX_BYTES = 4 << 20
_WAIT = 0.05

Stamp = tuple[int, int, int]
"""Changes when the file does: modification time in ns, size, inode."""


def stamp(folder: Path) -> Stamp | None:
    """What to compare to know whether the file was changed; None where there is none."""
    try:
        found = os.stat(folder / FILE)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def load(folder: Path) -> State | None:
    """The state of the model whose versions are in `folder`; None where no rollout was ever made.

    Raises:
        BundleError: the file is damaged, or is of a newer Modelport; what to do is in the hint.
    """
    path = folder / FILE
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as problem:
        raise _damaged(path, problem.strerror or str(problem)) from problem
    if len(data) > MAX_BYTES:
        raise _damaged(path, f"it is over {MAX_BYTES} bytes")
    return _decode(path, data)


def change(
    folder: Path,
    edit: Callable[[State], State],
    *,
    expected: int | None = None,
    patience: float = 5.0,
    over_damage: bool = False,
) -> State:
    """Read the state, edit it and write it, with nobody between; the state as it is now.

    Args:
        edit: gives the new state; the one it was given where there is nothing to change.
        expected: the revision that the caller has seen; None for any.
        patience: seconds to wait for another writer; 0 to try once.
        over_damage: begin anew where the file is damaged, which is kept as `.rollout.damaged.json`.

    Raises:
        Conflict: the revision is another one by now.
        Unavailable: another writer held the lock all the time.
        Unsupported: the folder cannot be written.
        BundleError: the file is damaged.
    """
    with _writing(folder), _locked(folder, patience):
        try:
            present = load(folder) or State()
        except BundleError:
            if not over_damage:
                raise
            os.replace(folder / FILE, folder / DAMAGED)
            present = State()
        if expected is not None and present.revision != expected:
            raise Conflict(
                f"the rollout was changed by somebody else: revision {present.revision}, not {expected}",
                hint="look at it again, then change it",
            )
        new = edit(present)
        if new is not present:
            _write(folder, new)
    return new


def _decode(path: Path, data: bytes) -> State:
    try:
        head = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
        kind = msgspec.json.decode(head.get("format", b'""'), type=str)
        if kind != FORMAT and not kind.startswith("modelport-rollout/"):
            raise _damaged(path, f"its format is {kind[:40]!r}, not {FORMAT!r}")
        if kind != FORMAT:
            raise BundleError(
                f"{str(path)!r} is of format {kind!r}; this Modelport reads {FORMAT!r}",
                hint="install a newer Modelport",
            )
        return msgspec.json.decode(data, type=State)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise _damaged(path, str(problem)) from problem
    except UsageError as problem:
        raise _damaged(path, str(problem)) from problem


def _damaged(path: Path, why: str) -> BundleError:
    return BundleError(
        f"{str(path)!r} is damaged: {why}",
        hint=f"the newest version answers; `modelport rollout {path.parent} --clear` begins anew "
        f"and keeps the file as {DAMAGED}",
    )


def _write(folder: Path, state: State) -> None:
    data = msgspec.json.format(msgspec.json.encode(state), indent=2) + b"\n"
    temporary = folder / f".{FILE}.{secrets.token_hex(6)}"
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, folder / FILE)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """The disk's own no in words."""
    try:
        yield
    except OSError as problem:
        raise Unsupported(
            f"cannot write {str(folder / FILE)!r}: {problem.strerror or problem}",
            hint="rollouts are kept beside the model's versions; the folder has to be writable",
        ) from problem


@contextmanager
def _locked(folder: Path, patience: float) -> Iterator[None]:
    handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
    try:
        waits = int(patience / _WAIT)
        while not _take(handle):
            if not waits:
                raise Unavailable(
                    f"another process is changing the rollout of {folder.name!r}",
                    hint="try again; the lock goes with the process that holds it",
                )
            waits -= 1
            time.sleep(_WAIT)
        try:
            yield
        finally:
            _release(handle)
    finally:
        os.close(handle)


if sys.platform == "win32":
    import msvcrt

    def _take(handle: int) -> bool:
        with suppress(OSError):
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
            return True
        return False

    def _release(handle: int) -> None:
        os.lseek(handle, 0, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _take(handle: int) -> bool:
        with suppress(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        return False

    def _release(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_UN)
