"""Rows made up from what is known of the columns, and what they show of a classifier."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from .columns import Column, is_missing
from .frames import Array

ROWS = 256


def sample_rows(columns: list[Column], rows: int = ROWS) -> dict[str, Array]:
    """Seeded rows: categories, the range that was seen, or numbers around the typical one -> [rows, 1]."""
    random = np.random.default_rng(0)
    return {column.name: _values(column, rows, random).reshape(-1, 1) for column in columns if column.used}


def accepted_rows(columns: list[Column], run: Callable[[dict[str, Array]], Any]) -> dict[str, Array]:
    """Made-up rows that the framework takes: where it refuses them (logarithms), numbers without a sign.

    Columns of which nothing typical is known get the middle of them.
    """
    rows = sample_rows(columns)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the logarithm of a negative number, which is then refused
        try:
            run(rows)
        except ValueError:
            rows = {name: _unsigned(values) for name, values in rows.items()}
            run(rows)
    for column in columns:
        if column.used and column.typical is None and column.dtype == "float64":
            column.typical = float(np.round(np.median(rows[column.name]), 3))
    return rows


def _unsigned(values: Array) -> Array:
    return values if values.dtype.kind not in "fi" else np.abs(values) + 0.5


def _values(column: Column, rows: int, random: np.random.Generator) -> Array:
    known = [value for value in column.categories if not is_missing(value)]
    if column.dtype == "string":
        made = np.empty(rows, dtype=object)
        made[:] = [str(known[index]) for index in random.integers(0, len(known), rows)] if known else "a"
        return made
    dtype = {"int64": np.int64, "bool": np.bool_}.get(column.dtype, np.float64)
    if known:
        return np.array(known, dtype)[random.integers(0, len(known), rows)]
    if column.minimum is not None and column.maximum is not None:
        return random.uniform(column.minimum, column.maximum, rows).astype(dtype)
    if column.spread is not None:
        return random.uniform(*column.spread, rows).astype(dtype)
    middle = float(column.typical) if isinstance(column.typical, (int, float)) else 0.0
    return (middle + random.standard_normal(rows) * max(abs(middle), 1.0)).astype(dtype)


def differing_answers(model: Any, given: Array, rows: Any) -> list[str]:
    """A note where the framework's `predict` is not the class with the largest score, as with SVC's."""
    best = np.asarray(model.classes_)[given.argmax(axis=1)]
    said = np.asarray(model.predict(rows)).reshape(-1)
    differing = int((best != said).sum())
    if not differing:
        return []
    return [
        f"warning: for {differing} of {len(said)} made-up rows {type(model).__name__}.predict gives another "
        "class than the one with the largest score, which is what the packed model answers with"
    ]
