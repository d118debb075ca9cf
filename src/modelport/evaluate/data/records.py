"""Rows of a table and texts with a target: CSV, JSON and JSON lines, or a folder of texts for each class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...bundle.manifest import Column, Decode
from ...errors import InputError, UsageError
from ...files import read_limited
from ...steps.records import TABLE_SUFFIXES, TEXT_SUFFIXES, Record, records_of
from .item import Data, Item
from .tables import MAX_BYTES, target_of, value_of


def from_records(path: Path, decode: Decode, columns: Sequence[Column], target: str | None) -> Data:
    """The items of a file with a column for the target, or of a folder with a folder of texts for each class.

    Args:
        path: the file or folder.
        decode: whether items are rows or texts.
        columns: a row's.
        target: the column with the right answers; by default one called target, label, class or y.

    Raises:
        InputError: no rows, or one without a target. UsageError: which column it is, cannot be told.
    """
    if path.is_dir() and decode.kind == "text":
        return _folders(path, decode)
    suffixes = TABLE_SUFFIXES if decode.kind == "table" else TEXT_SUFFIXES
    if path.is_dir() or path.suffix.lower() not in suffixes or path.suffix.lower() == ".txt":
        known = ", ".join(suffix for suffix in suffixes if suffix != ".txt")
        raise UsageError(f"expected rows with a target ({known}), got {path.name!r}")
    records = records_of(read_limited(path, MAX_BYTES), path.suffix.lower(), decode, columns)
    own = {column.name for column in columns}
    others = [name for name in records[0].fields if name not in own]
    wanted = others[0] if target is None and len(others) == 1 and own else target_of(others, target, path)
    items = [_item(record, wanted, path.name) for record in records]
    unused = [name for name in others if name != wanted]
    notes = (f"not used: {', '.join(unused)}",) if own and unused else ()
    return Data(path.stem, "targets", items, notes=notes)


def _item(record: Record, wanted: str, file: str) -> Item:
    at = f"{file}:{record.line}"
    if record.fields.get(wanted) in ("", None):
        raise InputError(f"no value for the target {wanted!r}", at=at)
    return Item(f"row {record.line}", record.data, value_of(record.fields[wanted], at))


def _folders(path: Path, decode: Decode) -> Data:
    items = []
    for folder in sorted(each for each in path.iterdir() if each.is_dir()):
        for file in sorted(folder.glob("*.txt")):
            for record in records_of(read_limited(file, MAX_BYTES), ".txt", decode, ()):
                name = f"{folder.name}/{file.name}:{record.line}"
                items.append(Item(name, record.data, value_of(folder.name, name)))
    if not items:
        raise InputError("no folder for each class with texts (.txt) in it", at=str(path))
    return Data(path.name, "targets", items)
