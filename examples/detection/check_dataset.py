"""Name what is wrong with a YOLO-format data set before a training run finds out the slow way.

    python check_dataset.py data.yaml

A data set is a data.yaml (`path`, `train`, `val`, `names`) and, for every `images/…/NAME.jpg`, a
`labels/…/NAME.txt` with a row `class centre_x centre_y width height` for each object, in shares of the
picture.
Errors are what training cannot use or would learn wrongly; warnings are what may be meant.
Needs PyYAML and Pillow. Reads; changes nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
SLACK = 1e-4
"""How far over the edge a box may reach by rounding, in shares of the picture."""
MIN_PIXELS = 2.0
"""A side shorter than this is too small to be seen by a network."""
SHOWN = 10
FOLDERS = ("images", "labels")


class Finding(NamedTuple):
    """One thing that is wrong, and where."""

    level: str
    """`error` or `warning`."""
    kind: str
    place: str
    """A file, with the line where there is one: `labels/train/1.txt:3`."""
    message: str


class Report(NamedTuple):
    """What a check found, and what it looked at."""

    findings: tuple[Finding, ...]
    pictures: dict[str, int]
    """Split -> pictures in it."""
    boxes: dict[str, int]
    """Class name -> objects of it with a sound label, a picture of two splits counted once."""

    @property
    def ok(self) -> bool:
        """Whether there is no error; warnings do not count."""
        return not any(finding.level == "error" for finding in self.findings)


class DataError(Exception):
    """The data.yaml itself cannot be used."""


class DataSet(NamedTuple):
    """What data.yaml says."""

    names: dict[int, str]
    splits: dict[str, list[Path]]
    """`train`, `val` and perhaps `test` -> folders of pictures, or text files that list them."""


def check(data: Path) -> Report:
    """Look at every picture and every label that a data.yaml leads to.

    Raises:
        DataError: data.yaml is missing, is no YAML, or lacks `train`, `val` or `names`.
    """
    dataset = read(data)
    findings: list[Finding] = []
    pictures: dict[str, int] = {}
    counts: Counter[str] = Counter()
    seen: dict[str, tuple[str, Path]] = {}
    files: dict[str, set[Path]] = {}
    for split, places in dataset.splits.items():
        found = sorted({path for place in places for path in pictures_in(place)})
        pictures[split] = len(found)
        if not found:
            where = ", ".join(str(place) for place in places)
            findings.append(Finding("error", "no pictures", where, f"{split} has no pictures"))
        for other, earlier in files.items():
            if shared := len(earlier & set(found)):
                message = (
                    f"{other} and {split} share {shared} of {len(found)} pictures, so {split} proves nothing"
                )
                findings.append(Finding("error", "picture in two splits", str(data), message))
        new = [path for path in found if not any(path in earlier for earlier in files.values())]
        files[split] = set(found)
        labels = {labels_of(path): path for path in new}
        for path in new:
            findings += _picture(path, split, seen)
        for label, path in labels.items():
            findings += _labels(label, path, dataset.names, counts)
        findings += _stray(labels)
    for index, name in dataset.names.items():
        if not counts[name]:
            findings.append(
                Finding("warning", "unused class", str(data), f"class {index} ({name}) has no object")
            )
    return Report(tuple(findings), pictures, {name: counts[name] for name in dataset.names.values()})


def read(data: Path) -> DataSet:
    """A data.yaml; places in it are relative to its `path`, and that to the file's own folder.

    Raises:
        DataError: missing, no YAML, or without what is needed.
    """
    import yaml

    try:
        held = yaml.safe_load(data.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as problem:
        raise DataError(f"{data} cannot be read: {problem}") from problem
    if not isinstance(held, dict):
        raise DataError(f"{data} holds no names and places")
    names = held.get("names")
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or not names or not all(isinstance(index, int) for index in names):
        raise DataError(f"{data}: `names` must be a list of class names, or a map from 0 on")
    if sorted(names) != list(range(len(names))):
        raise DataError(
            f"{data}: the classes of `names` are numbered {sorted(names)}, not 0 to {len(names) - 1}"
        )
    root = data.parent / str(held.get("path") or "")
    splits: dict[str, list[Path]] = {}
    for split in ("train", "val", "test"):
        places = held.get(split)
        if places is None and split == "test":
            continue
        if not places:
            raise DataError(f"{data} says no `{split}`")
        splits[split] = [root / str(place) for place in (places if isinstance(places, list) else [places])]
        for place in splits[split]:
            if not place.exists():
                raise DataError(f"{data}: {split} is {place}, which is not there")
    return DataSet({index: str(name) for index, name in names.items()}, splits)


def labels_of(picture: Path) -> Path:
    """Where a picture's labels are: the last folder `images` of its path is `labels` there."""
    parts = list(picture.parts)
    for index in range(len(parts) - 2, -1, -1):
        if parts[index] == FOLDERS[0]:
            parts[index] = FOLDERS[1]
            break
    return Path(*parts).with_suffix(".txt")


def pictures_in(place: Path) -> Iterator[Path]:
    """The pictures of a split: those in a folder and below, or those that a text file lists."""
    if place.is_dir():
        yield from (path for path in place.rglob("*") if path.suffix.lower() in PICTURES and path.is_file())
        return
    for line in place.read_text().splitlines():
        if line.strip():
            listed = Path(line.strip())
            yield listed if listed.is_absolute() else place.parent / listed


def _picture(path: Path, split: str, seen: dict[str, tuple[str, Path]]) -> Iterator[Finding]:
    """Whether it can be decoded wholly, and whether the same picture was there before."""
    from PIL import Image

    try:
        data = path.read_bytes()
        with Image.open(path) as picture:
            picture.load()
            width, height = picture.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as problem:
        yield Finding("error", "unreadable picture", str(path), f"cannot be decoded: {problem}")
        return
    if min(width, height) < 10:
        yield Finding("error", "unreadable picture", str(path), f"{width} x {height} pixels are too few")
    digest = hashlib.sha256(data).hexdigest()
    if digest not in seen:
        seen[digest] = (split, path)
        return
    other, first = seen[digest]
    if other != split:
        message = f"the same picture as {first}: {other} and {split} must not share any"
        yield Finding("error", "picture in two splits", str(path), message)
    else:
        yield Finding("warning", "picture twice", str(path), f"the same picture as {first}")


def _labels(label: Path, picture: Path, names: dict[int, str], counts: Counter[str]) -> Iterator[Finding]:
    """The rows of one picture's labels. No file, or an empty one, says that there is nothing on it."""
    if not label.is_file():
        message = f"{picture.name} has no labels; write an empty file if there is nothing on it"
        yield Finding("warning", "no labels", str(label), message)
        return
    try:
        rows = label.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as problem:
        yield Finding("error", "unreadable labels", str(label), str(problem))
        return
    if not any(row.strip() for row in rows):
        yield Finding("warning", "empty labels", str(label), "says that there is nothing on the picture")
        return
    size = _size(picture)
    known: dict[tuple[float, ...], int] = {}
    for number, row in enumerate(rows, 1):
        if not row.strip():
            continue
        place = f"{label}:{number}"
        parsed = _parse(row)
        if isinstance(parsed, str):
            yield Finding("error", "unreadable row", place, parsed)
            continue
        wrong = list(_row(parsed, names, size))
        yield from (Finding(level, kind, place, message) for level, kind, message in wrong)
        if parsed in known:
            message = f"the same box as in line {known[parsed]}"
            yield Finding("warning", "box twice", place, message)
            continue
        known[parsed] = number
        if not any(level == "error" for level, _, _ in wrong):
            counts[names[int(parsed[0])]] += 1


def _parse(row: str) -> tuple[float, ...] | str:
    """The five numbers of a row, or what is wrong with it."""
    fields = row.split()
    if len(fields) > 5 and len(fields) % 2 == 1:
        return f"{len(fields)} numbers, which look like an outline (segmentation); a box has 5"
    if len(fields) != 5:
        return f"{len(fields)} values; expected class, centre x, centre y, width, height"
    try:
        numbers = tuple(float(field) for field in fields)
    except ValueError:
        return f"not five numbers: {row.strip()[:80]}"
    if not all(math.isfinite(number) for number in numbers):
        return f"not five finite numbers: {row.strip()[:80]}"
    return numbers


def _row(
    row: tuple[float, ...], names: dict[int, str], size: tuple[int, int] | None
) -> Iterator[tuple[str, str, str]]:
    kind, x, y, width, height = row
    if kind != int(kind) or int(kind) not in names:
        last = len(names) - 1
        yield "error", "unknown class", f"class {kind:g}; data.yaml names 0 to {last}"
    if max(row[1:]) > 1 + SLACK and max(row[1:]) > 2:
        yield "error", "outside the picture", f"{max(row[1:]):g} is no share from 0 to 1; are these pixels?"
    elif any(not 0 <= number <= 1 for number in row[1:]):
        yield (
            "error",
            "outside the picture",
            f"centre {x:g}, {y:g}, size {width:g} x {height:g}: not in 0 to 1",
        )
    elif (
        x - width / 2 < -SLACK
        or y - height / 2 < -SLACK
        or x + width / 2 > 1 + SLACK
        or y + height / 2 > 1 + SLACK
    ):
        yield (
            "warning",
            "over the edge",
            f"reaches over the picture's edge: centre {x:g}, {y:g}, {width:g} x {height:g}",
        )
    if width <= 0 or height <= 0:
        yield "error", "empty box", f"a box of {width:g} x {height:g}"
    elif size is not None and min(width * size[0], height * size[1]) < MIN_PIXELS:
        yield "warning", "tiny box", f"{width * size[0]:.1f} x {height * size[1]:.1f} pixels"


def _size(picture: Path) -> tuple[int, int] | None:
    from PIL import Image

    try:
        with Image.open(picture) as opened:
            return opened.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def _stray(labels: dict[Path, Path]) -> Iterator[Finding]:
    """Label files in the folders of these labels that belong to no picture."""
    for folder in sorted({label.parent for label in labels}):
        for path in sorted(folder.glob("*.txt")):
            if path not in labels and path.name != "classes.txt":
                yield Finding(
                    "error", "labels without a picture", str(path), "there is no picture of this name"
                )


def lines(report: Report) -> Iterator[str]:
    """The report for people: each kind with its count and its first places, errors first."""
    for level in ("error", "warning"):
        kinds = Counter(finding.kind for finding in report.findings if finding.level == level)
        for kind, count in kinds.most_common():
            yield f"{level}: {kind}: {count}"
            same = [finding for finding in report.findings if (finding.level, finding.kind) == (level, kind)]
            yield from (f"  {finding.place}: {finding.message}" for finding in same[:SHOWN])
            if count > SHOWN:
                yield f"  and {count - SHOWN} more"
    yield "pictures: " + ", ".join(f"{split} {count}" for split, count in report.pictures.items())
    yield "objects: " + ", ".join(f"{name} {count}" for name, count in report.boxes.items())


def main() -> int:
    parser = argparse.ArgumentParser(description="Check a YOLO-format data set.")
    parser.add_argument("data", type=Path, metavar="data.yaml")
    parser.add_argument("--json", action="store_true", help="print the whole report as JSON")
    chosen = parser.parse_args()
    try:
        report = check(chosen.data)
    except DataError as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 3
    if chosen.json:
        found = [finding._asdict() for finding in report.findings]
        print(
            json.dumps(
                {"ok": report.ok, "findings": found, "pictures": report.pictures, "boxes": report.boxes}
            )
        )
    else:
        print("\n".join(lines(report)))
    return 0 if report.ok else 1


if __name__ == "__main__":
    sys.exit(main())
