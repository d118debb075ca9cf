"""The START: the network as it was packed, which all candidates are compared with; what is asked of it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from hashlib import sha256
from importlib.metadata import entry_points
from pathlib import Path

from ..bundle.store import Bundle
from ..errors import ModelportError
from ..evaluate.data.item import Boxes, Data
from ..evaluate.data.read import read_data
from ..runtimes.machine import choose_variant, machine_class
from .bench.plan import versions_of
from .candidate import START, version_after

TOOLS = ("onnxruntime", "openvino", "onnx", "onnxslim")
"""Packages that what is found hangs on."""


def plain(bundle: Bundle, place: Path) -> Bundle:
    """The bundle without variants, written to `place`: the network as it was packed."""
    version = version_after(bundle, START)
    return bundle.derive(place, without_variants(bundle), version=version, variants=())


def without_variants(bundle: Bundle) -> dict[str, bytes | None]:
    """The files that only variants have, as `Bundle.derive` leaves them out."""
    graphs = bundle.manifest.graphs
    own = {graphs.pre.file, graphs.net.file, graphs.post.file}
    said = {file for each in bundle.manifest.variants for file in each.files.values()}
    return dict.fromkeys(sorted(said - own))


def begun_from(bundle: Bundle) -> str:
    """Of a bundle that has variants already: what the search begins with; empty of another one."""
    variants = bundle.manifest.variants
    if not variants:
        return ""
    name = f"{bundle.manifest.name} {bundle.manifest.version}"
    chosen = choose_variant(bundle.manifest, None)
    runs = f"runs here as its variant {chosen.name}" if chosen is not None else "has variants"
    text = (
        f"{name} {runs}: the search begins with the network as it was packed, and compares with that "
        "(`modelport bench` compares a variant with what is written)"
    )
    others = sorted({each.machine for each in variants} - {"", machine_class()})
    return f"{text}; the variants for {', '.join(others)} stay" if others else text


def gone_on(begun: bool, before: int) -> str:
    """Of a search of which something is there: what it goes on from; empty of another one."""
    if not begun:
        return ""
    if not before:
        return "an earlier search of the same had judged no candidate yet; what it made is used"
    many = "1 candidate" if before == 1 else f"{before} candidates"
    return f"going on from {many} found before, with the whole budget again"


def same_items(bundle: Bundle, data: Path, labelled: Path | None, split: str | None = None) -> str:
    """That the ranges are measured on what is judged; empty where the two are apart.

    Args:
        split: the part of the labelled data.
    """
    if labelled is None:
        return ""
    one, other = data.resolve(), labelled.resolve()
    apart = not (one.is_relative_to(other) or other.is_relative_to(one))
    if apart and not _lists_from(one, _listed(bundle, labelled, split)):
        return ""
    return (
        "--data and --eval have the same items: 8-bit candidates are judged on what their ranges were "
        "measured on, which flatters them a little"
    )


def _lists_from(folder: Path, known: Data | None) -> bool:
    """Whether labelled data list a picture that lies there."""
    sources = (item.source for item in known.items) if known is not None else ()
    return any(isinstance(each, Path) and each.resolve().is_relative_to(folder) for each in sources)


def question(
    bundle: Bundle, data: Path, labelled: Path | None, split: str | None = None
) -> tuple[object, ...]:
    """What an answer that was found before has to be of to hold still: bundle, data, programs, processor.

    Args:
        split: the part of the labelled data.
    """
    return (
        bundle.digest,
        *(place and (place.resolve(), stamp(place)) for place in (data, labelled)),
        labelled and listed_stamp(bundle, labelled, split),
        sorted(versions_of(TOOLS).items()),
        sorted(_of_plugins()),
        machine_class(),
    )


def _of_plugins() -> set[tuple[str, str]]:
    """Packages of third parties that bring passes or runtimes, with their versions."""
    points = [point for group in ("passes", "runtimes") for point in entry_points(group=f"modelport.{group}")]
    return {(point.dist.name, point.dist.version) for point in points if point.dist is not None}


def listed_stamp(bundle: Bundle, labelled: Path, split: str | None) -> str:
    """Digest of the pictures that labelled data list, wherever they lie, and of what is known of each.

    Empty of other items, which are in the file or folder itself, and where it cannot be read: `evaluate` says
    why.
    """
    if (known := _listed(bundle, labelled, split)) is None:
        return ""
    found = sha256(repr(known.names).encode())
    for item in known.items:
        truth = item.truth
        if isinstance(truth, Boxes):
            truth = [array.tolist() for array in (truth.boxes, truth.classes, truth.crowd)]
        found.update(f"{item.name}\0{truth!r}\0{_status(item.source)}\n".encode(errors="surrogateescape"))
    return found.hexdigest()


def _listed(bundle: Bundle, labelled: Path, split: str | None) -> Data | None:
    """The pictures that labelled data list; None of other items, and where it cannot be read."""
    manifest = bundle.manifest
    if manifest.decode.kind != "image":
        return None
    with contextlib.suppress(ModelportError, OSError):
        return read_data(labelled, manifest.task, split=split, name=manifest.name, decode=manifest.decode)
    return None


def _status(source: object) -> str:
    """Size and time of a file; empty of anything else, and where it is not there."""
    with contextlib.suppress(OSError):
        if isinstance(source, Path):
            status = source.stat()
            return f"{status.st_size} {status.st_mtime_ns}"
    return ""


def stamp(place: Path) -> str:
    """Digest of names, sizes and times of files: the same for a file or folder that nobody changed."""
    found = sha256()
    for path, status in _files(place):
        found.update(f"{path}\0{status.st_size}\0{status.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return found.hexdigest()


def _files(place: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Files and their status, in the order of their names; what cannot be looked at is left to its reader."""
    if not place.is_dir():
        if place.exists():
            yield place.name, place.stat()
        return
    for folder, below, names in os.walk(place):
        below.sort()
        for name in sorted(names):
            path = os.path.join(folder, name)
            if os.path.isfile(path):
                yield os.path.relpath(path, place), os.stat(path)
