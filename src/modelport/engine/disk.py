"""A model repository's folder, read with patience: one damaged bundle does not hide the others."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from ..bundle.layout import find_bundles
from ..bundle.store import Bundle
from ..errors import ModelportError


class Broken(msgspec.Struct, frozen=True):
    """A folder or archive that should be a bundle and is none."""

    name: str
    version: str
    reason: str


def read_repository(folder: Path) -> tuple[list[Bundle], list[Broken]]:
    """Every bundle under `folder` that opens, and what does not open.

    Raises:
        NotFound: there is nothing that looks like a bundle.
        BundleError: two bundles claim one name and version.
    """
    bundles: list[Bundle] = []
    broken: list[Broken] = []
    for path in find_bundles(folder):
        try:
            bundles.append(Bundle.open(path))
        except ModelportError as problem:
            version = path.name.removesuffix(".zip")
            broken.append(Broken(path.parent.name, version, problem.message))
    return bundles, broken


def fingerprint(folder: Path) -> frozenset[tuple[str, int, int]]:
    """What changes when a bundle comes, goes or is replaced: names, inodes and times."""
    found: set[tuple[str, int, int]] = set()
    try:
        with os.scandir(folder) as models:
            for model in models:
                if model.name.startswith(".") or not model.is_dir():
                    continue
                with os.scandir(model.path) as versions:
                    for version in versions:
                        if not version.name.startswith("."):
                            status = version.stat()
                            found.add((version.path, status.st_ino, status.st_mtime_ns))
    except OSError:
        return frozenset()
    return frozenset(found)
