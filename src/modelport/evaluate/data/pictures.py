"""Pictures with a class each: a folder for each class, a table of files and labels, or names that say it."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from ...errors import InputError
from .item import Data, Item, Word, pictures_below, read_text, some

_WORDNET = re.compile(r"n\d{8}_(.+)")
_FILES = ("file", "filename", "file_name", "path", "image", "image_path", "filepath")
_LABELS = ("label", "labels", "class", "class_name", "category", "target", "y")
LAYOUTS = (
    "a folder for each class (cat/1.jpg, dog/2.jpg), a .csv or .jsonl of file,label, files named "
    "n01440764_tench.jpg, or YOLO's images/ and labels/"
)


def from_folders(root: Path) -> Data:
    """A folder for each class, or pictures whose names begin with a WordNet number and a class.

    Raises:
        InputError: neither; no pictures.
    """
    loose = pictures_below(root, deep=False)
    folders = sorted(
        path for path in root.iterdir() if path.is_dir() and not path.name.startswith((".", "__"))
    )
    if loose and not folders:
        return _from_names(root, loose)
    named = [(folder, pictures_below(folder)) for folder in folders]
    items = [
        Item(str(path.relative_to(root)), path, folder.name) for folder, files in named for path in files
    ]
    if not items:
        raise InputError(f"no pictures below {root.name!r}; expected {LAYOUTS}", at=str(root))
    empty = [folder.name for folder, files in named if not files]
    notes = []
    if empty:
        notes.append(f"no pictures in the folders {some(empty)}")
    if loose:
        notes.append(f"{len(loose)} pictures beside the class folders have no class and are left out")
    return Data(
        root.name, "classes", items, tuple(folder.name for folder, files in named if files), tuple(notes)
    )


def _from_names(root: Path, files: list[Path]) -> Data:
    found = [(path, _WORDNET.fullmatch(path.stem)) for path in files]
    without = [path.name for path, match in found if match is None]
    if without:
        raise InputError(
            f"{len(without)} pictures have no class: {some(without)}",
            at=str(root),
            hint=f"expected {LAYOUTS}",
        )
    items = [Item(path.name, path, match[1]) for path, match in found if match]
    return Data(root.name, "classes", items, tuple(sorted({str(item.truth) for item in items})))


def from_table(path: Path) -> Data:
    """A .csv, .tsv or .jsonl with a column of files (relative to the table) and one of labels.

    Raises:
        InputError: no such columns, an empty field, or a file twice with two labels.
    """
    items: list[Item] = []
    labels: dict[str, Word] = {}
    for where, row in rows_of(path):
        file, label = _field(row, _FILES, path), _field(row, _LABELS, path)
        if not str(file).strip() or label is None or not str(label).strip():
            raise InputError("a row without a file or without a label", at=f"{path.name}:{where}")
        if not isinstance(label, str | int) or isinstance(label, bool):
            raise InputError(f"expected a name or an index, got {label!r}", at=f"{path.name}:{where}")
        name, word = str(file), label.strip() if isinstance(label, str) else label
        if name in labels:
            if labels[name] != word:
                raise InputError(
                    f"{name!r} is {labels[name]!r} above and {word!r} here", at=f"{path.name}:{where}"
                )
            continue
        labels[name] = word
        items.append(Item(name, path.parent / name, word))
    if not items:
        raise InputError(f"{path.name} has no rows", at=str(path))
    return Data(path.stem, "classes", items)


def rows_of(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of a .csv, .tsv or .jsonl by column, with the number of their line.

    Raises:
        InputError: no header, a row with more or fewer fields, a line that is no JSON object.
    """
    text = read_text(path)
    if path.suffix.lower() in (".jsonl", ".ndjson"):
        yield from _json_rows(path, text.splitlines())
        return
    stream = io.StringIO(text, newline="")
    reader = csv.reader(stream, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        if not header or len(set(header)) != len(header) or "" in header:
            raise InputError("expected a header: a name for each column, each once", at=f"{path.name}:1")
        for row in reader:
            if not row:
                continue
            if len(row) != len(header):
                raise InputError(
                    f"expected {len(header)} fields, got {len(row)}", at=f"{path.name}:{reader.line_num}"
                )
            yield reader.line_num, dict(zip(header, row, strict=True))
    except csv.Error as problem:
        raise InputError(f"not CSV: {problem}", at=f"{path.name}:{reader.line_num}") from problem


def _json_rows(path: Path, lines: Iterable[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            yield number, msgspec.json.decode(line, type=dict[str, Any])
        except (msgspec.DecodeError, RecursionError) as problem:
            raise InputError(f"expected a JSON object: {problem}", at=f"{path.name}:{number}") from problem


def _field(row: dict[str, Any], names: tuple[str, ...], path: Path) -> Any:
    known = {column.lower(): column for column in row}
    for name in names:
        if name in known:
            return row[known[name]]
    raise InputError(
        f"no column is called {', '.join(names[:4])} …; there are {some(list(row), 12)}",
        at=str(path),
        hint="the first line names the columns: file,label",
    )
