"""A table's columns as converters of models of tables tell them, and rows of them for the framework."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .frames import Array

MAX_CATEGORIES = 1000


@dataclass
class Column:
    """One column; as JSON it is what a bundle's manifest holds."""

    name: str
    dtype: str = "float64"
    categories: list[Any] = field(default_factory=list)
    minimum: float | None = None
    maximum: float | None = None
    missing: bool = False
    typical: Any = None
    unseen: bool = False
    used: bool = False
    mark: Any = np.nan
    """What stands for a missing value in a column of text: None or NaN."""
    scaled: bool = False
    """Whether what comes behind sees other numbers."""
    spread: tuple[float, float] | None = None
    """Where made-up numbers lie, if not in the range."""
    pandas: list[Any] | None = None
    """The categories of the pandas datatype that the framework asks for, in order."""

    def data(self) -> dict[str, Any]:
        """JSON with what is known."""
        texts = [str(value) for value in self.categories if not is_missing(value)]
        known = {
            "name": self.name,
            "dtype": self.dtype,
            "categories": texts if self.dtype == "string" and 0 < len(texts) <= MAX_CATEGORIES else [],
            "minimum": _number(self.minimum),
            "maximum": _number(self.maximum),
            "missing": self.missing,
            "typical": self.typical,
            "unseen": self.unseen or len(texts) > MAX_CATEGORIES,
        }
        return {key: value for key, value in known.items() if value is not None and value != []}

    def settle(self) -> None:
        """What follows from what was learnt."""
        present = [value for value in self.categories if not is_missing(value)]
        if self.dtype in ("int64", "bool") and self.missing:
            self.dtype = "float64"  # whole numbers have nothing that stands for a missing one
        if (
            self.dtype == "string"
            and present
            and (self.typical is None or str(self.typical) not in map(str, present))
        ):
            self.typical = str(present[0])
        if self.typical is not None:
            kinds: dict[str, Any] = {"float64": float, "int64": int, "string": str, "bool": bool}
            self.typical = kinds[self.dtype](self.typical)
        if self.dtype in ("string", "bool"):
            self.minimum = self.maximum = None


def is_missing(value: Any) -> bool:
    """Whether a value that was fitted stands for a missing one: None, NaN or pandas' NA."""
    return value is None or type(value).__name__ == "NAType" or (isinstance(value, float) and value != value)


def kind_of(values: list[Any]) -> str:
    """The datatype of a column that holds these values."""
    if values and all(isinstance(value, (bool, np.bool_)) for value in values):
        return "bool"
    if values and all(isinstance(value, (int, np.integer)) for value in values):
        return "int64"
    if values and all(isinstance(value, (int, float, np.number)) for value in values):
        return "float64"
    return "string"


def plain(value: Any) -> Any:
    """NumPy's numbers and texts as Python's."""
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return float(value)
    return str(value)


def frame_of(columns: list[Column], arrays: dict[str, Array], *, named: bool) -> Any:
    """What the framework takes: a DataFrame by name, or a float64 matrix [rows, columns].

    Columns that nothing uses are filled; an empty text is a missing one where text may be missing.
    """
    rows = len(next(iter(arrays.values())))
    if not named:
        held = [arrays.get(each.name, np.full((rows, 1), _filling(each))) for each in columns]
        return np.concatenate([np.asarray(values, np.float64).reshape(rows, 1) for values in held], axis=1)
    import pandas

    made: dict[str, Any] = {}
    for column in columns:
        if column.name not in arrays:
            made[column.name] = [_filling(column)] * rows
            continue
        values: Any = arrays[column.name].reshape(-1)
        if column.dtype == "string":
            texts = [column.mark if text == "" and column.missing else text for text in values.tolist()]
            values = pandas.Series(texts, dtype=object)
        if column.pandas is not None:
            values = pandas.Categorical(values, categories=column.pandas)
        made[column.name] = values
    return pandas.DataFrame(made)


def _filling(column: Column) -> Any:
    """Something for a column that is asked for and not used."""
    if column.typical is not None:
        return column.typical
    return 0.0 if column.dtype != "string" else ""


def _number(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)
