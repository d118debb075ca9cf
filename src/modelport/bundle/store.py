"""Opening, reading and writing bundles. Opening runs nothing, and no reader falls back to a laxer one.

What is checked when: on opening, the manifest and that exactly its files are there, as regular files of
the sizes it says; on every `read`, the digest of the bytes that are returned; on `graph`, what the graph
would make a runtime do.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import msgspec

from ..errors import BundleError, NotFound, UsageError
from .archive import ZipFiles, pack
from .audit import MAX_ONNX_BYTES, audit_onnx, audit_options
from .directory import DirectoryFiles
from .held import HeldFiles, hold
from .layout import files_of, locate
from .manifest import (
    FORMAT_VERSION,
    MANIFEST,
    File,
    GraphInfo,
    Lineage,
    Manifest,
    decode_manifest,
    encode_manifest,
)
from .rules import check_manifest

# Digests of graphs that passed the audit in this process: a graph is opened once per worker and variant.
_AUDITED: set[str] = set()
_AUDITED_MAX = 1024


class Bundle(msgspec.Struct, frozen=True):
    """An opened bundle: a value. Its files are read again, and checked again, at every `read`."""

    path: Path
    """The directory or archive, without links."""
    manifest: Manifest
    digest: str
    """SHA-256 of the bytes of `modelport.json`, in hexadecimal: it covers every file of the bundle."""
    source: DirectoryFiles | ZipFiles | HeldFiles

    def __repr__(self) -> str:
        return f"<Bundle {self.manifest.name} version {self.manifest.version} at {self.path}>"

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Bundle:
        """The bundle at a directory, a .zip, `REPO/NAME` (its newest version) or `REPO/NAME/VERSION`.

        Nothing of it is run, and only the manifest is read.

        Raises:
            NotFound: nothing there.
            UsageError: a repository of several models, so that one has to be named.
            BundleError: no bundle, or one that breaks a rule of `docs/spec/bundle-v2.md`.
        """
        found = locate(Path(path))
        return _open(files_of(found))

    @classmethod
    def inherited(cls, files: HeldFiles) -> Bundle:
        """The bundle that the process which started this one holds.

        Raises:
            BundleError: as `open`.
        """
        return _open(files)

    def held(self) -> Bundle:
        """This bundle, with its files as they are now: what comes to lie in their place does not reach it.

        Raises:
            BundleError: it was changed since it was opened.
            OSError: too many open files, or no room for copies of small ones.
        """
        if isinstance(self.source, HeldFiles):
            return self
        sizes = {MANIFEST: len(self.read(MANIFEST))}
        sizes |= {name: file.size for name, file in self.manifest.files.items()}
        return msgspec.structs.replace(self, source=hold(self.source, sizes, self.read))

    def read(self, name: str) -> bytes:
        """The bytes of a named file (or of the manifest); what is returned is what was checked.

        Raises:
            NotFound: the manifest does not name it.
            BundleError: missing, no regular file, another size or another digest than when opened.
        """
        if name == MANIFEST:
            data, sha256 = self.source.manifest(), self.digest
        else:
            file = self._named(name)
            data, sha256 = self.source.read(name, file.size), file.sha256
        got = hashlib.sha256(data).hexdigest()
        if got != sha256:
            raise BundleError(
                f"{name!r} was changed: expected sha256 {sha256}, got {got}",
                at=str(self.path),
                hint="restore the file; a changed model is packed again, as a new version",
            )
        return data

    def graph(self, name: Literal["pre", "net", "post"]) -> bytes:
        """One of the three graphs, audited: it is ONNX, it reads no other file, every operator is known.

        A network that is a Python function is given as its file; nothing here runs or judges it.

        Raises:
            BundleError: as `read` and `audit_onnx`.
        """
        info: GraphInfo = getattr(self.manifest.graphs, name)
        file = info.file
        if info.function is not None:
            return self.read(file)
        data = self.read_onnx(file)
        if name != "net":
            # An old network may list its weights among its inputs; of the compiled graphs none does.
            audit_options(data, file, self.manifest.options if name == "post" else ())
        return data

    def read_onnx(self, name: str) -> bytes:
        """A named file that is an ONNX graph (one of the three, or a variant), audited."""
        file = self._named(name)
        if file.size > MAX_ONNX_BYTES:
            raise BundleError(
                f"{name!r} is {file.size} bytes; an ONNX file is at most {MAX_ONNX_BYTES}", at=str(self.path)
            )
        data = self.read(name)
        if file.sha256 not in _AUDITED:
            audit_onnx(data, name)
            if len(_AUDITED) >= _AUDITED_MAX:
                _AUDITED.clear()
            _AUDITED.add(file.sha256)
        return data

    def labels(self) -> tuple[str, ...]:
        """The class names, index by index; empty where the bundle has none.

        Raises:
            BundleError: the file is not UTF-8 with plain line feeds, or as `read`.
        """
        if self.manifest.labels is None:
            return ()
        name = self.manifest.labels
        try:
            text = self.read(name).decode()
        except UnicodeDecodeError as problem:
            raise BundleError(f"{name!r} is not UTF-8: {problem}", at=str(self.path)) from problem
        for mark, what in (("\ufeff", "a byte order mark"), ("\r", "a carriage return")):
            if mark in text:
                raise BundleError(f"{name!r} has {what}; a line ends in a line feed alone", at=str(self.path))
        return tuple(text.removesuffix("\n").split("\n")) if text else ()

    def verify_files(self) -> None:
        """Check everything there is to check on disk: the layout again, and every digest.

        Raises:
            BundleError: the first thing that is wrong.
        """
        self.source.check(self.manifest.files)
        for name in (MANIFEST, *self.manifest.files):
            self.read(name)

    def derive(
        self, out: str | os.PathLike[str], files: Mapping[str, bytes | None], **changes: Any
    ) -> Bundle:
        """A new bundle at `out`: this one with some files and manifest fields changed, this one its parent.

        `files` are the new and changed ones, None for one that is left out; the others are carried over,
        checked. `changes` are fields of the manifest and must make another `name` or `version`.

        Raises:
            UsageError: the same name and version, or `out` exists.
            NotFound: a file to leave out is not there.
            BundleError: this bundle was damaged, or the new one would break a rule.
        """
        if not changes.keys().isdisjoint(("lineage", "format", "format_version")):
            raise TypeError("derive sets lineage and format itself")
        lineage = Lineage(source=self.manifest.lineage.source, parent=self.digest)
        manifest = msgspec.structs.replace(self.manifest, lineage=lineage, **changes)
        if (manifest.name, manifest.version) == (self.manifest.name, self.manifest.version):
            raise UsageError(
                f"{manifest.name} {manifest.version} is the bundle it would be derived from",
                hint="give the new bundle another version",
            )
        for name in files:
            if files[name] is None:
                self._named(name)
        new = {name: data for name, data in files.items() if data is not None}
        carried = {name: file for name, file in self.manifest.files.items() if name not in files}
        named = carried | {name: _file(data) for name, data in new.items()}
        contents = ((name, new[name] if name in new else self.read(name)) for name in named)
        return _write_directory(Path(out), _encode(manifest, named), contents)

    def save_as(self, out: str | os.PathLike[str]) -> Bundle:
        """A copy with the same digest: an archive where `out` ends in `.zip`, else a directory.

        Raises:
            UsageError: `out` exists.
            BundleError: this bundle was damaged, or writing failed.
        """
        if Path(out).suffix.lower() == ".zip":
            return write_zip(self, Path(out))
        contents = ((name, self.read(name)) for name in self.manifest.files)
        return _write_directory(Path(out), self.read(MANIFEST), contents)

    def _named(self, name: str) -> File:
        if name not in self.manifest.files:
            raise NotFound(
                f"the bundle {self.manifest.name} {self.manifest.version} has no file {name!r}",
                at=str(self.path),
                hint=f"it has {', '.join([MANIFEST, *self.manifest.files])}",
            )
        return self.manifest.files[name]


def write_bundle(out: Path, manifest: Manifest, files: Mapping[str, bytes]) -> Bundle:
    """Write a bundle directory, whole or not at all, and open it.

    `manifest.files` is computed from `files`. The same arguments give the same bytes.

    Raises:
        UsageError: `out` exists.
        BundleError: the bundle would break a rule, or writing failed; nothing is left behind.
    """
    named = {name: _file(data) for name, data in files.items()}
    return _write_directory(out, _encode(manifest, named), files.items())


def write_zip(bundle: Bundle, path: Path) -> Bundle:
    """Write a bundle as an archive that unpacks to `NAME/VERSION/`, and open it; the digest is the same.

    The same bundle gives the same archive, byte for byte.

    Raises:
        UsageError: `path` exists, or does not end in `.zip`.
        BundleError: the bundle was damaged, or writing failed; nothing is left behind.
    """
    if path.suffix.lower() != ".zip":
        raise UsageError(f"expected a name that ends in .zip, got {str(path)!r}")
    prefix = f"{bundle.manifest.name}/{bundle.manifest.version}/"
    names = (MANIFEST, *sorted(bundle.manifest.files))
    with _replacing(path) as temporary:
        pack(temporary, prefix, ((name, bundle.read(name)) for name in names))
        _open(ZipFiles(temporary))
    return Bundle.open(path)


def labels_file(labels: Sequence[str]) -> bytes:
    """The bytes of a labels file: one label per line, UTF-8.

    Raises:
        UsageError: a label that is empty or has a line break.
    """
    for index, label in enumerate(labels):
        if not label or "\n" in label or "\r" in label:
            raise UsageError(f"a label is one line that is not empty, got {label!r}", at=f"$.labels[{index}]")
    return "".join(f"{label}\n" for label in labels).encode()


def _open(source: DirectoryFiles | ZipFiles | HeldFiles) -> Bundle:
    try:
        data = source.manifest()
        manifest = decode_manifest(data)
        check_manifest(manifest)
        source.check(manifest.files)
    except BundleError as problem:
        at = problem.at or str(source.root)
        place = f"{source.root}: {at}" if at.startswith("$") else at
        raise BundleError(problem.message, at=place, hint=problem.hint) from problem
    return Bundle(source.root, manifest, hashlib.sha256(data).hexdigest(), source)


def _file(data: bytes) -> File:
    return File(hashlib.sha256(data).hexdigest(), len(data))


def _encode(manifest: Manifest, files: Mapping[str, File]) -> bytes:
    """The manifest's bytes with these files, by name, in the newest format version; refused where no reader
    would take them."""
    whole = msgspec.structs.replace(
        manifest, format_version=FORMAT_VERSION, files=dict(sorted(files.items()))
    )
    data = encode_manifest(whole)
    check_manifest(decode_manifest(data))
    try:
        # msgspec writes `null` for them, so that figures would be lost without a word.
        json.dumps(msgspec.to_builtins(whole), allow_nan=False)
    except ValueError as problem:
        raise BundleError("a number in the manifest is infinite or NaN, which JSON cannot say") from problem
    return data


def _write_directory(out: Path, manifest: bytes, files: Iterable[tuple[str, bytes]]) -> Bundle:
    with _replacing(out) as temporary:
        temporary.mkdir()
        for name, data in chain(files, [(MANIFEST, manifest)]):
            place = temporary / name
            place.parent.mkdir(parents=True, exist_ok=True)
            with place.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        for folder in {path.parent for path in temporary.rglob("*")}:
            _sync_folder(folder)
        _open(DirectoryFiles(temporary))
    return Bundle.open(out)


@contextlib.contextmanager
def _replacing(out: Path) -> Iterator[Path]:
    """A temporary name beside `out` that becomes `out` at the end, or is removed."""
    if os.path.lexists(out):
        raise UsageError(
            f"{str(out)!r} exists; a bundle is never changed in place",
            hint="choose another version, or remove it",
        )
    # Not `tempfile`: its folders are readable by their owner alone, and so would be the bundle.
    temporary = out.with_name(f".{out.name}.{secrets.token_hex(6)}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.rename(temporary, out)
        _sync_folder(out.parent)
    except OSError as problem:
        raise BundleError(f"cannot write {str(out)!r}: {problem.strerror}") from problem
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


def _sync_folder(path: Path) -> None:
    """Ask that the names in a folder survive a power cut; Windows opens no folder, and is not asked."""
    with contextlib.suppress(PermissionError):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
