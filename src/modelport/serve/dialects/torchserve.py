"""TorchServe's inference API; its management API is in `torchserve_manage`.

A picture goes in as the body itself, a form's file, or base64 in a form or in JSON; tensors as JSON. A
classification comes back as its handler's `{label: probability}`, everything else as nested lists.
"""

from __future__ import annotations

import math
from typing import Any
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from ...engine.model import LiveModel
from ...errors import InputError
from ...tensors import Tensors
from ..base64_text import decode_base64
from ..body import multipart_item, off_loop, read_body
from ..options import chosen, of_query
from .items import (
    DETECTION,
    answer_items,
    answer_rows,
    decode_json,
    find_live,
    is_picture,
    json_reply,
    repository_of,
    values_of,
)
from .torchserve_api import INFERENCE, description
from .torchserve_manage import ADMIN_ROUTES
from .torchserve_replies import Refused, check_known, indented, torchserve

TOP = 5
"""Labels in an answer, as in TorchServe's image_classifier."""
FIELDS = ("data", "body")
"""Where TorchServe's handlers look for the input, in this order."""


@torchserve
async def ping(request: Request) -> Response:
    """GET /ping: 200 while every model answers, else 500."""
    healthy = repository_of(request).ready()
    return indented({"status": "Healthy" if healthy else "Unhealthy"}, 200 if healthy else 500)


@torchserve
async def predictions(request: Request) -> Response:
    """POST or PUT /predictions/{name}[/{version}]"""
    model, net = _live(request)
    body = await read_body(request, request.app.state.max_body)
    if not body:
        raise InputError("the body is empty", hint="curl URL/predictions/NAME -T picture.jpg")
    answer = await _answer(model, net, body, request)
    return await json_reply(lambda: _row(model, net, answer), [answer], indent=2)


@torchserve
async def explanations(request: Request) -> Response:
    """POST /explanations/{name}[/{version}]: always refused."""
    _live(request)
    raise Refused(
        501,
        "UnsupportedOperationException",
        "explanations are not made here: a bundle holds a network, not the gradients that explaining needs",
        hint="POST /predictions/NAME",
    )


@torchserve
async def api_description(request: Request) -> Response:
    """OPTIONS / and GET /api-description: what TorchServe says of these routes, as OpenAPI 3.0.1."""
    return indented(description(INFERENCE))


def _live(request: Request) -> tuple[LiveModel, bool]:
    name, version = request.path_params["name"], request.path_params.get("version")
    check_known(repository_of(request), name, version)
    return find_live(request, name, version)


async def _answer(model: LiveModel, net: bool, body: bytes, request: Request) -> Tensors:
    """One item's answer, whatever form the body has."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    optional = bool(model.bundle.manifest.options) and not net
    given: list[dict[str, Any]] = [of_query(request.scope["query_string"])] if optional else []
    in_field = False
    if kind == "multipart/form-data":
        form = await multipart_item(body, request.headers, texts=FIELDS)
        body, in_field = form.data, form.is_text
        given.append(form.fields)
    elif kind == "application/x-www-form-urlencoded" and body.startswith(
        tuple(f"{field}=".encode() for field in FIELDS)
    ):
        body, in_field = _form_field(body), True
    if in_field and is_picture(model.bundle.manifest, net):
        body = decode_base64(body.decode(), "$.data")
    # curl's --data-binary says that it is a form, whatever it sends: only the bytes tell.
    options = chosen(model, *given) if optional else None
    declared = kind == "application/json"
    json = declared or body[:64].lstrip()[:1] in (b"{", b"[")
    if is_picture(model.bundle.manifest, net):
        if json:
            row = _unwrapped(await off_loop(decode_json, body))
            return (await answer_rows(model, net, [row], at="$", size=len(body), options=options))[0]
        return (await answer_items(model, [body], at="$", options=options))[0]
    if not json and not net:
        return (await model.answer(body, options=options)).tensors
    try:
        row = _unwrapped(await off_loop(decode_json, body))
    except InputError:
        if declared or net or model.bundle.manifest.decode.kind != "text":
            raise
        # "[Spoilers] A dull film." begins as JSON does.
        return (await model.answer(body, options=options)).tensors
    if isinstance(row, dict) and set(row) == {"inputs"}:
        row = row["inputs"]
    return (await answer_rows(model, net, [row], at="$", size=len(body), options=options))[0]


def _form_field(body: bytes) -> bytes:
    """The `data` of a form in the address's own coding.

    Raises:
        InputError: it is no form, or its field is empty.
    """
    try:
        form = parse_qs(body.decode(), strict_parsing=True, max_num_fields=16)
    except ValueError as problem:
        raise InputError(f"the form is malformed: {problem}") from problem
    for field in FIELDS:
        if field in form:
            return form[field][0].encode()
    raise InputError(f"the form's fields {' and '.join(FIELDS)} are empty")


def _unwrapped(value: Any) -> Any:
    """The input in `{"data": …}`; anything else is the input itself."""
    if isinstance(value, dict) and len(value) == 1:
        return next((value[field] for field in FIELDS if field in value), value)
    return value


def _row(model: LiveModel, net: bool, answer: Tensors) -> Any:
    """What TorchServe's handler would make of an answer."""
    ranked = None if net else model.readable(answer)
    if not isinstance(ranked, list):
        return values_of(answer)
    if model.bundle.manifest.task == DETECTION:
        return [{row["label"]: row["box"], "score": row["score"]} for row in ranked]
    best = sorted(ranked, key=lambda row: math.inf if math.isnan(row["score"]) else -row["score"])
    return {row["label"]: row["score"] for row in best[:TOP]}


_PATHS = ("/predictions/{name}", "/predictions/{name}/{version}")
_EXPLAIN = ("/explanations/{name}", "/explanations/{name}/{version}")
OPEN_ROUTES: list[BaseRoute] = [
    Route("/ping", ping, methods=["GET", "POST"]),
    Route("/", api_description, methods=["OPTIONS"]),
    Route("/api-description", api_description, methods=["GET"]),
]
"""What anybody may ask, with or without a key: health, and what there is to ask."""
ROUTES: list[BaseRoute] = [
    # PUT is what `curl -T` sends.
    *(Route(path, predictions, methods=["POST", "PUT"]) for path in _PATHS),
    *(Route(path, explanations, methods=["POST", "PUT"]) for path in _EXPLAIN),
]

__all__ = ["ADMIN_ROUTES", "OPEN_ROUTES", "ROUTES"]
