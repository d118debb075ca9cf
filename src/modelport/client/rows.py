"""Rows of a table and texts for `predict`: recognised among a caller's items, and written for the wire.

A mapping with plain values is a row, a list of such or anything with `to_dict("records")` (a DataFrame)
several. Knows no library by more than that method.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec
import numpy as np

from ..errors import InputError
from ..tensors import Array

_SCALARS = (str, bool, int, float, type(None), np.generic)
_FILE_NAME = re.compile(r"\.\w{1,5}$")


class Text(str):
    """A text to be answered, where a plain `str` could be a path."""

    __slots__ = ()


class Frame(Protocol):
    """What pandas and polars call a data frame, as far as `predict` needs one."""

    def to_dict(self, orient: Any = ..., /) -> Any: ...


Table = Sequence[Mapping[str, Any]] | Frame
"""Several rows: mappings by column name, or a data frame with `to_dict("records")`."""


class Rows(msgspec.Struct, frozen=True):
    """Rows of plain values by column name."""

    records: list[dict[str, Any]]
    one: bool
    """Whether the caller gave a row and no list."""

    def json(self) -> bytes:
        """As `/predict` takes them."""
        return msgspec.json.encode(self.records[0] if self.one else self.records)

    def tensors(self) -> dict[str, Array]:
        """As the Open Inference Protocol takes them: `[rows, 1]` for each column.

        A column that no row has a value for is left out; among numbers what is missing is NaN.
        """
        names = list(dict.fromkeys(name for record in self.records for name in record))
        found = {name: [record.get(name) for record in self.records] for name in names}
        return {
            name: _column(values)
            for name, values in found.items()
            if any(value is not None for value in values)
        }


def recognised(item: Any) -> Rows | Text | None:
    """The rows or the text that an item is; None where it is something else.

    A plain `str` is a text where it holds white space, ends in no file's ending, and no file has its name.

    Raises:
        InputError: rows with values that JSON cannot say, or no rows.
    """
    if isinstance(item, Text):
        return item
    if isinstance(item, str):
        return Text(item) if _is_text(item) else None
    if isinstance(item, Mapping):
        plain = bool(item) and all(isinstance(value, _SCALARS) for value in item.values())
        return Rows([_record(item, "$")], True) if plain else None
    to_dict = getattr(item, "to_dict", None)
    if callable(to_dict):
        item = to_dict("records")
    if isinstance(item, (list, tuple)) and item and all(isinstance(row, Mapping) for row in item):
        return Rows([_record(row, f"$[{number}]") for number, row in enumerate(item)], False)
    if callable(to_dict):
        raise InputError('expected rows of to_dict("records"), got none')
    return None


def _is_text(item: str) -> bool:
    if not re.search(r"\s", item) or ("\n" not in item and _FILE_NAME.search(item)):
        return False
    try:
        return not os.path.exists(item)
    except ValueError:
        return True


def _record(row: Mapping[str, Any], at: str) -> dict[str, Any]:
    return {str(name): _plain(value, f"{at}.{name}") for name, value in row.items()}


def _plain(value: Any, at: str) -> Any:
    """A value as JSON has it; what NumPy, pandas or Python have for "missing" is None."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return None if math.isnan(value) else value
    if value != value or type(value).__name__ in ("NAType", "NaTType"):
        return None
    raise InputError(f"expected text, a number or a truth value, got {type(value).__name__}", at=at)


def _column(values: list[Any]) -> Array:
    kinds = {type(value) for value in values if value is not None}
    if str in kinds:
        made = np.array(["" if value is None else str(value) for value in values], object)
    elif kinds <= {int, bool} and None not in values:
        made = np.array(values)
    else:
        made = np.array([math.nan if value is None else value for value in values], np.float64)
    return made.reshape(-1, 1)
