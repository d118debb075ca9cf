"""Encoded rows: JSON (an object, a list, a list of either, lists by column) and CSV, to records.

Knows columns by their names alone; what the values have to be is for `rows` to say.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from ..bundle.manifest import Column, Decode
from ..errors import InputError, TooLarge
from ..tensors import Array, check_json
from .rows import columns_of, rows_of

MAX_ROWS = 100_000
"""Rows of one text."""
_DELIMITERS = ",;\t|"


class Rows(msgspec.Struct, frozen=True):
    """The records of a text, before they are judged."""

    records: list[Any]
    """Objects by column name or lists in the columns' order."""
    text: bool
    """Whether numbers are text: a CSV's are."""
    lines: list[int] = []
    """Of a CSV, the line that each record ends on."""
    extra: tuple[str, ...] = ()
    """Of a CSV, the columns of its header that the table does not have."""

    def tensors(self, columns: Sequence[Column]) -> dict[str, Array]:
        """One tensor `[rows, 1]` for each column.

        Raises:
            InputError: as `rows_of`; a CSV's values are placed by their lines.
        """
        if not self.lines:
            return rows_of(self.records, columns, text=self.text)

        def place(row: int, name: str) -> str:
            return f"line {self.lines[row]}, column {name!r}" if name else f"line {self.lines[row]}"

        return rows_of(self.records, columns, place=place, text=self.text)


def decode_row(data: bytes, decode: Decode, columns: Sequence[Column]) -> dict[str, Array]:
    """One encoded row to one tensor `[1]` for each column.

    Raises:
        TooLarge: over the bundle's `max_bytes`. InputError: no row, several, or as `rows_of`.
    """
    tensors = decode_rows(data, decode, columns)
    count = len(next(iter(tensors.values())))
    if count != 1:
        raise InputError(
            f"expected one row, got {count}", hint="send them one by one, or to a server together"
        )
    return {name: array[0] for name, array in tensors.items()}


def decode_rows(data: bytes, decode: Decode, columns: Sequence[Column]) -> dict[str, Array]:
    """Encoded rows to one tensor `[rows, 1]` for each column.

    Raises:
        TooLarge: over the bundle's `max_bytes` or `MAX_ROWS`. InputError: as `rows_of`.
    """
    if len(data) > decode.max_bytes:
        raise TooLarge(f"{len(data)} bytes; at most {decode.max_bytes} are read")
    if looks_like_json(data):
        value = parse_json(data)
        if is_columnar(value):
            return columns_of(value, columns)
        return rows_of(records_of_json(value), columns)
    found = read_csv(data, columns)
    if found.extra:
        raise InputError(
            f"there is no column {found.extra[0]!r}", at="line 1", hint=f"the columns are {_names(columns)}"
        )
    return found.tensors(columns)


def looks_like_json(data: bytes) -> bool:
    """Whether rows are JSON by their first character; else they are CSV."""
    return data[:64].lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"[")


def parse_json(data: bytes) -> Any:
    """The value of a JSON text.

    Raises:
        InputError: not JSON. TooLarge: it would take far more memory than its bytes.
    """
    check_json(data)
    try:
        return msgspec.json.decode(data.removeprefix(b"\xef\xbb\xbf"))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise InputError(
            f"not JSON: {problem}", hint='a row is {"column": value, …}, [value, …], or a line of CSV'
        ) from problem


def is_columnar(value: Any) -> bool:
    """Whether a JSON value is lists by column name, and not a row."""
    return isinstance(value, dict) and bool(value) and all(isinstance(item, list) for item in value.values())


def records_of_json(value: Any) -> list[Any]:
    """The records in a JSON value: an object, a list of values, or a list of such.

    Raises:
        InputError: neither. TooLarge: more than `MAX_ROWS`.
    """
    if isinstance(value, dict):
        return [value]
    if not isinstance(value, list):
        raise InputError(f"expected an object or a list, got {type(value).__name__}", at="$")
    records = value if value and isinstance(value[0], (dict, list)) else [value]
    if len(records) > MAX_ROWS:
        raise TooLarge(f"{len(records)} rows; at most {MAX_ROWS} are read at once")
    return records


def read_csv(data: bytes, columns: Sequence[Column], *, keep: bool = False) -> Rows:
    """The records of a CSV text, with or without a header line; commas, semicolons, tabs or bars separate.

    A header is told by the columns' names in it; a text without one has the values in the columns' order.
    With `keep`, records have the cells of further columns too.

    Raises:
        InputError: not UTF-8, no lines, a header that lacks a column, or a line of another length.
        TooLarge: more than `MAX_ROWS` lines.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise InputError(f"not UTF-8 text: {problem}", hint="JSON or CSV in UTF-8") from problem
    if "\0" in text:
        raise InputError("a NUL character; this is no CSV")
    first = next((line for line in text.splitlines() if line.strip()), "")
    if not first:
        raise InputError("empty; expected a row", hint='{"column": value, …}, or a line of CSV')
    names = [column.name for column in columns]
    delimiter = _delimiter(first, names)
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, skipinitialspace=True, strict=True)
    records: list[list[str]] = []
    lines: list[int] = []
    try:
        for cells in reader:
            if (cells and any(cell.strip() for cell in cells)) or len(cells) > 1:
                records.append(cells)
                lines.append(reader.line_num)
            if len(records) > MAX_ROWS + 1:
                raise TooLarge(f"more than {MAX_ROWS} lines; split the file")
    except csv.Error as problem:
        raise InputError(f"not CSV: {problem}", at=f"line {reader.line_num}") from problem
    if not _is_header(records[0], names):
        return Rows(list(records), True, lines)
    return _with_header(records, lines, columns, keep)


def _with_header(records: list[list[str]], lines: list[int], columns: Sequence[Column], keep: bool) -> Rows:
    header = [cell.strip() for cell in records[0]]
    if len(set(header)) != len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise InputError(f"the header has the column {twice!r} twice", at="line 1")
    named: list[Any] = []
    known = {column.name for column in columns}
    for cells, line in zip(records[1:], lines[1:], strict=True):
        if len(cells) != len(header):
            raise InputError(f"{len(cells)} values under {len(header)} columns", at=f"line {line}")
        named.append({name: cell for name, cell in zip(header, cells, strict=True) if keep or name in known})
    if not named:
        raise InputError("a header line and no row", at="line 1")
    extra = tuple(name for name in header if name not in known)
    return Rows(named, True, lines[1:], extra)


def _delimiter(line: str, names: Sequence[str]) -> str:
    """The separator under which the first line has most cells; for names that hold one, most names."""

    def count(mark: str) -> tuple[int, int]:
        cells = next(csv.reader([line], delimiter=mark, skipinitialspace=True), [])
        return sum(cell.strip() in names for cell in cells), len(cells)

    return max(_DELIMITERS, key=count)


def _is_header(cells: Sequence[str], names: Sequence[str]) -> bool:
    found = len({cell.strip() for cell in cells} & set(names))
    return found * 2 >= len(names) or (found > 0 and len(cells) != len(names))


def made_up_rows(columns: Sequence[Column], count: int, *, seed: int = 20) -> list[dict[str, Any]]:
    """Seeded rows that fit the columns, as JSON objects; the first is of typical values.

    Where nothing is known of a number, it is around 0; every category comes; what may miss does now and then.
    """
    random = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    for number in range(count):
        rows.append({column.name: _made_up(column, number, random) for column in columns})
    return rows


def typical_value(column: Column) -> Any:
    """A value that the column takes: its typical one, or the middle of its range, or its first category."""
    if column.typical is not None:
        return int(column.typical) if column.dtype == "int64" else column.typical
    if column.dtype == "bool":
        return False
    if column.dtype == "string":
        return column.categories[0] if column.categories else "" if column.missing else "a"
    low, high = column.minimum, column.maximum
    if low is not None and high is not None:
        middle = (low + high) / 2
    else:
        middle = low if low is not None else high if high is not None else 0.0
    if column.dtype != "int64":
        return float(np.float32(middle)) if column.dtype == "float32" else middle
    whole = math.floor(middle)
    return whole if low is None or whole >= low else math.ceil(middle)


def _made_up(column: Column, number: int, random: np.random.Generator) -> Any:
    share, missing = float(random.random()), float(random.random()) < 0.2
    if number == 0:
        return typical_value(column)
    if column.missing and missing:
        return None
    if column.dtype == "bool":
        return share < 0.5
    if column.dtype == "string":
        if column.categories:
            return column.categories[number % len(column.categories)]
        return typical_value(column)
    low, high = column.minimum, column.maximum
    middle = float(typical_value(column))
    spread = abs(middle) or 1.0
    low = low if low is not None else min(middle - spread, high if high is not None else middle)
    high = high if high is not None else max(middle + spread, low)
    value = low + share * (high - low)
    if column.dtype == "int64":
        return min(math.floor(high), max(math.ceil(low), round(value)))
    # Rounded to what is easily read, and not beyond the range by that.
    short = float(f"{value:.5g}")
    return short if low <= short <= high else value


def _names(columns: Sequence[Column]) -> str:
    return ", ".join(column.name for column in columns)
