"""A bundle's files as they were when it was opened, whatever comes to lie in their place since.

For a server, which starts processes long after it opened a bundle. Small files are copied into memory that
has no name. Large ones are kept open, which takes no memory: a file that is removed or renamed over lives as
long as somebody has it open. A large one whose bytes are overwritten where they are is lost all the same; as
everywhere, its digest tells.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import msgspec

from ..errors import BundleError
from .manifest import MANIFEST, File

COPIED_BYTES = 4 << 20
"""The largest file that is copied; in an archive, deflated ones are whatever their size."""
_MEMORY_BYTES = 64 << 20
"""Copies that are more than this together are in a file without a name, not in memory."""
_READ_BYTES = 1 << 30
"""What one call reads at most: systems give no more than 2 GB."""


class Piece(msgspec.Struct, frozen=True, array_like=True):
    """Where the bytes of a file are."""

    descriptor: int
    start: int
    size: int

    def read(self) -> bytes:
        """The bytes, fewer where there are fewer now; the descriptor's own place, which others may share,
        is neither used nor moved."""
        parts: list[bytes] = []
        at = 0
        while at < self.size:
            part = os.pread(self.descriptor, min(self.size - at, _READ_BYTES), self.start + at)
            if not part:
                break
            parts.append(part)
            at += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)


class Kept:
    """A descriptor that is closed when nobody has this any more."""

    __slots__ = ("descriptor",)

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def __del__(self) -> None:
        os.close(self.descriptor)


class Source(Protocol):
    """The files of a bundle in a directory or an archive."""

    @property
    def root(self) -> Path:
        """The directory or archive."""
        ...

    def keep(self, name: str, size: int) -> tuple[int, int] | None:
        """A new descriptor and where in it the file begins; None where none holds it as it is."""
        ...


class HeldFiles(msgspec.Struct, frozen=True):
    """The files of one bundle by descriptors."""

    root: Path
    """Where the bundle was opened, for people."""
    pieces: dict[str, Piece]
    index: Piece
    """Where `pieces` themselves are, for a process that inherits the descriptors."""
    kept: tuple[Kept, ...] = ()

    @classmethod
    def inherited(cls, root: Path, index: Piece) -> HeldFiles:
        """The same files in a process that was given `descriptors`."""
        return cls(root, msgspec.json.decode(index.read(), type=dict[str, Piece]), index)

    @property
    def descriptors(self) -> list[int]:
        """What such a process has to be given, under the same numbers."""
        return [each.descriptor for each in self.kept]

    def manifest(self) -> bytes:
        """The bytes of `modelport.json`."""
        return self.read(MANIFEST, self.pieces[MANIFEST].size)

    def check(self, files: Mapping[str, File]) -> None:
        """Raises BundleError unless `files` and the manifest are here and nothing else is."""
        want = {name: file.size for name, file in files.items()}
        if want != {name: piece.size for name, piece in self.pieces.items() if name != MANIFEST}:
            raise BundleError("the files that are kept are not those of the manifest", at=str(self.root))

    def read(self, name: str, size: int) -> bytes:
        """The bytes of a file, which are `size` or an error."""
        if name not in self.pieces:
            raise BundleError(f"the file {name!r} is missing", at=str(self.root))
        try:
            data = self.pieces[name].read()
        except OSError as problem:
            raise BundleError(f"cannot read {name!r}: {problem.strerror}", at=str(self.root)) from problem
        if len(data) != size:
            raise BundleError(f"{name!r} is {len(data)} bytes; expected {size}", at=str(self.root))
        return data


def hold(source: Source, sizes: Mapping[str, int], read: Callable[[str], bytes]) -> HeldFiles:
    """Copy small files and keep large ones open.

    Args:
        source: where the files are.
        sizes: of every file, the manifest too.
        read: the checked bytes of one.

    Raises:
        BundleError: a file is not there any more, or is another one.
        OSError: too many open files, or no room for the copy.
    """
    pieces: dict[str, Piece] = {}
    kept: list[Kept] = []
    copied = dict(sizes)
    for name, size in sizes.items():
        place = source.keep(name, size) if size > COPIED_BYTES else None
        if place is not None:
            kept.append(Kept(place[0]))
            pieces[name] = Piece(*place, size)
            del copied[name]
    copy = Kept(_unnamed(sum(copied.values())))
    end = 0
    for name, size in copied.items():
        pieces[name] = Piece(copy.descriptor, end, size)
        end = _write(copy.descriptor, end, read(name))
    index = msgspec.json.encode(pieces)
    _write(copy.descriptor, end, index)
    return HeldFiles(source.root, pieces, Piece(copy.descriptor, end, len(index)), (copy, *kept))


def _write(descriptor: int, at: int, data: bytes) -> int:
    """Where what was written ends."""
    left = memoryview(data)
    while left:
        done = os.pwrite(descriptor, left[:_READ_BYTES], at)
        left, at = left[done:], at + done
    return at


def _unnamed(size: int) -> int:
    if size <= _MEMORY_BYTES and hasattr(os, "memfd_create"):
        return os.memfd_create("modelport-bundle", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
