"""Rows of a table: values of any origin to one tensor for each column, and what is wrong with them by name.

A row is an object by column name or a list in the columns' order. Many rows become `[rows, 1]` tensors at
once, column by column; the checks are the same for one row and for a thousand.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..bundle.manifest import Column
from ..errors import InputError, did_you_mean
from ..tensors import Array, numpy_dtype, object_array

MAX_TEXT = 1 << 20
"""Characters of one value."""
_SHOWN = 60
_TRUE = frozenset(["true", "t", "yes", "y", "1", "on"])
_FALSE = frozenset(["false", "f", "no", "n", "0", "off"])
_NO_NUMBER = frozenset(["", "nan", "na", "n/a", "null", "none", "-", "?"])

Place = Callable[[int, str], str]
"""Where the value of a row and a column stands, for messages."""


def rows_of(
    records: Sequence[Any], columns: Sequence[Column], *, place: Place | None = None, text: bool = False
) -> dict[str, Array]:
    """Rows to tensors: each column by its name, `[rows, 1]` of its dtype; text as objects.

    Args:
        records: objects by column name, or lists in the columns' order.
        columns: the bundle's.
        place: where a value stands, for messages; by default a JSON path.
        text: whether numbers come as text (CSV, forms), so that "1.5" is one and "" is missing.

    Raises:
        InputError: no rows, a row that is neither, an unknown or a missing column, a value of the wrong type,
            an unknown category, or a number out of range; the message names the column, `at` the place.
    """
    if not records:
        raise InputError("no rows; expected at least one", at="$")
    where = place or (_only if len(records) == 1 else _among)
    lists = _listed(records, columns, where)
    return {
        column.name: column_of([row[index] for row in lists], column, where, text=text)
        for index, column in enumerate(columns)
    }


def columns_of(
    table: Mapping[str, Any], columns: Sequence[Column], *, text: bool = False
) -> dict[str, Array]:
    """As `rows_of`, from lists of values by column name.

    Raises:
        InputError: as `rows_of`; lists of different lengths.
    """
    _check_names(table, columns, "$")
    sizes = {len(values) for values in table.values()}
    if len(sizes) > 1 or not table or sizes == {0}:
        lengths = ", ".join(f"{name} {len(values)}" for name, values in table.items()) or "none"
        raise InputError(f"expected columns of one length, at least 1; got {lengths}", at="$")
    count = sizes.pop()
    return {
        column.name: column_of(
            table.get(column.name, [None] * count), column, lambda row, name: f"$.{name}[{row}]", text=text
        )
        for column in columns
    }


def column_of(values: Sequence[Any], column: Column, place: Place, *, text: bool = False) -> Array:
    """The values of one column: `[rows, 1]`.

    Raises:
        InputError: as `rows_of`.
    """
    if column.dtype == "string":
        return _texts(values, column, place)
    if column.dtype == "bool":
        return np.array([_truth(v, column, place, row, text) for row, v in enumerate(values)]).reshape(-1, 1)
    kinds = set(map(type, values))
    if text:
        values = [_number_of_text(v, column, place, row) for row, v in enumerate(values)]
    elif not kinds <= {int, float}:
        values = [_number(v, column, place, row) for row, v in enumerate(values)]
    return _numbers(values, column, place)


def check_rows(tensors: Mapping[str, Array], columns: Sequence[Column]) -> None:
    """Refuse decoded rows (of the right names, dtypes and shapes) whose values their columns do not take.

    Raises:
        InputError: a missing value, an unknown category or a number out of range, with the column's name.
    """
    for column in columns:
        values = tensors[column.name].ravel()
        if column.dtype == "string":
            _texts(values.tolist(), column, lambda row, name: f"$.inputs.{name}[{row}]")
        elif column.dtype != "bool":
            _check_range(values, column, lambda row, name: f"$.inputs.{name}[{row}]")


def _only(row: int, name: str) -> str:
    return f"$.{name}" if name else "$"


def _among(row: int, name: str) -> str:
    return f"$[{row}].{name}" if name else f"$[{row}]"


def _listed(records: Sequence[Any], columns: Sequence[Column], place: Place) -> list[Sequence[Any]]:
    """Every row as a list in the columns' order; what a row leaves out is None."""
    names = [column.name for column in columns]
    known = set(names)
    lists: list[Sequence[Any]] = []
    for row, record in enumerate(records):
        if isinstance(record, Mapping):
            if not record.keys() <= known or len(record) < len(names):
                _check_names(record, columns, place(row, ""))
            lists.append([record.get(name) for name in names])
        elif isinstance(record, (list, tuple)):
            if len(record) != len(names):
                raise InputError(
                    f"expected {len(names)} values ({_short(', '.join(names))}), got {len(record)}",
                    at=place(row, ""),
                )
            lists.append(record)
        else:
            raise InputError(
                f"expected a row, which is an object by column name or a list of {len(names)} values, got "
                f"{_shown(record)}",
                at=place(row, ""),
            )
    return lists


def _check_names(record: Mapping[str, Any], columns: Sequence[Column], at: str) -> None:
    names = [column.name for column in columns]
    for name in record:
        if name not in names:
            raise InputError(
                f"there is no column {_shown(name)}",
                at=at,
                hint=did_you_mean(str(name), names, otherwise=f"the columns are {_short(', '.join(names))}"),
            )
    for column in columns:
        if column.name not in record and not column.missing:
            raise InputError(f"the column {column.name!r} is missing; expected {expected(column)}", at=at)


def _texts(values: Sequence[Any], column: Column, place: Place) -> Array:
    known = frozenset(column.categories)
    closed = bool(known) and not column.unseen
    made: list[str] = []
    for row, value in enumerate(values):
        if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
            if not column.missing and (column.categories or value != ""):
                raise _missing(column, place, row)
            made.append("")
            continue
        if isinstance(value, bytes):
            value = _decoded(value, column, place, row)
        if type(value) is not str:
            raise _wrong(column, value, place, row)
        if closed and value not in known:
            hint = did_you_mean(value, column.categories, otherwise="")
            raise InputError(
                f"the column {column.name!r} has no category {_shown(value)}; expected {expected(column)}",
                at=place(row, column.name),
                hint=hint or None,
            )
        if len(value) > MAX_TEXT or "\0" in value:
            fault = "a NUL character" if "\0" in value else f"more than {MAX_TEXT} characters"
            raise InputError(
                f"the column {column.name!r} has a text with {fault}", at=place(row, column.name)
            )
        made.append(value)
    return object_array(made, (len(made), 1))


def _decoded(value: bytes, column: Column, place: Place, row: int) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as problem:
        raise InputError(
            f"the column {column.name!r} holds no UTF-8 text: {problem}", at=place(row, column.name)
        ) from problem


def _truth(value: Any, column: Column, place: Place, row: int, text: bool) -> bool:
    if type(value) is bool:
        return value
    if value is None or value == "":
        raise _missing(column, place, row)
    if type(value) in (int, float) and value in (0, 1):
        return bool(value)
    if text and isinstance(value, str):
        word = value.strip().lower()
        if word in _TRUE or word in _FALSE:
            return word in _TRUE
    raise _wrong(column, value, place, row)


def _number(value: Any, column: Column, place: Place, row: int) -> int | float:
    """A number as it is; None as NaN."""
    if value is None:
        if not column.missing:
            raise _missing(column, place, row)
        return math.nan
    if type(value) in (int, float):
        number: int | float = value
        return number
    raise _wrong(column, value, place, row)


def _number_of_text(value: Any, column: Column, place: Place, row: int) -> int | float:
    if not isinstance(value, str):
        return _number(value, column, place, row)
    word = value.strip()
    if word.lower() in _NO_NUMBER:
        if not column.missing:
            raise _missing(column, place, row)
        return math.nan
    try:
        return int(word) if column.dtype == "int64" and len(word) < 32 else float(word)
    except ValueError:
        pass
    try:
        # 3.0 is a whole number too, and pandas writes them so where a column has a missing value.
        return float(word)
    except ValueError:
        raise _wrong(column, value, place, row) from None


def _numbers(values: Sequence[int | float], column: Column, place: Place) -> Array:
    if column.dtype == "int64":
        whole = []
        for row, value in enumerate(values):
            if isinstance(value, float) and math.isnan(value):
                raise _missing(column, place, row)
            if value != value // 1 or not -(1 << 63) <= value < 1 << 63:
                raise _wrong(column, value, place, row)
            whole.append(int(value))
        array = np.array(whole, np.int64)
        _check_range(array, column, place)
        return array.reshape(-1, 1)
    try:
        wide = np.array(values, np.float64)
    except OverflowError:
        row = next(row for row, value in enumerate(values) if abs(value) > 1e308)
        raise _beyond(column, values[row], place, row) from None
    _check_range(wide, column, place)
    with np.errstate(over="ignore"):
        array = wide.astype(numpy_dtype(column.dtype))
    if not np.array_equal(np.isinf(array), np.isinf(wide)):
        row = int(np.flatnonzero(np.isinf(array) & ~np.isinf(wide))[0])
        raise _beyond(column, float(wide[row]), place, row)
    return array.reshape(-1, 1)


def _check_range(values: Array, column: Column, place: Place) -> None:
    if values.dtype.kind == "f":
        lost = np.isnan(values)
        if not column.missing and lost.any():
            raise _missing(column, place, int(np.flatnonzero(lost)[0]))
    if column.unseen:
        return
    low, high = column.minimum, column.maximum
    # The bounds as the column's own dtype has them: 0.1 is not beyond 0.1.
    bad = np.zeros(values.shape, bool)
    if low is not None:
        bad |= values < np.asarray(low).astype(values.dtype if values.dtype.kind == "f" else np.float64)
    if high is not None:
        bad |= values > np.asarray(high).astype(values.dtype if values.dtype.kind == "f" else np.float64)
    if values.dtype.kind == "f" and (low is not None or high is not None):
        bad |= np.isinf(values)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise _beyond(column, values[row].item(), place, row)


def expected(column: Column) -> str:
    """What a column takes, in a few words: `int64 from 0 to 120`, `one of NEAR BAY, INLAND`."""
    low, high = column.minimum, column.maximum
    words = {"float32": "a number", "float64": "a number", "int64": "a whole number", "bool": "true or false"}
    said = words.get(column.dtype, "text")
    if column.categories and not column.unseen:
        said = f"one of {_short(', '.join(column.categories))}"
    elif not column.unseen and low is not None and high is not None:
        said += f" from {low:g} to {high:g}"
    elif not column.unseen and low is not None:
        said += f" of at least {low:g}"
    elif not column.unseen and high is not None:
        said += f" of at most {high:g}"
    return f"{said}, or nothing" if column.missing else said


def _missing(column: Column, place: Place, row: int) -> InputError:
    return InputError(
        f"the column {column.name!r} has no value; expected {expected(column)}", at=place(row, column.name)
    )


def _wrong(column: Column, value: Any, place: Place, row: int) -> InputError:
    return InputError(
        f"the column {column.name!r} takes {expected(column)}, got {_shown(value)}",
        at=place(row, column.name),
    )


def _beyond(column: Column, value: Any, place: Place, row: int) -> InputError:
    return InputError(
        f"the column {column.name!r} takes {expected(column)}, got {_shown(value)}, which is out of range",
        at=place(row, column.name),
    )


def _shown(value: Any) -> str:
    return _short(repr(value))


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
