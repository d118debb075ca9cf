"""A bundle's files in a .zip, read without unpacking, by the same rules as a directory.

The archive's table of contents is judged before anything is inflated; what it claims about sizes has to
agree with the manifest, with the archive's own length and with what compression can do.
"""

from __future__ import annotations

import io
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec

from ..errors import BundleError
from .manifest import MANIFEST, MAX_MANIFEST_BYTES, File
from .rules import name_fault, parents

MAX_CONTENTS_BYTES = 8 << 20
"""The longest table of contents that is read: twice the longest manifest, for the same files."""
MAX_RATIO = 100
"""Uncompressed to compressed, for files over `SMALL` bytes: trained weights reach 2, zeros 1000."""
SMALL = 16 << 20

_CHUNK = 1 << 20
# The zip format's own zero: the same content must give the same bytes.
_EPOCH = (1980, 1, 1, 0, 0, 0)
_ENCRYPTED = 0x1 | 0x40
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# What stands before a file's bytes; the lengths of the name and of the rest that follow it.
_HEAD = struct.Struct("<26xHH")
# What `zipfile` and `zlib` raise on damaged archives, as found by flipping bytes.
_DAMAGE = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,
    OverflowError,
    RuntimeError,
    ValueError,
)


class ZipFiles(msgspec.Struct, frozen=True):
    """The files of one archive, at its top or under one folder such as `NAME/VERSION/`."""

    root: Path

    def manifest(self) -> bytes:
        """The bytes of `modelport.json`, which is found too long before it is read."""
        with _opened(self.root) as (archive, entries):
            info = entries[MANIFEST]
            if info.file_size > MAX_MANIFEST_BYTES:
                raise BundleError(
                    f"{MANIFEST} is {info.file_size} bytes; at most {MAX_MANIFEST_BYTES} are read",
                    at=str(self.root),
                )
            return _read(archive, info)

    def check(self, files: Mapping[str, File]) -> None:
        """Refuse the archive unless it holds exactly `files` and the manifest, of the right sizes.

        Raises:
            BundleError: an unnamed or a missing file, or another size; and all that makes an archive
                unsafe (see `_entries`).
        """
        with _opened(self.root) as (_, entries):
            for name in entries:
                if name not in files and name != MANIFEST:
                    raise BundleError(f"{name!r} is in the archive but not in {MANIFEST}", at=str(self.root))
            for name, file in files.items():
                if name not in entries:
                    raise BundleError(f"the file {name!r} is missing", at=str(self.root))
                if entries[name].file_size != file.size:
                    raise BundleError(
                        f"{name!r} is {entries[name].file_size} bytes; the manifest says {file.size}",
                        at=str(self.root),
                    )

    def read(self, name: str, size: int) -> bytes:
        """The bytes of a file, which are `size` or an error; the archive is judged anew."""
        with _opened(self.root) as (archive, entries):
            return _read(archive, self._entry(entries, name, size))

    def keep(self, name: str, size: int) -> tuple[int, int] | None:
        """A new descriptor of the archive, and where in it a file begins; None where that is deflated.

        Raises:
            BundleError: as `read`.
        """
        with _opened(self.root) as (archive, entries):
            info = self._entry(entries, name, size)
            if info.compress_type != zipfile.ZIP_STORED or archive.fp is None:
                return None
            handle = os.dup(archive.fp.fileno())
            try:
                head = os.pread(handle, _HEAD.size, info.header_offset)
                return handle, info.header_offset + _HEAD.size + sum(_HEAD.unpack(head))
            except (OSError, struct.error):
                os.close(handle)
                raise

    def _entry(self, entries: Mapping[str, zipfile.ZipInfo], name: str, size: int) -> zipfile.ZipInfo:
        if name not in entries:
            raise BundleError(f"the file {name!r} is missing", at=str(self.root))
        if entries[name].file_size != size:
            raise BundleError(
                f"{name!r} is {entries[name].file_size} bytes; expected {size}", at=str(self.root)
            )
        return entries[name]


def pack(path: Path, prefix: str, files: Iterable[tuple[str, bytes]]) -> None:
    """Write an archive whose bytes depend on nothing but its arguments; `prefix` ends in `/` or is empty.

    Files are stored, not deflated: weights hardly shrink, and two builds of zlib may deflate the same
    bytes differently.
    """
    with path.open("xb") as file:
        with zipfile.ZipFile(file, "w") as archive:
            for name, data in files:
                info = zipfile.ZipInfo(prefix + name, _EPOCH)
                info.create_system = 3  # Unix, whatever system writes it
                info.external_attr = (stat.S_IFREG | 0o644) << 16
                archive.writestr(info, data)
        file.flush()
        os.fsync(file.fileno())


class _Bounded(io.FileIO):
    """A file that refuses to read much at once: `zipfile` asks for as much as the archive claims."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > MAX_CONTENTS_BYTES:
            raise zipfile.BadZipFile(
                f"a table of contents of {size} bytes; at most {MAX_CONTENTS_BYTES} are read"
            )
        return super().read(size) or b""


@contextmanager
def _opened(path: Path) -> Iterator[tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]]]:
    """The archive and its judged entries by their names in the bundle."""
    try:
        with _Bounded(path) as file, zipfile.ZipFile(file) as archive:
            length = file.seek(0, io.SEEK_END)
            yield archive, _beneath_prefix(_entries(archive, length))
    except _DAMAGE as problem:
        raise BundleError(f"the archive cannot be read: {problem}", at=str(path)) from problem
    except OSError as problem:
        raise BundleError(f"the archive cannot be read: {problem.strerror}", at=str(path)) from problem
    except BundleError as problem:
        raise BundleError(problem.message, at=problem.at or str(path), hint=problem.hint) from problem


def _entries(archive: zipfile.ZipFile, length: int) -> dict[str, zipfile.ZipInfo]:
    """The entries by name, folders too (their names end in `/`).

    Raises:
        BundleError: an unsafe or double name, a link, encryption, a compression other than deflate,
            or sizes that an honest archive of `length` bytes cannot have.
    """
    entries: dict[str, zipfile.ZipInfo] = {}
    for info in archive.infolist():
        name = info.filename
        if name in entries:
            raise BundleError(f"the archive holds {name!r} twice")
        fault = name_fault(name.removesuffix("/")) or _entry_fault(info)
        if fault:
            raise BundleError(f"the archive's entry {info.orig_filename!r} {fault}")
        entries[name] = info
    compressed = sum(info.compress_size for info in entries.values())
    if compressed > length:
        raise BundleError(f"the archive claims {compressed} compressed bytes and is {length} bytes long")
    return entries


def _entry_fault(info: zipfile.ZipInfo) -> str | None:
    """Why an entry is refused, as the end of a sentence; None where it is fine."""
    kind = stat.S_IFMT(info.external_attr >> 16)
    if info.orig_filename != info.filename:
        return "is spelt in two ways"
    if kind not in (0, stat.S_IFDIR if info.is_dir() else stat.S_IFREG):
        return "is a symbolic link" if kind == stat.S_IFLNK else "is not a regular file"
    if info.flag_bits & _ENCRYPTED:
        return "is encrypted"
    if info.compress_type not in _METHODS:
        return f"is compressed by method {info.compress_type}; only stored and deflated are read"
    if info.is_dir() and info.file_size:
        return "is a folder with content"
    if info.compress_type == zipfile.ZIP_STORED and info.compress_size != info.file_size:
        return f"is stored, yet {info.compress_size} bytes claim to hold {info.file_size}"
    if info.file_size > SMALL and info.file_size > MAX_RATIO * info.compress_size:
        return (
            f"would inflate {info.compress_size} bytes to {info.file_size}; at most {MAX_RATIO}-fold is read"
        )
    return None


def _beneath_prefix(entries: dict[str, zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
    """The files by their names in the bundle: below the folder that the outermost manifest is in."""
    manifests = [name for name in entries if name == MANIFEST or name.endswith(f"/{MANIFEST}")]
    if not manifests:
        raise BundleError(
            f"the archive holds no {MANIFEST}",
            hint="a bundle is written by `modelport pack`; an archive of anything else cannot be opened",
        )
    prefix = min(manifests, key=lambda name: name.count("/")).removesuffix(MANIFEST)
    files = {name: info for name, info in entries.items() if not info.is_dir()}
    folders = {f"{folder}/" for name in files for folder in parents(name)}
    for name in entries:
        if name not in folders and not (name in files and name.startswith(prefix)):
            raise BundleError(f"{name!r} is in the archive but not in {prefix}{MANIFEST}")
    return {name.removeprefix(prefix): info for name, info in files.items()}


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    with archive.open(info) as file:
        data = b"".join(iter(lambda: file.read(_CHUNK), b""))
    if len(data) != info.file_size:
        raise BundleError(f"{info.filename!r} inflates to {len(data)} bytes; it claims {info.file_size}")
    return data
