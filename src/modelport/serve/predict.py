"""`POST /predict/{name}[/{version}]`: a picture, a form or JSON in, a labelled answer out."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ..engine.model import Answered, LiveModel
from ..engine.repository import Repository
from ..errors import InputError
from .body import decode_base64, decode_json, multipart_file, read_body


def json_response(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Any value msgspec can encode, as JSON."""
    return Response(msgspec.json.encode(value), status, headers, media_type="application/json")


async def predict(request: Request) -> Response:
    """Answer one item; the body's form is told by its Content-Type, and by default it is the file itself."""
    repository: Repository = request.app.state.repository
    model = repository.model(request.path_params["name"], request.path_params.get("version"))
    body = await read_body(request, request.app.state.max_body)
    answered = await _answer(model, request, body)
    return json_response(
        {
            "model": model.name,
            "version": model.version,
            "answer": model.pipeline.readable(answered.tensors),
            "timing_ms": answered.timing,
        }
    )


async def _answer(model: LiveModel, request: Request, body: bytes) -> Answered:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return await model.answer(await multipart_file(body, request.headers))
    if not body:
        raise InputError("the body is empty", hint="send a picture: curl --data-binary @picture.png …")
    if kind != "application/json" or model.bundle.manifest.decode.kind == "tensors":
        return await model.answer(body)
    return await model.answer(_encoded_image(decode_json(body)))


def _encoded_image(data: dict[str, Any]) -> bytes:
    if "image" not in data:
        raise InputError('expected {"image": "<base64 of an image file>"}', at="$")
    return decode_base64(data["image"], "$.image")
