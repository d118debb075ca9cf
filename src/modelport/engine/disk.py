"""A model repository's folder, read with patience: one damaged bundle does not hide the others."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from ..bundle.layout import find_bundles
from ..bundle.manifest import MANIFEST
from ..bundle.store import Bundle
from ..errors import ModelportError

log = logging.getLogger("modelport.engine")


class Broken(msgspec.Struct, frozen=True):
    """A folder or archive that should be a bundle and is none."""

    name: str
    version: str
    reason: str
    path: Path
    """Without links, as a bundle's."""


def damaged(broken: Iterable[Broken], name: str, version: str | None) -> set[tuple[str, str]]:
    """What of a model is no bundle, by name and version; with `version` that one alone."""
    return {(name, each.version) for each in broken if each.name == name and version in (None, each.version)}


Files = frozenset[tuple[str, int, int]]
"""Files or folders by path, with what changes when they do: size or inode, and time."""


def read_repository(folder: Path) -> tuple[list[Bundle], list[Broken]]:
    """Every bundle under `folder` (`REPO`, or `REPO/NAME`) that opens, and what does not open.

    Raises:
        NotFound: there is nothing that looks like a bundle.
    """
    bundles: dict[tuple[str, str], Bundle] = {}
    broken: list[Broken] = []
    for path in find_bundles(folder, claims=False):
        version = path.name.removesuffix(".zip")
        try:
            bundle = Bundle.open(path)
        except ModelportError as problem:
            broken.append(Broken(path.parent.name, version, problem.message, path.resolve()))
            continue
        claim = bundle.manifest.name, bundle.manifest.version
        if claim in bundles:
            # The folder that is called so keeps it; a copy of a folder does not make a new version.
            copy, kept = sorted((bundle, bundles[claim]), key=lambda each: each.path.name == claim[1])
            bundles[claim] = kept
            words = (
                f"it says that it is {claim[0]} {claim[1]}, which is another one; a copy is no new version"
            )
            where = copy.path.name.removesuffix(".zip")
            broken.append(Broken(copy.path.parent.name, where, words, copy.path))
            continue
        bundles[claim] = bundle
    return list(bundles.values()), broken


def held(bundle: Bundle) -> Bundle:
    """The bundle with its files as they are now, for as long as it answers; where that is not to be had, with
    those that are on the disk at the time.

    Raises:
        BundleError: it was changed since it was opened.
    """
    try:
        return bundle.held()
    except OSError as problem:
        log.warning("%r is not kept in case its place changes: %s", bundle, problem.strerror)
        return bundle


def fingerprint(folder: Path, unfinished: Iterable[Path] = ()) -> Files:
    """What changes when a bundle comes, goes or is replaced: names, inodes and times.

    Args:
        unfinished: bundles to look into as well. One that is still being copied is no bundle yet, or fails;
            when its last file is whole, its folder shows nothing of that.
    """
    found: set[tuple[str, int, int]] = set()
    try:
        with os.scandir(folder) as models:
            for model in models:
                if model.name.startswith("."):
                    continue
                # Of one model's folder these are its versions; a model's own time says nothing of them.
                found.update(_looks(model.path, timed=not model.is_dir()))
                if not model.is_dir():
                    continue
                with os.scandir(model.path) as versions:
                    for version in versions:
                        if version.name.startswith("."):
                            continue
                        found.update(_looks(version.path, timed=True))
    except OSError:
        return frozenset()
    return frozenset(found).union(*(files_in(path) for path in unfinished))


def _looks(path: str, *, timed: bool) -> Iterator[tuple[str, int, int]]:
    """A file or folder, with its time or without, and the manifest in it."""
    for each in (path, os.path.join(path, MANIFEST)):
        with contextlib.suppress(OSError):
            status = os.stat(each)
            yield each, status.st_ino, status.st_mtime_ns if timed or each != path else 0


def files_in(bundle: Path) -> Files:
    """The files of a bundle's folder as they are now, or the one file that an archive is."""
    found: set[tuple[str, int, int]] = set()
    paths = [os.path.join(folder, name) for folder, _, names in os.walk(bundle) for name in names]
    for path in paths or [str(bundle)]:
        with contextlib.suppress(OSError):
            status = os.lstat(path)
            found.add((path, status.st_size, status.st_mtime_ns))
    return frozenset(found)
