"""YOLO's data sets: pictures in images/, a text file of boxes for each in labels/, names in a YAML file.

A line of a label file is `class x y w h`, the middle and size of a box as shares of the picture, or
`class x1 y1 x2 y2 …`, the corners of a polygon, of which the box around it is taken. A picture without a
label file has no objects.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import InputError
from ...yaml_files import read_yaml
from .item import Boxes, Data, Item, pictures_below, read_text, some

SPLITS = ("val", "test", "train")
"""Which part is taken where none is named: the first of these that is there."""
_MOST_DIGITS = 10
"""Of a class's number."""
SLACK = 0.01
"""By how much a share may be over 1: what rounding and annotation tools leave."""


def is_yolo(root: Path) -> bool:
    """Whether a folder looks like such a data set."""
    return (root / "images").is_dir() and (root / "labels").is_dir()


def from_folder(root: Path, split: str | None) -> Data:
    """The data set in a folder; its YAML file is found by the `names` in it.

    Raises:
        InputError: several YAML files with names, or as `from_yaml`.
    """
    files = sorted(path for path in root.iterdir() if path.suffix.lower() in (".yaml", ".yml"))
    found = [(path, content) for path in files if "names" in (content := _yaml(path))]
    if len(found) > 1:
        named = some([path.name for path, _ in found])
        raise InputError(f"several files name classes: {named}", at=str(root), hint="give one of them")
    if found:
        return _of_yaml(found[0][0], found[0][1], split)
    images = _split_folder(root / "images", split)
    return _data(root.name, _pictures(images), (), (), root / "labels")


def from_yaml(path: Path, split: str | None) -> Data:
    """The data set that a YAML file describes (`path`, `train`, `val`, `test`, `names`).

    Raises:
        InputError: no names, no such split, no pictures, or a label that makes no sense, with its place.
    """
    return _of_yaml(path, _yaml(path), split)


def from_list(path: Path, names: Sequence[str] = ()) -> Data:
    """The pictures that a text file lists, a path a line (relative ones to the file's folder).

    Raises:
        InputError: it lists none, or as `from_yaml`.
    """
    return _data(path.stem, _listed(path), names, (), None)


def _of_yaml(path: Path, content: Mapping[str, Any], split: str | None) -> Data:
    names = _names(content.get("names"), path)
    root = path.parent / str(content.get("path") or ".")
    offered = [key for key in SPLITS if content.get(key)]
    if split is not None and split not in offered:
        raise InputError(f"there is no split {split!r}; there are {some(offered) or 'none'}", at=str(path))
    notes: list[str] = []
    for key in [split] if split else offered:
        places = content[key] if isinstance(content[key], list) else [content[key]]
        pictures: list[Path] = []
        there = [_place(root, path.parent, str(place)) for place in places]
        if all(place is not None for place in there):
            for place in there:
                if place is not None:
                    pictures += _listed(place) if place.is_file() else _pictures(place)
            return _data(path.parent.name, pictures, names, (*notes, f"the split {key!r}"), None)
        notes.append(f"{path.name} says {key}: {some([str(p)[:200] for p in places])}, which is not there")
    images = path.parent / "images"
    if split is None and images.is_dir():
        notes.append("all pictures in images/ were taken")
        return _data(path.parent.name, _pictures(images), names, notes, path.parent / "labels")
    raise InputError("; ".join(notes) or "no split is named", at=str(path), hint="set `path` and `val` in it")


def _place(root: Path, beside: Path, text: str) -> Path | None:
    """Where a split is: below `path`, or, as data sets are moved about, below the YAML file's folder."""
    for base in (root, beside):
        with contextlib.suppress(OSError):  # a name that no disk has, being too long
            if (base / text).exists():
                return base / text
    return None


def _split_folder(images: Path, split: str | None) -> Path:
    for name in [split] if split else SPLITS:
        for folder in sorted(images.iterdir()):
            if folder.is_dir() and folder.name.startswith(str(name)):
                return folder
    if split:
        raise InputError(f"there is no folder {split!r} in images/", at=str(images.parent))
    return images


def _pictures(folder: Path) -> list[Path]:
    found = pictures_below(folder)
    if not found:
        raise InputError(f"no pictures in {folder.name!r}", at=str(folder))
    return found


def _listed(path: Path) -> list[Path]:
    lines = [line.strip() for line in read_text(path).splitlines()]
    found = [Path(line) if Path(line).is_absolute() else path.parent / line for line in lines if line]
    if not found:
        raise InputError("the list names no pictures", at=str(path))
    return found


def _data(
    name: str, pictures: Sequence[Path], names: Sequence[str], notes: Sequence[str], labels: Path | None
) -> Data:
    """Items with their boxes.

    Args:
        labels: the folder whose files should all have a picture; None where only a part was asked for.
    """
    doubled = 0
    items = []
    places: dict[Path, Path] = {}
    for path in pictures:
        place = label_file(path)
        if place in places:
            raise InputError(f"{path.name} and {places[place].name} share one label file", at=place.name)
        places[place] = path
        boxes, double = read_boxes(place, len(names)) if place.is_file() else (_no_boxes(), 0)
        doubled += double
        items.append(Item(_short(path), path, boxes))
    known = {place for place in places if place.is_file()}
    if not known:
        first = label_file(pictures[0])
        raise InputError(
            f"none of {len(pictures)} pictures has a label file; the first one's would be "
            f"{first.parent.name}/{first.name}",
            at=name,
        )
    more = list(notes)
    if labels is not None and labels.is_dir():
        files = [path for path in sorted(labels.rglob("*.txt")) if path.name != "classes.txt"]
        lost = [f"labels/{file.relative_to(labels).as_posix()}" for file in files if file not in known]
        if lost:
            more.append(f"label files without a picture, left out: {some(lost)}")
    if len(known) < len(pictures):
        more.append(f"{len(pictures) - len(known)} pictures have no label file: they show no objects")
    if doubled:
        more.append(f"{doubled} boxes that stand twice in a label file count once")
    return Data(name, "boxes", items, tuple(names), tuple(more))


def label_file(picture: Path) -> Path:
    """Where a picture's boxes are: the last `images` of its path is `labels`, or beside the picture."""
    parts = list(picture.parts)
    for place in range(len(parts) - 2, -1, -1):
        if parts[place] == "images":
            parts[place] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def read_boxes(path: Path, classes: int) -> tuple[Boxes, int]:
    """The boxes of a label file, as shares, and how many stood there twice.

    Args:
        classes: how many there are; 0 where that is not known.

    Raises:
        InputError: something else than the two forms, a class out of range, NaN or a share outside 0 to 1,
            with the line.
    """
    boxes: dict[tuple[int, float, float, float, float], None] = {}
    lines = 0
    for number, line in enumerate(read_text(path, 64 << 20).splitlines(), 1):
        fields = line.split()
        if not fields:
            continue
        lines += 1
        boxes[_box(fields, classes, f"{path.parent.name}/{path.name}:{number}")] = None
    rows = np.array(list(boxes), np.float64).reshape(-1, 5)
    count = len(rows)
    return Boxes(rows[:, 1:], rows[:, 0].astype(np.int64), np.zeros(count, bool), "share"), lines - count


def _box(fields: list[str], classes: int, at: str) -> tuple[int, float, float, float, float]:
    try:
        numbers = [float(field) for field in fields]
    except ValueError:
        raise InputError(f"expected numbers, got {' '.join(fields)[:60]!r}", at=at) from None
    if len(numbers) < 5 or (len(numbers) > 5 and (len(numbers) % 2 == 0 or len(numbers) < 7)):
        raise InputError(
            f"expected `class x y w h` or a polygon `class x1 y1 x2 y2 x3 y3 …`, got {len(numbers)} fields",
            at=at,
        )
    if not all(math.isfinite(number) for number in numbers):
        raise InputError(f"expected finite numbers, got {' '.join(fields)[:60]!r}", at=at)
    index, *shares = numbers
    if index != int(index) or index < 0 or (classes and index >= classes):
        span = f"0 to {classes - 1}" if classes else "a whole number from 0"
        raise InputError(f"class {fields[0]} is out of range; expected {span}", at=at)
    if min(shares) < -SLACK or max(shares) > 1 + SLACK:
        raise InputError(
            f"expected shares of the picture (0 to 1), got {' '.join(fields[1:])[:60]!r}",
            at=at,
            hint="divide x and w by the picture's width, y and h by its height",
        )
    if len(shares) == 4:
        x, y, w, h = shares
        if w <= 0 or h <= 0:
            raise InputError(f"a box of size {w:g} x {h:g}", at=at)
        return int(index), x - w / 2, y - h / 2, x + w / 2, y + h / 2
    xs, ys = shares[0::2], shares[1::2]
    return int(index), min(xs), min(ys), max(xs), max(ys)


def _no_boxes() -> Boxes:
    return Boxes(np.empty((0, 4)), np.empty(0, np.int64), np.empty(0, bool), "share")


def _short(path: Path) -> str:
    """A picture's name within the data: from behind its `images` folder."""
    parts = path.parts
    behind = max((place for place, part in enumerate(parts[:-1]) if part == "images"), default=len(parts) - 2)
    return "/".join(parts[behind + 1 :])


def _names(names: Any, path: Path) -> tuple[str, ...]:
    if isinstance(names, dict):
        indices = {index: str(index) for index in names}
        numbered = {
            int(text): str(names[index])
            for index, text in indices.items()
            if text.isdecimal() and len(text) < _MOST_DIGITS
        }
        if len(numbered) == len(names) and sorted(numbered) == list(range(len(numbered))):
            names = [numbered[index] for index in range(len(numbered))]
    if not isinstance(names, list) or not names:
        raise InputError("expected `names`: a list, or a map from 0, 1, 2 … to names", at=str(path))
    return tuple(str(name) for name in names)


def _yaml(path: Path) -> dict[str, Any]:
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise InputError("expected keys and values (path, train, val, names)", at=str(path))
    return content
