"""Rows with a target: a CSV or JSON lines table, or the arrays of a .npz, as a bundle's input tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import InputError, UsageError, did_you_mean
from ...files import read_limited
from ...runtimes.npz import read_npz
from ...tensors import Array, TensorSpec, numpy_dtype, object_array
from .item import Data, Item, some
from .pictures import rows_of

TARGETS = ("target", "label", "labels", "class", "y")
"""The target's names that are looked for where none is given."""
MAX_BYTES = 4 << 30


def from_table(path: Path, inputs: Sequence[TensorSpec], target: str | None) -> Data:
    """A .csv, .tsv or .jsonl with a column for the target.

    Columns with the names of the bundle's inputs are those inputs; a bundle with one input of n values
    takes the other columns in the file's order.

    Args:
        inputs: what the bundle takes, without a batch axis.

    Raises:
        InputError: columns that do not fit, a field that is no number, or no rows.
    """
    rows = list(rows_of(path))
    if not rows:
        raise InputError("the table has no rows", at=str(path))
    columns = list(rows[0][1])
    wanted = target_of(columns, target, path)
    features = [column for column in columns if column != wanted]
    items = []
    for number, row in rows:
        at = f"{path.name}:{number}"
        if wanted not in row or row[wanted] in ("", None):
            raise InputError(f"no value for the target {wanted!r}", at=at)
        items.append(Item(f"row {number}", _tensors(row, features, inputs, at), value_of(row[wanted], at)))
    return Data(path.stem, "targets", items)


def from_npz(path: Path, inputs: Sequence[TensorSpec], target: str | None) -> Data:
    """A .npz with an array for each input and one for the target; their first axis is the rows.

    Raises:
        InputError: arrays that are missing, of different lengths or of no rows, or NaN in the target.
    """
    arrays = read_npz(read_limited(path, MAX_BYTES), limit=MAX_BYTES)
    missing = [spec.name for spec in inputs if spec.name not in arrays]
    others = [name for name in arrays if name not in {spec.name for spec in inputs}]
    if missing:
        raise InputError(
            f"no array {some(missing)}; there are {some(list(arrays), 12)}",
            at=str(path),
            hint="name the arrays as the bundle names its inputs",
        )
    wanted = others[0] if target is None and len(others) == 1 else target_of(others, target, path)
    truth = arrays[wanted]
    if truth.ndim == 2 and truth.shape[1] == 1:
        truth = truth[:, 0]
    if truth.ndim != 1:
        at = f"{path.name}: {wanted}"
        raise InputError(f"the target is one value a row, got {list(truth.shape)}", at=at)
    lengths = {name: len(arrays[name]) if arrays[name].ndim else 0 for name in [wanted, *_names(inputs)]}
    if len(set(lengths.values())) != 1 or not len(truth):
        raise InputError(f"expected arrays of as many rows, got {lengths}", at=str(path))
    items = []
    for row in range(len(truth)):
        source = {spec.name: _as(arrays[spec.name][row], spec) for spec in inputs}
        items.append(Item(f"row {row}", source, value_of(truth[row].item(), f"{path.name}: {wanted}[{row}]")))
    return Data(path.stem, "targets", items)


def _names(inputs: Sequence[TensorSpec]) -> list[str]:
    return [spec.name for spec in inputs]


def target_of(columns: Sequence[str], given: str | None, path: Path) -> str:
    """The column with the right answers: the one that is given, or one of an usual name.

    Raises:
        UsageError: there is no such column, or none of an usual name.
    """
    if given is not None:
        if given not in columns:
            raise UsageError(
                f"no column {given!r}; there are {some(list(columns), 12)}",
                at=str(path),
                hint=did_you_mean(given, columns, otherwise=""),
            )
        return given
    for name in TARGETS:
        for column in columns:
            if column.lower() == name:
                return column
    raise UsageError(f"which is the target? There are {some(list(columns), 20)}", hint="--target COLUMN")


def _tensors(
    row: Mapping[str, Any], features: Sequence[str], inputs: Sequence[TensorSpec], at: str
) -> dict[str, Array]:
    if all(spec.name in row for spec in inputs):
        return {spec.name: _tensor([row[spec.name]], spec, f"{at} {spec.name}") for spec in inputs}
    if len(inputs) != 1:
        missing = [spec.name for spec in inputs if spec.name not in row]
        raise InputError(f"no column {some(missing)}; the bundle takes {some(_names(inputs), 12)}", at=at)
    return {inputs[0].name: _tensor([row.get(column) for column in features], inputs[0], at)}


def _tensor(values: list[Any], spec: TensorSpec, at: str) -> Array:
    """Fields as the tensor that `spec` says; one field for a single number or text."""
    if len(values) == 1 and isinstance(values[0], list):
        values = values[0]
    fixed = [side for side in spec.shape if isinstance(side, int)]
    size = math.prod(fixed)
    if len(fixed) == len(spec.shape) and size != len(values):
        raise InputError(
            f"{spec.name!r} takes {spec}, the row has {len(values)} values for it",
            at=at,
            hint="every column but the target is taken, in the file's order; leave out the others",
        )
    shape = [side if isinstance(side, int) else len(values) // max(1, size) for side in spec.shape]
    if spec.dtype == "string":
        return object_array([str(value) for value in values], [len(values)]).reshape(shape)
    try:
        numbers = np.array([_number(value) for value in values], np.float64)
    except ValueError:
        wrong = next(value for value in values if not _is_number(value))
        raise InputError(f"expected numbers for {spec.name!r}, got {wrong!r}", at=at) from None
    return _as(numbers.reshape(shape), spec)


def _as(array: Array, spec: TensorSpec) -> Array:
    """The array in the datatype of `spec`."""
    if spec.dtype == "string":
        return object_array([str(item) for item in array.ravel()], array.shape)
    return np.asarray(array).astype(numpy_dtype(spec.dtype))


def _number(value: Any) -> float:
    if isinstance(value, str) and not value.strip():
        return math.nan  # an empty field: many a model is made to take it
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return float(value.strip().lower() == "true")
    return math.nan if value is None else float(value)


def _is_number(value: Any) -> bool:
    try:
        _number(value)
    except (TypeError, ValueError):
        return False
    return True


def value_of(value: Any, at: str) -> str | int | float:
    """A target as a number where it is one, else as text.

    Raises:
        InputError: NaN, infinity, or something else than text and numbers.
    """
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, str):
        try:
            number = float(value)
        except ValueError:
            return value.strip()
        value = int(number) if math.isfinite(number) and number == int(number) else number
    if not isinstance(value, int | float):
        raise InputError(f"expected a number or text as the target, got {value!r}", at=at)
    if not math.isfinite(value):
        raise InputError(f"the target is {value}", at=at, hint="leave such rows out")
    return value
