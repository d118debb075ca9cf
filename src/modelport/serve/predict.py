"""`POST /predict/{name}[/{version}]`: a picture, a form or JSON in, a labelled answer out."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from ..engine.repository import Repository
from .body import encoded_item, read_body


def json_response(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Any value msgspec can encode, as JSON."""
    return Response(msgspec.json.encode(value), status, headers, media_type="application/json")


async def predict(request: Request) -> Response:
    """Answer one item; the body's form is told by its Content-Type, and by default it is the file itself."""
    repository: Repository = request.app.state.repository
    body = await read_body(request, request.app.state.max_body)
    model = repository.model(request.path_params["name"], request.path_params.get("version"))
    picture = model.bundle.manifest.decode.kind == "image"
    answered = await model.answer(await encoded_item(body, request.headers, picture=picture))
    return json_response(
        {
            "model": model.name,
            "version": model.version,
            "answer": model.readable(answered.tensors),
            "timing_ms": answered.timing,
        },
        headers={"Server-Timing": server_timing(answered.timing)},
    )


def server_timing(timing: Any) -> str:
    """A `Timing` as the header of that name."""
    return (
        f"decode;dur={timing.decode:.3f}, pre;dur={timing.pre:.3f}, queue;dur={timing.queue:.3f}, "
        f"net;dur={timing.net:.3f}, post;dur={timing.post:.3f}"
    )


ROUTES: list[BaseRoute] = [
    Route("/predict/{name}", predict, methods=["POST"]),
    Route("/predict/{name}/{version}", predict, methods=["POST"]),
]
