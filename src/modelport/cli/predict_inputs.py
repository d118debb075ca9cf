"""What the arguments of `modelport predict` mean: one item for each picture, video, camera or stream."""

from __future__ import annotations

import glob
from collections.abc import Container, Iterator
from pathlib import Path, PurePath
from urllib.parse import unquote

import msgspec

from ..errors import NotFound
from ..media.kinds import PICTURE_SUFFIXES, VIDEO_SUFFIXES, is_url, local_kind_of, parts_of, shown

TENSOR_SUFFIXES = frozenset({".npy", ".npz", ".json"})


class Item(msgspec.Struct, frozen=True):
    """One input. `relative` is its name among the outputs: the path below what the user named."""

    name: str
    relative: str
    moving: bool = False
    """A video, a camera or a stream: many frames."""
    problem: str = ""
    """Why nothing of it can be answered, where that is known before it is opened."""


def items_of(inputs: tuple[str, ...], kind: str) -> Iterator[Item]:
    """The items that the arguments mean; what is not there stays, to give its error in its place.

    Args:
        inputs: files, directories, globs, addresses, numbers of cameras.
        kind: `image` or `tensors`: what the bundle decodes.

    Raises:
        NotFound: a directory or a glob with nothing that the bundle decodes, which is all there is.
    """
    pictures = kind == "image"
    suffixes = PICTURE_SUFFIXES | VIDEO_SUFFIXES if pictures else TENSOR_SUFFIXES
    for given in inputs:
        meant = meant_by(given, suffixes)
        if meant is None:
            yield item_of(given, kind)
            continue
        found, root = meant
        if not found:
            problem = nothing(given, "pictures or videos" if pictures else "tensors")
            if len(inputs) == 1:
                raise NotFound(problem)
            yield Item(given, given, problem=problem)
        for name in found:
            yield item_of(name, kind, PurePath(name).relative_to(root).as_posix())


def meant_by(given: str, suffixes: Container[str]) -> tuple[list[str], PurePath] | None:
    """The files that a directory or a glob means, and what their names are relative to; None for one input.

    Args:
        suffixes: of the files in a directory that are meant, in lower case; a glob says it itself.
    """
    path = Path(given)
    if path.is_dir():
        found = (str(each) for each in path.rglob("*") if each.suffix.lower() in suffixes and each.is_file())
        return sorted(found), path
    if not path.exists() and not is_url(given) and glob.has_magic(given):
        names = (name for name in glob.glob(given, recursive=True) if Path(name).is_file())
        return sorted(names), _fixed_part(given)
    return None


def nothing(given: str, wanted: str) -> str:
    """Why there is no item: `wanted` is what was looked for in a directory."""
    return f"nothing matches {given}" + (f": no {wanted} in it" if Path(given).is_dir() else "")


def item_of(name: str, kind: str, relative: str | None = None) -> Item:
    """One item; an address's relative name is made of its host and path, a camera's of its number."""
    if kind != "image":
        return Item(name, relative or PurePath(name).name)
    what = local_kind_of(name)
    if what == "camera":
        return Item(name, f"camera{PurePath(name).name.removeprefix('video')}.mp4", moving=True)
    if is_url(name):
        parts = parts_of(shown(name))
        path = PurePath(unquote(parts.path).lstrip("/") or "index")
        ending = path.suffix or (".mp4" if what == "stream" else ".jpg")
        stem = path.with_suffix("").as_posix().replace("/", "-")
        return Item(name, f"{parts.netloc.replace(':', '_')}-{stem}{ending}", moving=what == "stream")
    return Item(name, relative or PurePath(name).name, moving=what == "video")


def _fixed_part(pattern: str) -> PurePath:
    """The directories of a glob before its first wildcard."""
    fixed = []
    for part in PurePath(pattern).parts[:-1]:
        if glob.has_magic(part):
            break
        fixed.append(part)
    return PurePath(*fixed)
