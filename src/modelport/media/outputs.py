"""What is kept of answered pictures: annotated files, YOLO text, COCO JSON and crops. All appear whole."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import IO, Any

from PIL import Image

from ..errors import UsageError
from ..tensors import Array
from .whole import whole_file

Detection = Mapping[str, Any]

_QUALITY = 92
_LONGEST = 200  # bytes of a name: systems take 255, and endings and numbers come on top
_UNSAFE = re.compile(r"[^\w.+@=-]+")


class OutputNames:
    """Where each input's outputs go: its own relative name, numbered where two inputs would share one."""

    def __init__(self) -> None:
        self._given: dict[str, str] = {}
        self._taken: set[str] = set()

    def of(self, name: str, relative: str, suffix: str) -> PurePosixPath:
        """The path for an output of the input `name`; the same question has the same answer."""
        key = f"{name}\0{suffix}"
        if key not in self._given:
            base = PurePosixPath(*(safe(part) for part in PurePosixPath(relative).parts))
            number, path = 1, base.with_suffix(suffix)
            while str(path).lower() in self._taken:
                number += 1
                path = base.with_name(f"{base.stem}-{number}{suffix}")
            self._taken.add(str(path).lower())
            self._given[key] = str(path)
        return PurePosixPath(self._given[key])


def safe(part: str) -> str:
    """A file's name without what a file's name may not hold, or what leads elsewhere (`..`)."""
    kept = _UNSAFE.sub("_", part).strip(".").encode()
    return kept[:_LONGEST].decode(errors="ignore") or "_"


def write_whole(path: Path, data: bytes) -> None:
    """Write a file that is there complete or not at all; its folders are made.

    Raises:
        OSError: the disk's no; nothing was left behind.
    """
    with whole_file(path) as part:
        part.write_bytes(data)


def write_picture(path: Path, picture: Array) -> None:
    """A picture, uint8[H, W, 3], as .png, .webp or .jpg by the ending of `path`."""
    data = BytesIO()
    kind = {".png": "PNG", ".webp": "WEBP"}.get(path.suffix.lower(), "JPEG")
    Image.fromarray(picture).save(data, kind, quality=_QUALITY)
    write_whole(path, data.getvalue())


def yolo_text(found: Sequence[Detection], width: int, height: int, *, scores: bool = False) -> str:
    """A line for each detection: class, middle x and y, width and height as shares of the picture.

    This is the format of YOLO's label files; with `scores` a sixth column holds the score.
    """
    lines = []
    for one in found:
        x1, y1, x2, y2 = one["box"]
        shares = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
        line = f"{one['class']} " + " ".join(f"{value:.6f}" for value in shares)
        lines.append(f"{line} {one['score']:.6f}\n" if scores else f"{line}\n")
    return "".join(lines)


def write_crops(folder: Path, stem: PurePosixPath, picture: Array, found: Sequence[Detection]) -> None:
    """What is in each box as FOLDER/LABEL/STEM-N.jpg; boxes without a pixel are left out."""
    height, width, _ = picture.shape
    for number, one in enumerate(found):
        x1, y1, x2, y2 = (round(float(value)) for value in one["box"])
        crop = picture[max(0, y1) : min(height, y2), max(0, x1) : min(width, x2)]
        if crop.size:
            write_picture(folder / safe(str(one["label"])) / f"{stem}-{number}.jpg", crop)


class CocoFile:
    """A COCO JSON file of detections that is written to as they come; memory does not grow with it.

    `images` have the size, `annotations` the box (x, y, width, height) and the `score`, `categories` the
    bundle's labels, with the class number as id. What was added is there after `close`.
    """

    def __init__(self, path: Path, labels: Sequence[str]) -> None:
        self._path = path
        self._labels = dict(enumerate(labels))
        self._images = _Parts()
        self._annotations = _Parts()

    def add(self, name: str, width: int, height: int, found: Sequence[Detection]) -> None:
        """One picture and its detections."""
        image = self._images.count + 1
        self._images.add({"id": image, "file_name": name, "width": width, "height": height})
        for one in found:
            x1, y1, x2, y2 = (float(value) for value in one["box"])
            box = [round(value, 3) for value in (x1, y1, x2 - x1, y2 - y1)]
            self._labels.setdefault(int(one["class"]), str(one["label"]))
            self._annotations.add(
                {
                    "id": self._annotations.count + 1,
                    "image_id": image,
                    "category_id": int(one["class"]),
                    "bbox": box,
                    "area": round(box[2] * box[3], 3),
                    "iscrowd": 0,
                    "score": float(one["score"]),
                }
            )

    def close(self) -> None:
        """Put the file together.

        Raises:
            OSError: the disk's no; no file was left behind.
        """
        categories = [{"id": index, "name": name} for index, name in sorted(self._labels.items())]
        try:
            with whole_file(self._path) as part, part.open("w", encoding="utf-8") as file:
                file.write('{"images": [')
                self._images.copy_to(file)
                file.write('],\n"annotations": [')
                self._annotations.copy_to(file)
                file.write(f'],\n"categories": {json.dumps(categories)}}}\n')
        finally:
            self._images.close()
            self._annotations.close()


class _Parts:
    """Values of a JSON list, on the disk until they are put together."""

    def __init__(self) -> None:
        self.count = 0
        self._file: IO[str] = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - closed by close

    def add(self, value: Mapping[str, Any]) -> None:
        self._file.write((",\n" if self.count else "\n") + json.dumps(value))
        self.count += 1

    def copy_to(self, file: IO[str]) -> None:
        self._file.seek(0)
        while part := self._file.read(1 << 20):
            file.write(part)

    def close(self) -> None:
        self._file.close()


def check_apart(path: Path, source: str) -> None:
    """Refuse to write over the input itself.

    Raises:
        UsageError: `path` is the file `source`.
    """
    if path.exists() and os.path.exists(source) and os.path.samefile(path, source):
        raise UsageError(f"{source} would be written over", hint="save into another directory")
