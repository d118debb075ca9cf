"""`POST /predict/{name}[/{version}]`: a picture, rows, a text, a form or JSON in, a labelled answer out.

The bundle's options come as query parameters, as a form's fields, or in the JSON's `parameters`. A detector
answers with the picture itself, annotated, where `Accept` prefers one.
"""

from __future__ import annotations

import time
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from ..engine.model import LiveModel
from ..engine.repository import Repository
from ..errors import NotAcceptable
from .accept import preferred
from .body import encoded_item, read_body
from .drawing import KINDS, draws
from .options import of_address
from .predict_rows import answer_body
from .rows import is_record

PREDICT = "/predict/"
JSON = "application/json"
_ANY = (None, "", "*/*", JSON)
"""Callers who mean JSON, of whatever model they ask."""


def how_to_ask(request: Request) -> str:
    """What to do instead, for whoever opens the address of predictions in a browser.

    The same of every name, also of one that is not here: nothing is told to those who may not ask.
    """
    here, path = request.url.replace(query=""), request.url.path
    return (
        f"POST what the model takes (a picture: curl -F file=@cat.jpg {here}), or open its page at "
        f"/models/{path.removeprefix(PREDICT)}"
    )


def json_response(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Any value msgspec can encode, as JSON."""
    return Response(msgspec.json.encode(value), status, headers, media_type=JSON)


async def predict(request: Request) -> Response:
    """Answer one item; the body's form is told by its Content-Type, and by default it is the file itself."""
    repository: Repository = request.app.state.repository
    body = await read_body(request, request.app.state.max_body)
    model = repository.model(request.path_params["name"], request.path_params.get("version"))
    manifest = model.bundle.manifest
    if is_record(manifest):
        return json_response(await answer_body(model, body, request.headers, request.scope["query_string"]))
    kind = reply_kind(model, ", ".join(request.headers.getlist("accept")))
    picture, optional = manifest.decode.kind == "image", bool(manifest.options)
    query = request.scope["query_string"]
    item = await encoded_item(body, request.headers, picture=picture, fields=optional)
    options = of_address(model, query, item.fields)
    answered = await model.answer(item.data, options=options)
    answer = model.readable(answered.tensors)
    headers = {}
    if draws(manifest):
        headers["Vary"] = "Accept"
    if kind != JSON and isinstance(answer, list):
        began = time.perf_counter()
        drawn = await request.app.state.drawing(item.data, manifest.decode, answer, kind)
        headers["Server-Timing"] = f"draw;dur={(time.perf_counter() - began) * 1e3:.3f}"
        return Response(drawn, 200, headers, media_type=kind)
    said = {
        "model": model.name,
        "version": model.version,
        "answer": answer,
        "timing_ms": answered.timing,
    }
    return json_response(said, headers=headers)


def reply_kind(model: LiveModel, accept: str | None) -> str:
    """The media type of a reply; only detectors draw, everything else is JSON unless pictures alone will do.

    Raises:
        NotAcceptable: a detector's caller accepts neither JSON nor a picture, or another's a picture only.
    """
    if accept in _ANY:
        return JSON
    if draws(model.bundle.manifest):
        return preferred(accept, (JSON, *KINDS))
    wanted = {part.partition(";")[0].strip().lower() for part in (accept or "").split(",")} - {""}
    if wanted and wanted <= {"image/*", *KINDS}:
        raise NotAcceptable(
            f"{model.bundle.manifest.name} answers in {JSON}: its answers are nothing that is drawn",
            hint=f"Accept: {JSON}",
        )
    return JSON


ROUTES: list[BaseRoute] = [
    Route("/predict/{name}", predict, methods=["POST"]),
    Route("/predict/{name}/{version}", predict, methods=["POST"]),
]
