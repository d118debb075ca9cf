"""What the arguments of `modelport predict` mean: one item for each picture, video, camera or stream."""

from __future__ import annotations

import glob
from collections.abc import Iterator
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


def items_of(inputs: tuple[str, ...], kind: str) -> Iterator[Item]:
    """The items that the arguments mean; what is not there stays, to give its error in its place.

    Args:
        inputs: files, directories, globs, addresses, numbers of cameras.
        kind: `image` or `tensors`: what the bundle decodes.

    Raises:
        NotFound: a directory or a glob with no file of a kind that the bundle decodes.
    """
    suffixes = PICTURE_SUFFIXES | VIDEO_SUFFIXES if kind == "image" else TENSOR_SUFFIXES
    for given in inputs:
        path = Path(given)
        if path.is_dir():
            found = sorted(str(p) for p in path.rglob("*") if p.suffix.lower() in suffixes and p.is_file())
            root: PurePath = path
        elif not path.exists() and not is_url(given) and glob.has_magic(given):
            found = sorted(name for name in glob.glob(given, recursive=True) if Path(name).is_file())
            root = _fixed_part(given)
        else:
            yield item_of(given, kind)
            continue
        if not found:
            raise NotFound(f"no file in {given!r} has one of the endings {', '.join(sorted(suffixes))}")
        for name in found:
            yield item_of(name, kind, PurePath(name).relative_to(root).as_posix())


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
