"""Many items in one request, as JSON carries them: values to tensors, answers to values, the model meant.

For protocols whose requests are rows or columns of JSON. Their numbers may be NaN, Infinity and -Infinity,
which strict JSON has no words for. Knows no protocol.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

import msgspec
import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from ...bundle.manifest import Manifest
from ...bundle.rules import NETWORK_SUFFIX as NET
from ...engine.model import Answered, LiveModel, stack
from ...engine.repository import Repository
from ...engine.wire import Options
from ...errors import InputError, NotFound, did_you_mean
from ...tensors import Array, Tensors, TensorSpec, array_of_json, check_json, object_array
from ..aside import aside
from ..base64_text import decode_base64
from ..infer import MAX_ITEMS
from ..rows import answer_columnar, answer_records, is_record

Endpoint = Callable[[Request], Awaitable[Response]]

DETECTION = "object-detection"
"""The task whose answers are boxes with labels."""
_ESCAPED_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_MAX_RANK = 16
_ARRAY = 64
"""What an array costs beside its bytes, in bytes that are written as JSON."""
_BYTES = "_bytes"
"""An output of text whose name ends so is sent as `{"b64": …}`."""


# -- JSON ----------------------------------------------------------------------------------------------------


def decode_json(body: bytes) -> Any:
    """JSON in UTF-8, where NaN, Infinity and -Infinity are numbers too.

    Raises:
        InputError: something else, or nested too deep, or with numbers that no tensor holds.
    """
    check_json(body)
    try:
        try:
            return msgspec.json.decode(body)
        except msgspec.DecodeError:
            # The fast codec knows no NaN. Python's own does, and judges everything else as strictly.
            if b"NaN" not in body and b"Infinity" not in body:
                raise
            value = json.loads(body.decode())
            if _ESCAPED_SURROGATE.search(body):
                json.dumps(value, ensure_ascii=False).encode()  # raises where half of a pair stands alone
            return value
    except (msgspec.DecodeError, ValueError, RecursionError) as problem:
        raise InputError(f"the body is not JSON: {problem}") from problem


def decode_object(body: bytes) -> dict[str, Any]:
    """As `decode_json`, of a JSON object.

    Raises:
        InputError: not JSON, or no object.
    """
    value = decode_json(body)
    if not isinstance(value, dict):
        raise InputError(f"expected a JSON object, got {kind_of(value)}", at="$")
    return value


async def json_reply(value: Callable[[], Any], answers: Sequence[Tensors], *, indent: int = 0) -> Response:
    """What `value` makes of `answers`, as JSON; not-a-number and infinities as NaN and Infinity.

    Args:
        indent: spaces a level; 0 for one line.
    """
    size = sum(array.nbytes + _ARRAY for answer in answers for array in answer.values())
    data = await aside(lambda: _encoded(value(), answers, indent), size)
    return Response(data, media_type="application/json")


def _encoded(value: Any, answers: Sequence[Tensors], indent: int) -> bytes:
    if all(np.isfinite(a).all() for answer in answers for a in answer.values() if a.dtype.kind == "f"):
        data = msgspec.json.encode(value)
        return msgspec.json.format(data, indent=indent) if indent else data
    return json.dumps(value, indent=indent or None, ensure_ascii=False).encode()


def kind_of(value: Any) -> str:
    """What a JSON value is, in words."""
    kinds = {dict: "an object", list: "an array", str: "a text", bool: "a boolean", type(None): "null"}
    return kinds.get(type(value), "a number")


# -- the model -----------------------------------------------------------------------------------------------


def repository_of(request: Request) -> Repository:
    """The models that this server has."""
    repository: Repository = request.app.state.repository
    return repository


def find_live(request: Request, name: str, version: str | None = None) -> tuple[LiveModel, bool]:
    """The live model that a name means, and whether its network alone is meant.

    Raises:
        NotFound: no such model or version. Unavailable: it is not loaded.
    """
    return repository_of(request).model(name.removesuffix(NET), version), name.endswith(NET)


def sole_model(request: Request) -> str:
    """The name of the one model that a request without a name means: the only one, or the server's home.

    Raises:
        NotFound: there are several, and none of them is the home.
    """
    names, home = repository_of(request).names(), request.app.state.home
    chosen = names[0] if len(names) == 1 else home
    if chosen not in names:
        raise NotFound(f"this server has {len(names)} models", hint=f"say which: {', '.join(names)}")
    return str(chosen)


def stable_version(request: Request, name: str) -> str:
    """The version that a bare name means when no canary is drawn.

    Raises:
        NotFound: no such model.
    """
    traffic = getattr(request.app.state, "traffic", None)
    planned = traffic.stable(name) if traffic is not None else None
    return str(planned or repository_of(request).entry(name).version)


# -- values to tensors ---------------------------------------------------------------------------------------


def is_picture(manifest: Manifest, net: bool) -> bool:
    """Whether an item is an encoded picture."""
    return not net and manifest.decode.kind == "image"


def row_specs(manifest: Manifest, net: bool) -> tuple[TensorSpec, ...]:
    """The tensors of one row."""
    if net or (manifest.decode.kind == "tensors" and not manifest.steps.pre):
        batched = manifest.graphs.net.signature.inputs
        return tuple(TensorSpec(spec.name, spec.dtype, spec.shape[1:]) for spec in batched)
    return manifest.inputs


def picture_of(value: Any, at: str) -> bytes | Array:
    """One picture: base64 text, `{"b64": text}`, rows of RGB pixels, or one of these under the name `image`.

    Returns:
        The encoded file, or uint8[height, width, 3].

    Raises:
        InputError: none of these.
    """
    if isinstance(value, dict) and set(value) == {"image"}:
        value, at = value["image"], f"{at}.image"
    if isinstance(value, dict) and set(value) == {"b64"}:
        value, at = value["b64"], f"{at}.b64"
    if isinstance(value, str):
        return decode_base64(value, at)
    if isinstance(value, list):
        return array_of_json(value, "uint8", at=at)
    raise InputError(f"expected a picture, got {kind_of(value)}", at=at, hint=_PICTURE_HINT)


def pictures_of(value: Any, at: str) -> list[bytes | Array]:
    """One picture or several, as a column has them; see `picture_of`.

    Raises:
        InputError: something else.
    """
    if isinstance(value, dict) and set(value) == {"image"}:
        value, at = value["image"], f"{at}.image"
    if not isinstance(value, list):
        return [picture_of(value, at)]
    if value and isinstance(value[0], list):
        array = array_of_json(value, "uint8", at=at)
        return list(array) if array.ndim == 4 else [array]
    return [picture_of(each, f"{at}[{number}]") for number, each in enumerate(value)]


def batch_of_rows(rows: Sequence[Any], specs: Sequence[TensorSpec], at: str) -> dict[str, Array]:
    """A batch from rows: each an object of values by name, or for a single input the value itself.

    Raises:
        InputError: a row with other names, or values that are no tensor of the input's datatype.
    """
    names = [spec.name for spec in specs]
    columns: dict[str, list[Any]] = {name: [] for name in names}
    for number, row in enumerate(rows):
        if isinstance(row, dict) and not _is_text(row):
            if row.keys() != columns.keys():
                got = ", ".join(repr(key) for key in row) or "none"
                raise InputError(f"expected values of {', '.join(names)}, got {got}", at=f"{at}[{number}]")
            for name, value in row.items():
                columns[name].append(value)
        elif len(names) == 1:
            columns[names[0]].append(row)
        else:
            raise InputError(
                f"expected an object with {', '.join(names)}, got {kind_of(row)}", at=f"{at}[{number}]"
            )
    return {spec.name: tensor_of(columns[spec.name], spec.dtype, at) for spec in specs}


def batch_of_columns(columns: Any, specs: Sequence[TensorSpec], at: str) -> dict[str, Array]:
    """A batch from whole tensors by name, or for a single input from the tensor itself.

    Raises:
        InputError: an unknown name, or values that are no tensor of the input's datatype.
    """
    known = {spec.name: spec.dtype for spec in specs}
    if not isinstance(columns, dict) or _is_text(columns):
        if len(known) != 1:
            raise InputError(f"expected an object with {', '.join(known)}, got {kind_of(columns)}", at=at)
        columns = {specs[0].name: columns}
    for name in columns:
        if name not in known:
            raise InputError(f"unexpected input {name!r}", at=at, hint=did_you_mean(name, known))
    return {name: tensor_of(value, known[name], f"{at}.{name}") for name, value in columns.items()}


def tensor_of(value: Any, dtype: str, at: str) -> Array:
    """A nested list as a tensor; text may be given as `{"b64": …}`.

    Raises:
        InputError: ragged, of another datatype, or bytes that are not UTF-8.
    """
    return array_of_json(_texts(value, at) if dtype == "string" else value, dtype, at=at)


# -- asked ---------------------------------------------------------------------------------------------------


async def answer_items(
    model: LiveModel, items: Sequence[bytes | Array], *, at: str, options: Options | None = None
) -> list[dict[str, Array]]:
    """Encoded or decoded items answered side by side, in order, without a batch axis.

    Args:
        options: what `LiveModel.check_options` made of the caller's; for all items.

    Raises:
        InputError: none, more than MAX_ITEMS, or one that cannot be used, with its place; nobody waits for
            the others then.
    """
    if not 1 <= len(items) <= MAX_ITEMS:
        raise InputError(f"{len(items)} items; expected 1 to {MAX_ITEMS}", at=at)
    work = [
        asyncio.ensure_future(_placed(_answer(model, item, options), f"{at}[{number}]"))
        for number, item in enumerate(items)
    ]
    try:
        return [answered.tensors for answered in await asyncio.gather(*work)]
    finally:
        for each in work:
            each.cancel()


async def answer_rows(
    model: LiveModel, net: bool, rows: Any, *, at: str, size: int, options: Options | None = None
) -> list[dict[str, Array]]:
    """JSON rows answered, each without a batch axis.

    Args:
        net: the network alone.
        size: bytes of the body that they came in.
        at: where the rows are in the request.
        options: as `answer_items` takes them; the network alone knows none.

    Raises:
        InputError: not a list of rows, or rows that do not fit.
    """
    if not isinstance(rows, list) or not rows:
        raise InputError(f"expected a list of rows, got {kind_of(rows)}" if rows != [] else "no rows", at=at)
    manifest = model.bundle.manifest
    if is_record(manifest, net):
        return await answer_records(model, rows, at=at, options=options)
    if is_picture(manifest, net):
        if len(rows) > MAX_ITEMS:  # before anything is decoded
            raise InputError(f"{len(rows)} items; expected 1 to {MAX_ITEMS}", at=at)
        items = await aside(
            lambda: [picture_of(row, f"{at}[{number}]") for number, row in enumerate(rows)], size
        )
        return await answer_items(model, items, at=at, options=options)
    batch = await aside(lambda: batch_of_rows(rows, row_specs(manifest, net), at), size)
    outputs = await answer_batch(model, net, batch, options)
    return await aside(lambda: rows_of(outputs), size)


async def answer_columns(
    model: LiveModel, net: bool, columns: Any, *, at: str, size: int, options: Options | None = None
) -> dict[str, Array]:
    """JSON columns answered, with a batch axis in front of every output.

    Args:
        size, options: as `answer_rows` takes them.

    Raises:
        InputError: columns that do not fit.
    """
    manifest = model.bundle.manifest
    if is_record(manifest, net):
        return await answer_columnar(model, columns, at=at, options=options)
    if is_picture(manifest, net):
        items = await aside(lambda: pictures_of(columns, at), size)
        return stack(await answer_items(model, items, at=at, options=options))
    batch = await aside(lambda: batch_of_columns(columns, row_specs(manifest, net), at), size)
    return await answer_batch(model, net, batch, options)


async def answer_batch(
    model: LiveModel, net: bool, batch: Tensors, options: Options | None = None
) -> dict[str, Array]:
    """A batch of tensors answered by the network alone or by a bundle that takes tensors.

    Raises:
        InputError: they do not fit.
    """
    return await (model.infer(batch) if net else model.answer_rows(batch, options=options))


# -- answers to values ---------------------------------------------------------------------------------------


def rows_of(outputs: Tensors) -> list[dict[str, Array]]:
    """A batch's outputs, row by row, without the batch axis."""
    count = min(len(array) for array in outputs.values())
    # With the dots a row of a vector is an array too, also where it holds text.
    return [{name: array[row, ...] for name, array in outputs.items()} for row in range(count)]


def value_of(name: str, array: Array) -> Any:
    """An output as nested lists; text as it is, or as `{"b64": …}` where the name ends in `_bytes`."""
    if array.dtype.kind in "OUS" and name.endswith(_BYTES):
        texts = [base64.b64encode(str(item).encode()).decode() for item in array.flat]
        return object_array([{"b64": text} for text in texts], array.shape).tolist()
    return array.tolist()


def values_of(answer: Tensors) -> Any:
    """All outputs by name, or a single output alone."""
    values = {name: value_of(name, array) for name, array in answer.items()}
    return next(iter(values.values())) if len(values) == 1 else values


async def _answer(model: LiveModel, item: bytes | Array, options: Options | None) -> Answered:
    if isinstance(item, bytes):
        return await model.answer(item, options=options)
    return await model.answer_decoded({"image": item}, options=options)


async def _placed(work: Coroutine[Any, Any, Answered], at: str) -> Answered:
    """The answer; an item that cannot be used is refused with its place in the request."""
    try:
        return await work
    except InputError as problem:
        problem.at = at
        raise


def _is_text(value: dict[str, Any]) -> bool:
    return value.keys() == {"b64"}


def _texts(value: Any, at: str, depth: int = 0) -> Any:
    """The same with `{"b64": …}` as text."""
    if depth > _MAX_RANK:
        raise InputError("nested too deep for a tensor", at=at)
    if isinstance(value, list):
        return [_texts(each, at, depth + 1) for each in value]
    if isinstance(value, dict) and _is_text(value):
        try:
            return decode_base64(value["b64"], at).decode()
        except UnicodeDecodeError as problem:
            raise InputError(f"not UTF-8 text: {problem}", at=at) from problem
    if not isinstance(value, str):
        raise InputError(f"expected text, got {kind_of(value)}", at=at)
    return value


_PICTURE_HINT = 'send {"b64": "<base64 of an image file>"}'
