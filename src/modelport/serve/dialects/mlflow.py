"""MLflow's scoring protocol: tables, rows or columns to `/invocations`, one prediction a row.

A server with one model (or a home) answers `/invocations`; of several, `/invocations/NAME` says which.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from ..._version import __version__
from ...engine.model import LiveModel
from ...engine.wire import Options
from ...errors import InputError, ModelportError, UnsupportedMedia
from ...tensors import Array, Tensors
from ..aside import aside
from ..body import off_loop, read_body
from ..options import chosen, of_query
from ..predict import json_response
from ..refusal import refusal
from ..rows import answer_records, is_record
from .items import (
    Endpoint,
    answer_columns,
    answer_items,
    answer_rows,
    decode_object,
    find_live,
    is_picture,
    json_reply,
    kind_of,
    pictures_of,
    repository_of,
    row_specs,
    rows_of,
    sole_model,
    values_of,
)
from .mlflow_tables import Table, of_csv, of_records, of_split, records_of_table, rows_of_table

FORMATS = ("dataframe_split", "dataframe_records", "instances", "inputs")
CODES = {
    400: "BAD_REQUEST",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "RESOURCE_DOES_NOT_EXIST",
    413: "BAD_REQUEST",
    415: "BAD_REQUEST",
    429: "RESOURCE_EXHAUSTED",
    501: "NOT_IMPLEMENTED",
    503: "TEMPORARILY_UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
"""Status -> MLflow's name for it; everything else is an INTERNAL_ERROR."""


def mlflow(endpoint: Endpoint) -> Endpoint:
    """The endpoint, whose errors are MLflow's."""

    @functools.wraps(endpoint)
    async def dressed(request: Request) -> Response:
        try:
            return await endpoint(request)
        except ModelportError as problem:
            status, words, headers = refusal(problem, f"{request.method} {request.url.path}")
            body = {"error_code": CODES.get(status, "INTERNAL_ERROR"), "message": words}
            return json_response(body, status, headers)

    return dressed


async def ping(request: Request) -> Response:
    """GET /ping and /health: 200 while every model answers, else 503."""
    return Response("\n", 200 if repository_of(request).ready() else 503, media_type="text/plain")


async def version(request: Request) -> Response:
    """GET /version: this server's version."""
    return Response(__version__, media_type="text/plain")


@mlflow
async def invocations(request: Request) -> Response:
    """POST /invocations[/{name}[/{version}]]: JSON or CSV to predictions."""
    name = request.path_params.get("name") or sole_model(request)
    model, net = find_live(request, name, request.path_params.get("version"))
    kind = _media_type(request)
    body = await read_body(request, request.app.state.max_body)
    query = of_query(request.scope["query_string"]) if model.bundle.manifest.options else {}
    size = len(body)
    if kind == "text/csv":
        top_k: int | None = None
        options = None if net else chosen(model, query)
        answers = await _table(model, net, lambda: of_csv(body), "$", size, options)
    else:
        asked = await off_loop(decode_object, body)
        params = _params(asked.get("params"), model, net)
        top_k = _top_k(params.pop("top_k", None))
        options = None if net else chosen(model, query, params)
        answers = await _asked(model, net, asked, size, options)
    return await json_reply(
        lambda: {"predictions": [_prediction(model, net, answer, top_k) for answer in answers]}, answers
    )


def _media_type(request: Request) -> str:
    """The body's type, of those that MLflow knows.

    Raises:
        UnsupportedMedia: another, or another character set.
    """
    kind, *parameters = request.headers.get("content-type", "application/json").split(";")
    kind = kind.strip().lower()
    for parameter in parameters:
        name, _, value = parameter.strip().partition("=")
        if name.lower() != "charset" or value.strip('"').lower() not in ("utf-8", "utf8"):
            raise UnsupportedMedia(f"expected UTF-8 and no other parameter, got {parameter.strip()[:80]!r}")
    if kind == "application/vnd.apache.parquet":
        raise UnsupportedMedia(
            "Parquet is not read here", hint='send JSON: {"dataframe_split": df.to_dict(orient="split")}'
        )
    if kind not in ("application/json", "text/csv"):
        raise UnsupportedMedia(f"expected application/json or text/csv, got {kind[:80]!r}")
    return kind


async def _asked(
    model: LiveModel, net: bool, asked: dict[str, Any], size: int, options: Options | None
) -> list[dict[str, Array]]:
    given = [form for form in FORMATS if form in asked]
    unknown = [key for key in asked if key not in (*FORMATS, "params")]
    if len(given) != 1 or unknown:
        got = ", ".join(map(repr, asked)) or "none"
        raise InputError(f"expected exactly one of {', '.join(FORMATS)}, and maybe params; got {got}", at="$")
    (form,) = given
    value, at = asked[form], f"$.{form}"
    if form == "dataframe_split":
        return await _table(model, net, lambda: of_split(value, at), at, size, options)
    if form == "dataframe_records":
        return await _table(model, net, lambda: of_records(value, at), at, size, options)
    if form == "instances":
        return await answer_rows(model, net, value, at=at, size=size, options=options)
    if is_picture(model.bundle.manifest, net):
        items = await aside(lambda: pictures_of(value, at), size)
        return await answer_items(model, items, at=at, options=options)
    outputs = await answer_columns(model, net, value, at=at, size=size, options=options)
    return await aside(lambda: rows_of(outputs), size)


async def _table(
    model: LiveModel, net: bool, read: Callable[[], Table], at: str, size: int, options: Options | None
) -> list[dict[str, Array]]:
    """The answers to the rows of a table, which `read` makes of a body of `size` bytes."""
    manifest = model.bundle.manifest
    table = await aside(read, size)
    if is_record(manifest, net):
        if not table.rows:
            raise InputError("no rows", at=at)
        records = await aside(lambda: records_of_table(table, manifest), size)
        return await answer_records(model, records, at=at, text=table.text, options=options)
    picture = is_picture(manifest, net)
    specs = row_specs(manifest, net)
    rows = await aside(lambda: rows_of_table(table, specs, picture=picture, at=at), size)
    return await answer_rows(model, net, rows, at=at, size=size, options=options)


def _params(params: Any, model: LiveModel, net: bool) -> dict[str, Any]:
    """The parameters by name: `top_k` and the bundle's options.

    Raises:
        InputError: no object, or an unknown name.
    """
    if params is None:
        return {}
    if not isinstance(params, dict):
        raise InputError(f"expected an object, got {kind_of(params)}", at="$.params")
    known = ["top_k", *([] if net else [option.name for option in model.bundle.manifest.options])]
    for name in params:
        if name not in known:
            hint = f"known: {', '.join(known)}"
            raise InputError(f"unknown parameter {name[:64]!r}", at="$.params", hint=hint)
    return dict(params)


def _top_k(top: Any) -> int | None:
    """How many labels a prediction has.

    Raises:
        InputError: no positive number.
    """
    if top is not None and (type(top) is not int or top < 1):
        raise InputError(f"expected a number of 1 or more, got {str(top)[:40]}", at="$.params.top_k")
    return top


def _prediction(model: LiveModel, net: bool, answer: Tensors, top_k: int | None) -> Any:
    """One row's prediction: labels with their scores, best first, or the outputs as nested lists."""
    ranked = None if net else model.readable(answer)
    if isinstance(ranked, list):
        return ranked[:top_k]
    if top_k is not None:
        raise InputError("top_k is for classifications, which this model's answer is none", at="$.params")
    return values_of(answer)


OPEN_ROUTES: list[BaseRoute] = [
    Route("/ping", ping, methods=["GET"]),
    Route("/health", ping, methods=["GET"]),
    Route("/version", version, methods=["GET"]),
]
"""What anybody may ask, with or without a key."""
ROUTES: list[BaseRoute] = [
    Route(path, invocations, methods=["POST"])
    for path in ("/invocations", "/invocations/{name}", "/invocations/{name}/{version}")
]
