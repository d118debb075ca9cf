"""Hugging Face's forms for texts and tables: what is asked, and the answers as `InferenceClient` reads them.

A text classification is asked `{"inputs": "…"}` or a list of texts, and answers a list of
`[{"label", "score"}]`, one for each text, also where there is one. A table is asked `{"table": {"column":
[…]}}` (or, as its older widgets did, `{"inputs": {"data": {…}}}`), and answers a list: the best label of each
row, or its predicted number.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from ...bundle.manifest import Column
from ...engine.model import LiveModel
from ...engine.wire import Options
from ...errors import InputError
from ...steps.row_files import parse_json
from ...steps.rows import columns_of
from ...tensors import Array, Tensors
from ..rows import answer_texts, by_rows, check_count, text_of


class Asked(msgspec.Struct):
    """The JSON form of a request; what else it holds means nothing here."""

    inputs: Any = None
    table: Any = None
    parameters: dict[str, Any] | None = None


def parse(body: bytes, model: LiveModel) -> Asked:
    """A request for texts or rows; a body that is no JSON is a text itself.

    Raises:
        InputError: empty, or neither.
    """
    if not body:
        raise InputError("the body is empty", hint='send {"inputs": "…"} or {"table": {"column": […]}}')
    if not body[:64].lstrip().startswith(b"{"):
        if model.bundle.manifest.decode.kind == "text":
            return Asked(body)
        raise InputError('expected JSON, {"table": {"column": […]}}')
    try:
        return msgspec.convert(parse_json(body), Asked)
    except msgspec.ValidationError as problem:
        raise InputError(str(problem), at="$") from problem


async def texts(model: LiveModel, asked: Asked, options: Options | None) -> list[dict[str, Array]]:
    """Each text's answer, as tensors by name.

    Raises:
        InputError: no text, or such as the model does not take.
    """
    found = asked.inputs if isinstance(asked.inputs, list) else [asked.inputs]
    check_count(len(found), model.bundle.manifest, "$.inputs")
    lines = [text_of(each, f"$.inputs[{number}]") for number, each in enumerate(found)]
    return await answer_texts(model, lines, at="$.inputs", options=options)


async def rows(model: LiveModel, asked: Asked, options: Options | None) -> list[Any]:
    """Each row's best label or predicted value.

    Raises:
        InputError: no table, or columns that the model does not take.
    """
    table, at = asked.table, "$.table"
    if table is None and isinstance(asked.inputs, dict):
        data = asked.inputs.get("data", asked.inputs)
        table, at = data, "$.inputs.data" if data is not asked.inputs else "$.inputs"
    if not isinstance(table, dict) or not all(isinstance(values, list) for values in table.values()):
        raise InputError("expected lists of values by column", at=at, hint='{"table": {"column": […]}}')
    count = max(map(len, table.values()), default=0)
    check_count(count, model.bundle.manifest, at)
    columns = await by_rows(lambda: _columns(table, model.bundle.manifest.columns), count)
    return best_of(await model.answer_rows(columns, options=options))


def _columns(table: dict[str, list[Any]], columns: Sequence[Column]) -> dict[str, Array]:
    # The widgets send every number as text.
    written = any(isinstance(value, str) for values in table.values() for value in values)
    return columns_of(table, columns, text=written)


def best_of(outputs: Tensors) -> list[Any]:
    """The best label of each row, or its index where there are no names, or its value."""
    for name in ("labels", "indices"):
        if name in outputs and outputs[name].ndim == 2:
            found: list[Any] = outputs[name][:, 0].tolist()
            return found
    array = outputs["value"] if "value" in outputs else next(iter(outputs.values()))
    values: list[Any] = array.tolist()
    return values
