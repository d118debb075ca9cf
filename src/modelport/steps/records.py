"""Files of many items: the rows of a CSV or JSON file, the lines of a text, each one encoded item of its own.

What one line lacks is no fault of the others: it stays as it was written, and whoever decodes it is told.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ..bundle.manifest import Column, Decode
from ..errors import InputError
from .row_files import is_columnar, looks_like_json, parse_json, read_csv, records_of_json
from .rows import rows_of

TABLE_SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".ndjson")
TEXT_SUFFIXES = (".txt", ".csv", ".tsv", ".json", ".jsonl", ".ndjson")
TEXT_FIELDS = ("text", "sentence", "content", "review", "document", "input")
"""What the column of the texts may be called, the first that is there."""


class Record(msgspec.Struct, frozen=True):
    """One item of a file."""

    data: bytes
    """Encoded as a bundle decodes it: a JSON row, or UTF-8 text."""
    fields: dict[str, Any]
    """Everything that its line says, by name: a label may be among it."""
    line: int


def records_of(data: bytes, suffix: str, decode: Decode, columns: Sequence[Column]) -> list[Record]:
    """The items of a file, in order.

    Args:
        data: the file.
        suffix: of its name, in lower case: `.txt` is a text a line; JSON and CSV are told by their content.
        decode: whether items are rows or texts.
        columns: a row's; further columns of the file are fields alone.

    Raises:
        InputError: damaged, empty, or without the columns; a fault of one line is kept for its decoding.
        TooLarge: more lines than are read.
    """
    if decode.kind == "text" and suffix == ".txt":
        return _lines(data)
    rows = _json_lines(data) if suffix in (".jsonl", ".ndjson") else _json_or_csv(data, decode, columns)
    if not rows:
        raise InputError("there is no row in it")
    if decode.kind == "text":
        return [_text(fields, line) for fields, line, _ in rows]
    return [_row(fields, line, columns, text=text) for fields, line, text in rows]


def row_bytes(record: Mapping[str, Any] | Sequence[Any], columns: Sequence[Column], *, text: bool) -> bytes:
    """A row as JSON, its values judged.

    Raises:
        InputError: as `rows_of`.
    """
    rows_of([record], columns, text=text)
    values = (
        record if isinstance(record, Mapping) else {c.name: v for c, v in zip(columns, record, strict=True)}
    )
    made = {column.name: _typed(values.get(column.name), column, text) for column in columns}
    return msgspec.json.encode({name: value for name, value in made.items() if value is not None})


def _typed(value: Any, column: Column, text: bool) -> Any:
    """A value that has been judged, as JSON has it; None for a missing one."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if column.dtype == "string":
        return None if value == "" and column.missing else value
    if not text or not isinstance(value, str):
        return value
    tensor = rows_of([[value]], [column], text=True)[column.name][0, 0]
    if column.dtype != "bool" and column.dtype != "int64":
        # As it was written, and not as the nearest float32.
        return None if math.isnan(tensor) else float(value)
    return tensor.item()


def _lines(data: bytes) -> list[Record]:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise InputError(f"not UTF-8 text: {problem}", hint="save the text as UTF-8") from problem
    found = [
        Record(line.strip().encode(), {"text": line.strip()}, number)
        for number, line in enumerate(text.split("\n"), 1)
        if line.strip()
    ]
    if not found:
        raise InputError("there is no text in it")
    return found


def _json_lines(data: bytes) -> list[tuple[Any, int, bool]]:
    found = []
    for number, line in enumerate(data.split(b"\n"), 1):
        if line.strip():
            try:
                found.append((parse_json(line), number, False))
            except InputError as problem:
                raise InputError(problem.message, at=f"line {number}", hint=problem.hint) from problem
    return found


def _json_or_csv(data: bytes, decode: Decode, columns: Sequence[Column]) -> list[tuple[Any, int, bool]]:
    if looks_like_json(data):
        try:
            value = parse_json(data)
        except InputError:
            # A value on each line, under whatever name.
            if data.strip().count(b"\n") == 0:
                raise
            return _json_lines(data)
        if is_columnar(value):
            lengths = {len(values) for values in value.values()}
            if len(lengths) != 1:
                raise InputError("the columns are of different lengths", at="$")
            value = [dict(zip(value, row, strict=True)) for row in zip(*value.values(), strict=True)]
        if decode.kind == "text" and isinstance(value, list) and all(isinstance(v, str) for v in value):
            value = [{"text": each} for each in value]
        return [(record, number, False) for number, record in enumerate(records_of_json(value), 1)]
    if decode.kind == "text":
        return [(fields, line, True) for fields, line in _csv_dicts(data)]
    found = read_csv(data, columns, keep=True)
    return [(record, line, True) for record, line in zip(found.records, found.lines, strict=True)]


def _csv_dicts(data: bytes) -> list[tuple[dict[str, str], int]]:
    """The lines of a CSV under its header, whatever its columns."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise InputError(f"not UTF-8 text: {problem}") from problem
    first = text.split("\n", 1)[0]
    reader = csv.DictReader(io.StringIO(text), delimiter="\t" if "\t" in first and "," not in first else ",")
    try:
        return [
            ({str(k): v or "" for k, v in row.items() if k is not None}, reader.line_num) for row in reader
        ]
    except csv.Error as problem:
        raise InputError(f"not CSV: {problem}", at=f"line {reader.line_num}") from problem


def _text(fields: Any, line: int) -> Record:
    if isinstance(fields, str):
        return Record(fields.encode(), {"text": fields}, line)
    names = list(fields) if isinstance(fields, dict) else []
    found = next((name for name in TEXT_FIELDS if name in names), None)
    if found is None:
        raise InputError(
            f"no column of texts among {', '.join(names) or 'none'}",
            at=f"line {line}",
            hint=f"call it {TEXT_FIELDS[0]!r}",
        )
    if not isinstance(fields[found], str):
        raise InputError(f"{found!r} holds no text", at=f"line {line}")
    return Record(fields[found].encode(), {str(name): value for name, value in fields.items()}, line)


def _row(fields: Any, line: int, columns: Sequence[Column], *, text: bool) -> Record:
    known = {column.name for column in columns}
    if isinstance(fields, dict):
        said = {str(name): value for name, value in fields.items()}
        own: Any = {name: value for name, value in said.items() if name in known}
    elif isinstance(fields, list):
        own, said = fields, {c.name: value for c, value in zip(columns, fields, strict=False)}
    else:
        own, said = fields, {}
    try:
        return Record(row_bytes(own, columns, text=text), said, line)
    except InputError:
        return Record(_as_written(own, text), said, line)


def _as_written(own: Any, text: bool) -> bytes:
    """A row that cannot be typed, so that decoding it gives the reason."""
    if not text:
        return msgspec.json.encode(own)
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    if isinstance(own, dict):
        writer.writerow(own)
        own = own.values()
    writer.writerow(own)
    return buffer.getvalue().encode()
