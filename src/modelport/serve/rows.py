"""Rows of tables and texts in a request: what it holds of them, and their answers. Knows no protocol.

Many rows go through the network together, as one submission; texts differ in length and go side by side.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np

from ..bundle.columns import TEXT, specs_of
from ..bundle.manifest import Column, Manifest
from ..engine.model import LiveModel, stack
from ..engine.wire import Options
from ..errors import InputError, TooLarge
from ..steps.row_files import MAX_ROWS
from ..steps.rows import columns_of, rows_of
from ..tensors import Array, Tensors, TensorSpec, dtype_name, numpy_dtype, object_array
from .aside import aside

T = TypeVar("T")

MAX_TEXTS = 1024
"""Texts in one request."""


def is_record(manifest: Manifest, net: bool = False) -> bool:
    """Whether an item is a row of a table or a text."""
    return not net and manifest.decode.kind in ("table", "text")


def item_specs(manifest: Manifest) -> tuple[TensorSpec, ...]:
    """What a row or a text is, with a batch axis in front."""
    specs = (TEXT,) if manifest.decode.kind == "text" else specs_of(manifest.columns)
    return tuple(TensorSpec(spec.name, spec.dtype, ("batch", *spec.shape)) for spec in specs)


async def answer_records(
    model: LiveModel,
    records: Sequence[Any],
    *,
    at: str = "$",
    text: bool = False,
    deadline: float = math.inf,
    options: Options | None = None,
) -> list[dict[str, Array]]:
    """Rows or texts answered, in order, each without a batch axis.

    Args:
        records: rows as `rows_of` takes them; or texts, alone or as `{"text": …}`.
        at: where they are in the request.
        text: whether the numbers of rows are text.
        deadline: on time.monotonic's clock.
        options: what `LiveModel.check_options` made of the caller's.

    Raises:
        InputError: none, or one that the model does not take, with its place. TooLarge: too many.
    """
    check_count(len(records), model.bundle.manifest, at)
    if model.bundle.manifest.decode.kind == "text":
        texts = [text_of(record, f"{at}[{number}]") for number, record in enumerate(records)]
        return await answer_texts(model, texts, at=at, deadline=deadline, options=options)

    def place(row: int, name: str) -> str:
        return f"{at}[{row}].{name}" if name else f"{at}[{row}]"

    columns = model.bundle.manifest.columns
    rows = await by_rows(lambda: rows_of(records, columns, place=place, text=text), len(records))
    outputs = await model.answer_rows(rows, deadline=deadline, options=options)
    return await by_rows(lambda: split(outputs), len(records))


async def answer_columnar(
    model: LiveModel, table: Any, *, at: str = "$", options: Options | None = None
) -> dict[str, Array]:
    """Lists of values by column name, or a list of texts, answered; every output with a batch axis.

    Raises:
        InputError: as `answer_records`, or lists of different lengths.
    """
    manifest = model.bundle.manifest
    if manifest.decode.kind == "text":
        if isinstance(table, dict) and set(table) == {TEXT.name}:
            table, at = table[TEXT.name], f"{at}.{TEXT.name}"
        found = table if isinstance(table, list) else [table]
        return stack(await answer_records(model, found, at=at, options=options))
    if not isinstance(table, dict):
        raise InputError(f"expected an object with {_names(manifest.columns)}", at=at)
    lists = {name: _flat(values, f"{at}.{name}") for name, values in table.items()}
    count = max(map(len, lists.values()), default=0)
    check_count(count, manifest, at)
    try:
        rows = await by_rows(lambda: columns_of(lists, manifest.columns), count)
    except InputError as problem:
        raise InputError(problem.message, at=_below(at, problem.at), hint=problem.hint) from problem
    return await model.answer_rows(rows, options=options)


async def answer_tensors(
    model: LiveModel, inputs: Tensors, *, deadline: float = math.inf, options: Options | None = None
) -> dict[str, Array]:
    """Tensors by column name, `[rows, 1]` or `[rows]`, answered; or `text`, strings of any shape.

    A number of another type than its column's is converted; a column that may be missing may be left out.

    Raises:
        InputError: they do not fit.
    """
    manifest = model.bundle.manifest
    if manifest.decode.kind == "text":
        if set(inputs) != {TEXT.name} or dtype_name(inputs[TEXT.name]) != "string":
            got = ", ".join(f"{name} {dtype_name(array)}" for name, array in inputs.items()) or "none"
            raise InputError(f"expected one input `text` of strings (BYTES), got {got}", at="$.inputs")
        texts = inputs[TEXT.name].ravel().tolist()
        check_count(len(texts), manifest, "$.inputs.text")
        return stack(await answer_texts(model, texts, at="$.inputs.text", deadline=deadline, options=options))
    rows = _as_columns(inputs, manifest.columns)
    return await model.answer_rows(rows, deadline=deadline, options=options)


async def answer_texts(
    model: LiveModel,
    texts: Sequence[str | bytes],
    *,
    at: str,
    deadline: float = math.inf,
    options: Options | None = None,
) -> list[dict[str, Array]]:
    """Texts answered side by side, in order.

    Raises:
        InputError: one that cannot be used, with its place; nobody waits for the others then.
    """

    async def one(text: str | bytes, number: int) -> dict[str, Array]:
        data = text if isinstance(text, bytes) else _encoded(text, f"{at}[{number}]")
        try:
            return (await model.answer(data, deadline=deadline, options=options)).tensors
        except InputError as problem:
            problem.at = f"{at}[{number}]" if len(texts) > 1 else problem.at
            raise

    work = [asyncio.ensure_future(one(text, number)) for number, text in enumerate(texts)]
    try:
        return list(await asyncio.gather(*work))
    finally:
        for each in work:
            each.cancel()


def check_count(count: int, manifest: Manifest, at: str) -> None:
    """Refuse requests without items, and with more than one request may have.

    Raises:
        InputError, TooLarge.
    """
    limit = MAX_TEXTS if manifest.decode.kind == "text" else MAX_ROWS
    if count < 1:
        raise InputError("no rows", at=at)
    if count > limit:
        raise TooLarge(f"{count} rows; at most {limit} are answered at once", at=at)


def split(outputs: Tensors) -> list[dict[str, Array]]:
    """A batch's outputs, row by row, without the batch axis."""
    count = min(len(array) for array in outputs.values())
    return [{name: array[row, ...] for name, array in outputs.items()} for row in range(count)]


ROW_BYTES = 32
"""As many bytes as take as long as a row, where its values are looked at one by one."""


async def by_rows(work: Callable[[], T], count: int) -> T:
    """`work()`, which goes through `count` rows one by one: in a thread where it takes long (`aside`)."""
    return await aside(work, count * ROW_BYTES)


def text_of(record: Any, at: str) -> str | bytes:
    """A text: alone, as `{"text": …}`, or alone in a list.

    Raises:
        InputError: something else.
    """
    if isinstance(record, dict) and set(record) == {TEXT.name}:
        record = record[TEXT.name]
    if isinstance(record, list) and len(record) == 1:
        record = record[0]
    if not isinstance(record, (str, bytes)):
        raise InputError(f"expected a text, got {type(record).__name__}", at=at)
    return record


def _encoded(text: str, at: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as problem:
        raise InputError(f"not a text that UTF-8 can say: {problem}", at=at) from problem


def _flat(values: Any, at: str) -> list[Any]:
    """A column's values; `[[1], [2]]` is a column too, as a tensor of one axis more has it."""
    if not isinstance(values, list):
        return [values]
    if values and all(isinstance(value, list) and len(value) == 1 for value in values):
        return [value[0] for value in values]
    return values


def _below(at: str, place: str | None) -> str:
    return at + (place or "$").removeprefix("$")


def _as_columns(inputs: Tensors, columns: Sequence[Column]) -> dict[str, Array]:
    known = {column.name: column for column in columns}
    for name in inputs:
        if name not in known:
            raise InputError(f"unexpected input {name!r}; expected {_names(columns)}", at=f"$.inputs.{name}")
    counts = {len(array) for array in inputs.values() if array.ndim}
    if len(counts) != 1 or 0 in counts:
        got = ", ".join(f"{name} {list(array.shape)}" for name, array in inputs.items()) or "none"
        raise InputError(
            f"expected the same number of rows (at least one) in every input, got {got}", at="$.inputs"
        )
    (count,) = counts
    return {name: _as_column(inputs.get(name), column, count) for name, column in known.items()}


def _as_column(array: Array | None, column: Column, count: int) -> Array:
    at = f"$.inputs.{column.name}"
    if array is None:
        if not column.missing:
            raise InputError(f"missing input {column.name!r} ({column.dtype}[{count}, 1])", at="$.inputs")
        lost: Any = "" if column.dtype == "string" else math.nan
        return np.full((count, 1), lost, numpy_dtype(column.dtype))
    if array.size != count or array.ndim > 2:
        raise InputError(
            f"expected {column.dtype}[{count}, 1], got {dtype_name(array)}{list(array.shape)}", at=at
        )
    array = array.reshape(count, 1)
    have = dtype_name(array)
    if have == column.dtype:
        return (
            object_array([_said(item, at) for item in array.flat], (count, 1)) if have == "string" else array
        )
    fits = {"float32": "fiu", "float64": "fiu", "int64": "iu", "bool": "b"}.get(column.dtype, "")
    if array.dtype.kind not in fits:
        raise InputError(f"expected {column.dtype}[{count}, 1], got {have}{list(array.shape)}", at=at)
    with np.errstate(over="ignore"):
        return array.astype(numpy_dtype(column.dtype))


def _said(item: Any, at: str) -> str:
    try:
        return item.decode() if isinstance(item, bytes) else str(item)
    except UnicodeDecodeError as problem:
        raise InputError(f"not UTF-8 text: {problem}", at=at) from problem


def _names(columns: Sequence[Column]) -> str:
    return ", ".join(column.name for column in columns)
