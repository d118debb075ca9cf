"""A bundle's files in a directory: what stands there, and reading one file without being led astray.

Nothing inside the directory may be a link, because a link can lead out of it; the directory itself may
be reached through one.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import msgspec

from ..errors import BundleError
from .manifest import MANIFEST, MAX_MANIFEST_BYTES, File
from .rules import parents

# A name that became a FIFO must not hang the open; Windows has none of these flags and needs O_BINARY.
_READ = (
    os.O_RDONLY
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)
_OPENS_AT = os.open in os.supports_dir_fd


class DirectoryFiles(msgspec.Struct, frozen=True):
    """The files under one directory; `root` has no link left in it."""

    root: Path

    def manifest(self) -> bytes:
        """The bytes of `modelport.json`, which is found too long before it is read."""
        size = _regular_size(self.root / MANIFEST, MANIFEST)
        if size > MAX_MANIFEST_BYTES:
            raise BundleError(
                f"{MANIFEST} is {size} bytes; at most {MAX_MANIFEST_BYTES} are read", at=str(self.root)
            )
        return self.read(MANIFEST, size)

    def check(self, files: Mapping[str, File]) -> None:
        """Refuse the directory unless it holds exactly `files` and the manifest, of the right sizes.

        Raises:
            BundleError: a link, a device or the like, an unnamed file or folder, a missing file, or
                another size.
        """
        found = dict(_walk(self.root, files))
        for name, file in files.items():
            if name not in found:
                raise BundleError(f"the file {name!r} is missing", at=str(self.root))
            if found[name] != file.size:
                raise BundleError(
                    f"{name!r} is {found[name]} bytes; the manifest says {file.size}", at=str(self.root)
                )

    def read(self, name: str, size: int) -> bytes:
        """The bytes of a file, which are `size` or an error; no link on the way is followed."""
        try:
            handle = _open_beneath(self.root, name)
            try:
                return _read_all(handle, name, size)
            finally:
                os.close(handle)
        except OSError as problem:
            raise BundleError(f"cannot read {name!r}: {problem.strerror}", at=str(self.root)) from problem

    def keep(self, name: str, size: int) -> tuple[int, int] | None:
        """A new descriptor of a file, and where its bytes begin: at 0.

        Raises:
            BundleError: as `read`. OSError: too many open files, say.
        """
        handle = _open_beneath(self.root, name)
        try:
            _check_open(handle, name, size)
        except BundleError:
            os.close(handle)
            raise
        return handle, 0


def _read_all(handle: int, name: str, size: int) -> bytes:
    # The size is asked before the read, so that a manifest that lies cannot make us allocate.
    _check_open(handle, name, size)
    with open(handle, "rb", closefd=False) as file:
        return file.read(size)


def _check_open(handle: int, name: str, size: int) -> None:
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode):
        raise BundleError(f"{name!r} is {_kind(status.st_mode)}, not a regular file")
    if status.st_size != size:
        raise BundleError(f"{name!r} is {status.st_size} bytes; expected {size}")


def _open_beneath(root: Path, name: str) -> int:
    """A file descriptor, every folder on the way opened without following links.

    Raises:
        OSError: a link, or nothing there.
    """
    if not _OPENS_AT:
        # Windows: links there need a privilege, `check` has refused them, and the digest has the last word.
        return os.open(root / name, _READ)
    *folders, last = name.split("/")
    at = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for folder in folders:
            below = os.open(folder, _READ | os.O_DIRECTORY, dir_fd=at)
            os.close(at)
            at = below
        return os.open(last, _READ, dir_fd=at)
    finally:
        os.close(at)


def _walk(root: Path, files: Collection[str]) -> Iterator[tuple[str, int]]:
    """(name, size) of every file, stopping at the first thing that may not be there.

    Folders are entered only where a named file is below them, so the work is bounded by the manifest.
    """
    folders = {folder for name in files for folder in parents(name)}
    todo = [""]
    while todo:
        prefix = todo.pop()
        for entry in _entries(root, prefix):
            name = prefix + entry
            mode, size = _status(root / name, name)
            if stat.S_ISDIR(mode) and name in folders:
                todo.append(f"{name}/")
            elif not stat.S_ISREG(mode) and (name in files or not stat.S_ISDIR(mode)):
                raise BundleError(f"{name!r} is {_kind(mode)}, not a regular file", at=str(root))
            elif name not in files and name != MANIFEST:
                raise BundleError(
                    f"{name!r} is in the directory but not in {MANIFEST}",
                    at=str(root),
                    hint="take it out; whatever belongs to a bundle is named in its manifest",
                )
            else:
                yield name, size


def _entries(root: Path, prefix: str) -> list[str]:
    try:
        return sorted(os.listdir(root / prefix))
    except OSError as problem:
        raise BundleError(f"cannot list {prefix or '.'!r}: {problem.strerror}", at=str(root)) from problem


def _status(path: Path, name: str) -> tuple[int, int]:
    try:
        status = os.lstat(path)
    except OSError as problem:
        raise BundleError(f"cannot read {name!r}: {problem.strerror}", at=str(path)) from problem
    return status.st_mode, status.st_size


def _regular_size(path: Path, name: str) -> int:
    mode, size = _status(path, name)
    if not stat.S_ISREG(mode):
        raise BundleError(f"{name!r} is {_kind(mode)}, not a regular file", at=str(path.parent))
    return size


def _kind(mode: int) -> str:
    if stat.S_ISLNK(mode):
        return "a symbolic link"
    if stat.S_ISDIR(mode):
        return "a folder"
    if stat.S_ISFIFO(mode):
        return "a FIFO"
    if stat.S_ISSOCK(mode):
        return "a socket"
    return "a device"
