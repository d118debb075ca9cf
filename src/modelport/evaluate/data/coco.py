"""COCO's data sets: one JSON file of pictures, categories and boxes, and a folder of pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import msgspec
import numpy as np

from ...errors import InputError
from ...files import read_limited
from .item import Boxes, Data, Item, some

MAX_BYTES = 2 << 30


class _Picture(msgspec.Struct):
    id: int | str
    file_name: str


class _Category(msgspec.Struct):
    id: int
    name: str


class _Annotation(msgspec.Struct):
    image_id: int | str
    category_id: int
    bbox: list[float] | None = None
    iscrowd: int = 0


class _File(msgspec.Struct):
    images: list[_Picture]
    annotations: list[_Annotation]
    categories: list[_Category]


def from_json(path: Path, images: Path | None = None) -> Data:
    """The data set of a file such as instances_val2017.json.

    Args:
        images: the folder of the pictures; None: it is looked for beside the file.

    Raises:
        InputError: no such file's content, an annotation of a picture or a category that is not there, a
            box that makes no sense, or no folder that holds the pictures.
    """
    try:
        content = msgspec.json.decode(read_limited(path, MAX_BYTES), type=_File)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as problem:
        message = f"expected COCO's images, annotations and categories: {problem}"
        raise InputError(message, at=str(path)) from problem
    if not content.images:
        raise InputError("the file lists no pictures", at=str(path))
    numbers = {category.id: place for place, category in enumerate(content.categories)}
    if len(numbers) != len(content.categories):
        raise InputError("a category's id stands twice", at=f"{path.name}: $.categories")
    of_picture: dict[int | str, list[tuple[_Annotation, int]]] = {}
    for picture in content.images:
        if picture.id in of_picture:
            raise InputError(f"the picture {picture.id!r} stands twice", at=f"{path.name}: $.images")
        of_picture[picture.id] = []
    for place, annotation in enumerate(content.annotations):
        at = f"{path.name}: $.annotations[{place}]"
        if annotation.image_id not in of_picture:
            raise InputError(f"there is no picture {annotation.image_id!r}", at=at)
        if annotation.category_id not in numbers:
            raise InputError(f"there is no category {annotation.category_id}", at=at)
        _check(annotation, at)
        of_picture[annotation.image_id].append((annotation, numbers[annotation.category_id]))
    folder = _folder(path, [picture.file_name for picture in content.images], images)
    items = [
        Item(picture.file_name, folder / picture.file_name, _boxes(of_picture[picture.id]))
        for picture in content.images
    ]
    return Data(path.stem, "boxes", items, tuple(category.name for category in content.categories))


def _check(annotation: _Annotation, at: str) -> None:
    box = annotation.bbox
    if box is None or len(box) != 4 or not all(math.isfinite(side) for side in box):
        raise InputError(f"expected bbox [x, y, width, height], got {box}", at=at)
    if box[2] <= 0 or box[3] <= 0:
        raise InputError(f"a box of size {box[2]:g} x {box[3]:g}", at=at)


def _boxes(annotations: Sequence[tuple[_Annotation, int]]) -> Boxes:
    rows = np.array([annotation.bbox for annotation, _ in annotations], np.float64).reshape(-1, 4)
    rows[:, 2:] += rows[:, :2]
    return Boxes(
        rows,
        np.array([number for _, number in annotations], np.int64),
        np.array([annotation.iscrowd for annotation, _ in annotations], bool),
    )


def _folder(path: Path, files: Sequence[str], given: Path | None) -> Path:
    """The folder that holds the first pictures.

    Raises:
        InputError: none does, or a name leads out of it.
    """
    for file in files:
        if PurePosixPath(file).is_absolute() or ".." in PurePosixPath(file).parts:
            raise InputError(f"a picture's name leads out of the data: {file!r}", at=path.name)
    if given is not None:
        if not given.is_dir():
            raise InputError(f"no folder {str(given)!r}")
        return given
    above = path.parent.parent
    split = path.stem.removeprefix("instances_")
    places = [
        path.parent,
        path.parent / "images",
        path.parent / split,
        above / "images",
        above / split,
        above / "images" / split,
        above,
    ]
    for folder in places:
        if any((folder / file).is_file() for file in files[:50]):
            return folder
    raise InputError(
        f"the pictures ({some(files, 2)}) are not found beside {path.name}", hint="--images FOLDER says where"
    )
