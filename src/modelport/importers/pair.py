"""Sources that are two files, a network and its weights: which two, told by names and by content."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from ..errors import InputError, NotFound, UsageError
from .converted import ConvertedImporter
from .source import as_path
from .strange import LFS_POINTER

SHOWN = 4


class Kind(msgspec.Struct, frozen=True):
    """How a framework keeps a network and its weights."""

    network: str
    """The first file in a few words: `an MXNet symbol`."""
    weights: str
    is_network: Callable[[Path], bool]
    """Told by content, cheaply."""
    is_weights: Callable[[Path], bool]
    weights_of: Callable[[Path], Sequence[str]]
    """The patterns of names under which the framework keeps a network's weights, likeliest first."""
    network_of: Callable[[Path], Sequence[str]]


class PairImporter(ConvertedImporter):
    """A `ConvertedImporter` of sources that are a network and its weights."""

    kind: Kind
    takes = frozenset({"weights"})

    def recognises(self, source: Any) -> bool:
        """Either file of the pair, or a folder with a network in it."""
        path = as_path(source)
        return path is not None and recognised(self.kind, path)


def recognised(kind: Kind, path: Path) -> bool:
    """Whether `path` is either file of such a pair, or a folder that holds a network."""
    if path.is_dir():
        return bool(_networks(kind, path))
    return path.is_file() and (kind.is_network(path) or kind.is_weights(path))


def find_pair(kind: Kind, path: Path, other: Path | None) -> tuple[Path, Path]:
    """The network's file and its weights'.

    Args:
        kind: of the framework.
        path: either of the two, or the folder that holds them.
        other: the second file, where the user names it.

    Raises:
        NotFound: the second file is not there. UsageError: a folder with several networks.
        InputError: what lies in the second file's place is no such file.
    """
    if path.is_dir():
        networks = _networks(kind, path)
        if len(networks) != 1:
            raise UsageError(
                f"{path} holds {len(networks)} files that are {kind.network}: {_some(networks)}",
                hint="give one of them instead of the folder",
            )
        path = networks[0]
    if kind.is_network(path):
        found = other or _beside(path, kind.weights_of(path))
        if found is None:
            expected = " or ".join(kind.weights_of(path))
            raise NotFound(
                f"{path} is {kind.network}, and its weights are not beside it (expected {expected})",
                hint="--weights FILE names them",
            )
        if found.is_dir() or not kind.is_weights(found):
            raise InputError(f"{found} is not {kind.weights}, which {path.name} needs: {_look(found)}")
        return path, found
    found = other or _beside(path, kind.network_of(path))
    if found is None:
        expected = " or ".join(kind.network_of(path))
        raise NotFound(
            f"{path} is {kind.weights}, and its network is not beside it (expected {expected})",
            hint=f"give {kind.network} as SOURCE, and this file with --weights",
        )
    if found.is_dir() or not kind.is_network(found):
        raise InputError(f"{found} is not {kind.network}, which {path.name} needs: {_look(found)}")
    return found, path


def head_of(path: Path, size: int) -> bytes:
    """The first bytes of a file; none of what cannot be read."""
    try:
        with path.open("rb") as stream:
            return stream.read(size)
    except OSError:
        return b""


def _networks(kind: Kind, folder: Path) -> list[Path]:
    return [each for each in sorted(folder.iterdir()) if each.is_file() and kind.is_network(each)]


def _beside(path: Path, patterns: Sequence[str]) -> Path | None:
    """The last by name of the files that the first pattern with any finds."""
    for pattern in patterns:
        # Names may hold what a pattern gives a meaning to: only `*` has one here.
        start, star, end = pattern.partition("*")
        found = [
            each
            for each in path.parent.iterdir()
            if (each.name.startswith(start) and each.name.endswith(end) if star else each.name == pattern)
            and each != path
            and len(each.name) >= len(start) + len(end)
        ]
        if found:
            return max(found)
    return None


def _look(path: Path) -> str:
    size = path.stat().st_size if path.is_file() else 0
    head = head_of(path, len(LFS_POINTER))
    if head.startswith(LFS_POINTER):
        return "it is a Git LFS pointer; git lfs pull fetches the file"
    return f"{size} bytes that begin {head[:8].hex(' ')}" if head else "it is empty"


def _some(paths: Sequence[Path]) -> str:
    names = ", ".join(each.name for each in paths[:SHOWN])
    return f"{names} and {len(paths) - SHOWN} more" if len(paths) > SHOWN else names
