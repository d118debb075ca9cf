"""Which reader takes what a user points at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...bundle.manifest import Column, Decode
from ...errors import InputError, NotFound, UsageError
from ...tensors import TensorSpec
from . import coco, pictures, records, tables, yolo
from .item import Data

TABLES = (".csv", ".tsv", ".jsonl", ".ndjson")
BOXES = "YOLO's folder or YAML file (images/, labels/), a list of pictures (.txt), or COCO's .json"


def read_data(
    path: Path,
    task: str,
    *,
    inputs: Sequence[TensorSpec] = (),
    split: str | None = None,
    target: str | None = None,
    images: Path | None = None,
    name: str = "the bundle",
    decode: Decode | None = None,
    columns: Sequence[Column] = (),
) -> Data:
    """The items at `path`, for a bundle of a task.

    Args:
        task: `object-detection` wants boxes, `tensors` rows with a target, anything else a class each.
        inputs: what a bundle takes that decodes no pictures.
        split: a part of the data set: `val`, `test`, `train`.
        target: the column or array with the right answers.
        images: the folder of COCO's pictures.
        name: the bundle's, for errors.
        decode, columns: what an item is, where it is a row of a table or a text.

    Raises:
        NotFound: nothing there. InputError: not such data; what, and where.
    """
    if not path.exists():
        raise NotFound(f"no data at {str(path)!r}")
    suffix = path.suffix.lower()
    if task == "object-detection":
        return _boxes(path, suffix, split, images)
    if decode is not None and decode.kind in ("table", "text"):
        return records.from_records(path, decode, columns, target)
    if inputs:
        if suffix == ".npz":
            return tables.from_npz(path, inputs, target)
        if suffix in TABLES:
            return tables.from_table(path, inputs, target)
        raise UsageError(f"expected a table ({', '.join(TABLES)}) or a .npz, got {path.name!r}")
    if path.is_dir():
        root = path / split if split and (path / split).is_dir() else path
        if yolo.is_yolo(path):
            raise InputError(
                f"this is a folder of boxes (images/, labels/), and {name} is a classifier",
                at=str(path),
                hint="give an object detector, or a folder for each class (cat/1.jpg, dog/2.jpg)",
            )
        if split and root == path:
            raise InputError(f"there is no folder {split!r}", at=str(path))
        return pictures.from_folders(root)
    if suffix in TABLES:
        return pictures.from_table(path)
    raise UsageError(f"expected {pictures.LAYOUTS}; got {path.name!r}")


def _boxes(path: Path, suffix: str, split: str | None, images: Path | None) -> Data:
    if path.is_dir():
        if yolo.is_yolo(path) or any(path.glob("*.y*ml")):
            return yolo.from_folder(path, split)
        found = sorted(path.glob("*.json")) or sorted(path.glob("annotations/instances_*.json"))
        if split:
            found = [file for file in found if split in file.stem]
        if len(found) == 1:
            return coco.from_json(found[0], images)
        several = f"{len(found)} .json files: name one" if found else f"expected {BOXES}"
        raise InputError(f"no data set is told in the folder {path.name!r}; {several}", at=str(path))
    if suffix in (".yaml", ".yml"):
        return yolo.from_yaml(path, split)
    if suffix == ".txt":
        return yolo.from_list(path)
    if suffix == ".json":
        return coco.from_json(path, images)
    raise UsageError(f"expected {BOXES}; got {path.name!r}")
