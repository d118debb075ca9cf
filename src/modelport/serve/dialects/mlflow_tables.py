"""Tables as MLflow's callers send them (pandas' `split` and `records`, CSV), to rows for a model.

A column is an input of its name. Where a model has a single input that is a vector, the columns are its
elements, in their order.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from ...bundle.manifest import Manifest
from ...errors import InputError, TooLarge
from ...tensors import MAX_JSON_VALUES, TensorSpec
from .items import kind_of

_NAN = ("", "nan", "null", "none", "na", "n/a", "<na>")
"""What stands in CSV for a number that is not there, in lower case."""
_BOOLS = {"true": True, "false": False, "1": True, "0": False}


class Table(NamedTuple):
    """Rows of values under columns."""

    columns: list[Any]
    rows: Sequence[Sequence[Any]]
    text: bool = False
    """Whether all values are text that has yet to be read (CSV)."""


def of_split(value: Any, at: str) -> Table:
    """`{"columns": […], "data": [[…]]}`, and maybe an `index`, which means nothing here.

    Raises:
        InputError: another form.
    """
    if not isinstance(value, dict) or "data" not in value or value.keys() - {"columns", "data", "index"}:
        got = ", ".join(map(repr, value)) if isinstance(value, dict) else kind_of(value)
        raise InputError(f"expected an object with columns, data and maybe index, got {got}", at=at)
    data = value["data"]
    if not isinstance(data, list) or not all(isinstance(row, list) for row in data):
        raise InputError("expected a list of rows", at=f"{at}.data")
    columns = value.get("columns")
    if columns is None:
        columns = list(range(len(data[0]))) if data else []
    if not isinstance(columns, list):
        raise InputError(f"expected a list of names, got {kind_of(columns)}", at=f"{at}.columns")
    return _even(columns, data, f"{at}.data")


def of_records(value: Any, at: str) -> Table:
    """`[{"column": value, …}, …]`, each with the same columns.

    Raises:
        InputError: another form.
    """
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        raise InputError("expected a list of objects", at=at)
    columns = list(value[0]) if value else []
    for number, row in enumerate(value):
        if row.keys() != set(columns):
            got = ", ".join(map(repr, row)) or "none"
            raise InputError(
                f"expected the columns {', '.join(columns)} of the first record, got {got}",
                at=f"{at}[{number}]",
            )
    return Table(columns, [[row[column] for column in columns] for row in value])


def of_csv(body: bytes) -> Table:
    """CSV in UTF-8 with a line of names, as `df.to_csv(index=False)` writes it.

    Raises:
        InputError: something else. TooLarge: more than MAX_JSON_VALUES values.
    """
    if body.count(b",") + body.count(b"\n") + body.count(b"\r") > MAX_JSON_VALUES:
        raise TooLarge(f"CSV with more than {MAX_JSON_VALUES} values", hint="send it in parts")
    try:
        rows = [
            row for row in csv.reader(io.StringIO(body.decode("utf-8-sig"), newline=""), strict=True) if row
        ]
    except (csv.Error, UnicodeDecodeError) as problem:
        raise InputError(f"the body is not CSV: {problem}") from problem
    if not rows:
        raise InputError("the body is empty", hint="send a line of column names, then a line for each row")
    return _even(rows[0], rows[1:], "$")._replace(text=True)


def rows_of_table(table: Table, specs: Sequence[TensorSpec], *, picture: bool, at: str) -> list[Any]:
    """The table's rows as a model's rows: values by name, or for a single input the value itself.

    Args:
        specs: the tensors of one row.
        picture: whether an item is a picture; then the table has one column of base64.

    Raises:
        InputError: columns that are not the model's, or text that is no such number.
    """
    if not table.rows:
        raise InputError("no rows", at=at)
    if picture:
        if len(table.columns) != 1:
            raise InputError(f"expected one column of base64, got {_listed(table.columns)}", at=at)
        return [row[0] for row in table.rows]
    by_name = {spec.name: spec for spec in specs}
    if len(set(map(repr, table.columns))) == len(table.columns) and set(map(repr, table.columns)) == set(
        map(repr, by_name)
    ):
        ordered = [by_name[name] for name in table.columns]
        return [
            {
                spec.name: _cell(value, spec, table.text, f"{at}[{number}].{spec.name}")
                for spec, value in zip(ordered, row, strict=True)
            }
            for number, row in enumerate(table.rows)
        ]
    if len(specs) == 1 and _is_vector(specs[0], len(table.columns)):
        element = TensorSpec(specs[0].name, specs[0].dtype, ())
        return [
            [_cell(value, element, table.text, f"{at}[{number}]") for value in row]
            for number, row in enumerate(table.rows)
        ]
    wanted = ", ".join(str(spec.name) for spec in specs)
    if len(specs) == 1 and len(specs[0].shape) == 1:
        wanted = f"{wanted}, or {specs[0].shape[0]} columns of its elements"
    raise InputError(f"expected the columns {wanted}; got {_listed(table.columns)}", at=at)


def records_of_table(table: Table, manifest: Manifest) -> list[Any]:
    """The rows as records of a table or texts: by name, or in order where the columns are numbers."""
    if manifest.decode.kind == "text":
        # One column of texts, whatever it is called.
        return [row[0] if len(row) == 1 else dict(zip(table.columns, row, strict=True)) for row in table.rows]
    if all(isinstance(name, int) for name in table.columns):
        return list(table.rows)
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


def _is_vector(spec: TensorSpec, size: int) -> bool:
    return len(spec.shape) == 1 and (isinstance(spec.shape[0], str) or spec.shape[0] == size)


def _even(columns: list[Any], rows: list[list[Any]], at: str) -> Table:
    for number, row in enumerate(rows):
        if len(row) != len(columns):
            raise InputError(f"expected {len(columns)} values, got {len(row)}", at=f"{at}[{number}]")
    return Table(columns, rows)


def _cell(value: Any, spec: TensorSpec, text: bool, at: str) -> Any:
    """One value as its input takes it; what is missing among floats is not-a-number."""
    if text:
        value = _read(value, spec.dtype, at)
    if value is None and spec.dtype.startswith("float"):
        value = math.nan
    # One number of a column is a vector of one to a network whose input has a second axis.
    return [value] if spec.shape == (1,) and not isinstance(value, list) else value


def _read(text: str, dtype: str, at: str) -> Any:
    """A value out of CSV.

    Raises:
        InputError: it is not of the datatype.
    """
    try:
        if dtype == "string":
            return text
        if dtype == "bool":
            return _BOOLS[text.strip().lower()]
        if not dtype.startswith("float"):
            return int(text)
        return math.nan if text.strip().lower() in _NAN else float(text)
    except (ValueError, KeyError):
        raise InputError(f"expected {dtype}, got {text[:40]!r}", at=at) from None


def _listed(columns: Sequence[Any]) -> str:
    shown = ", ".join(str(column)[:40] for column in columns[:8])
    return f"{shown}, … ({len(columns)})" if len(columns) > 8 else shown or "none"
