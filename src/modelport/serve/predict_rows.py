"""What `/predict` takes for a table or for texts, by its Content-Type, and the reply.

One row or text (a JSON object, a form, a text) has one `answer`; a list or a CSV has `answers`, one for each.
"""

from __future__ import annotations

import time
from typing import Any

from starlette.datastructures import Headers

from ..engine.model import LiveModel, Timing
from ..engine.wire import Options
from ..errors import InputError
from ..steps.row_files import is_columnar, looks_like_json, parse_json, read_csv, records_of_json
from ..steps.rows import columns_of, rows_of
from ..tensors import Array, Tensors
from .body import form_fields, off_loop
from .options import of_address
from .rows import MAX_TEXTS, answer_texts, by_rows, check_count, split, text_of

_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")
TEXT_FIELD = "text"
FILE_FIELD = "file"


async def answer_body(model: LiveModel, body: bytes, headers: Headers, query: bytes) -> dict[str, Any]:
    """The reply to a body.

    Raises:
        InputError: no rows and no text, or such as the model does not take. TooLarge: too many.
    """
    options = of_address(model, query)
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if not body:
        raise InputError("the body is empty", hint=_hint(model))
    if kind == _FORMS[0] and (looks_like_json(body) or b"=" not in body):
        # What curl's -d says of any body; it is none.
        kind = "application/json" if looks_like_json(body) else ""
    fields = await form_fields(body, headers) if kind in _FORMS else None
    if model.bundle.manifest.decode.kind == "text":
        return await _texts(model, body, kind, fields, options)
    if fields is not None and set(fields) == {FILE_FIELD} and not _has_column(model, FILE_FIELD):
        body, fields = fields[FILE_FIELD].encode(), None
    if fields is not None:
        return await _rows(model, _form_row(model, fields), True, options)
    rows, one = await off_loop(lambda data: _decoded(model, data), body)
    return await _rows(model, rows, one, options)


def _decoded(model: LiveModel, body: bytes) -> tuple[Tensors, bool]:
    """The rows of a JSON or CSV body, and whether it is one row that is no list."""
    columns = model.bundle.manifest.columns
    if not looks_like_json(body):
        found = read_csv(body, columns)
        if found.extra:
            names = ", ".join(column.name for column in columns)
            raise InputError(
                f"there is no column {found.extra[0]!r}", at="line 1", hint=f"the columns are {names}"
            )
        return found.tensors(columns), False
    value = parse_json(body)
    if is_columnar(value):
        return columns_of(value, columns), False
    records = records_of_json(value)
    one = isinstance(value, dict) or (bool(value) and not isinstance(value[0], (dict, list)))
    if one or not isinstance(value, list):
        return rows_of_one(records[0], model), True
    return rows_among(records, model), False


def rows_of_one(record: Any, model: LiveModel, *, text: bool = False) -> Tensors:
    """One row; its places are `$.column`."""
    return rows_of([record], model.bundle.manifest.columns, text=text)


def rows_among(records: list[Any], model: LiveModel) -> Tensors:
    """Rows of a list; their places are `$[3].column`."""

    def place(row: int, name: str) -> str:
        return f"$[{row}].{name}" if name else f"$[{row}]"

    return rows_of(records, model.bundle.manifest.columns, place=place)


def _form_row(model: LiveModel, fields: dict[str, str]) -> Tensors:
    """A form's row. A box that is not ticked is not sent: a column of truth is then false."""
    columns = model.bundle.manifest.columns
    ticked = {column.name: "false" for column in columns if column.dtype == "bool"}
    return rows_of_one(ticked | fields, model, text=True)


async def _rows(model: LiveModel, rows: Tensors, one: bool, options: Options | None) -> dict[str, Any]:
    outputs, timing = await model.timed_rows(rows, options=options)
    count = len(next(iter(outputs.values())))
    return await by_rows(lambda: _reply(model, split(outputs), one, timing), count)


async def _texts(
    model: LiveModel, body: bytes, kind: str, fields: dict[str, str] | None, options: Options | None
) -> dict[str, Any]:
    value: Any = body
    if fields is not None:
        value = fields.get(TEXT_FIELD, fields.get(FILE_FIELD))
        if value is None or len(fields) != 1:
            raise InputError(f"expected one field {TEXT_FIELD!r}, got {', '.join(fields) or 'none'}")
    elif kind == "application/json":
        value = await off_loop(parse_json, body)
        value = value[TEXT_FIELD] if isinstance(value, dict) and set(value) == {TEXT_FIELD} else value
    if isinstance(value, (str, bytes)):
        answered = await model.answer(_utf8(value), options=options)
        return _reply(model, [answered.tensors], True, answered.timing)
    if not isinstance(value, list):
        raise InputError(f"expected a text, got {type(value).__name__}", at="$", hint=_hint(model))
    check_count(len(value), model.bundle.manifest, "$")
    found = [text_of(each, f"$[{number}]") for number, each in enumerate(value)]
    start = time.perf_counter()
    answers = await answer_texts(model, found, at="$", options=options)
    timing = Timing(total=round((time.perf_counter() - start) * 1e3, 3))
    return _reply(model, answers, False, timing)


def _reply(model: LiveModel, answers: list[dict[str, Array]], one: bool, timing: Timing) -> dict[str, Any]:
    readable = [model.readable(answer) for answer in answers]
    return {
        "model": model.name,
        "version": model.version,
        **({"answer": readable[0]} if one else {"answers": readable}),
        "timing_ms": timing,
    }


def _utf8(text: str | bytes) -> bytes:
    try:
        return text if isinstance(text, bytes) else text.encode()
    except UnicodeEncodeError as problem:
        raise InputError(f"not a text that UTF-8 can say: {problem}") from problem


def _has_column(model: LiveModel, name: str) -> bool:
    return any(column.name == name for column in model.bundle.manifest.columns)


def _hint(model: LiveModel) -> str:
    if model.bundle.manifest.decode.kind == "text":
        return f'send the text itself, or JSON: "…", {{"text": "…"}}, or up to {MAX_TEXTS} of them in a list'
    return "send a row as JSON or CSV"
