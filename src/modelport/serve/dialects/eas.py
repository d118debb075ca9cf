"""Alibaba Cloud PAI-EAS's service API: `/api/predict/NAME[/VERSION]`, as `eas-prediction` and curl ask it.

A protobuf of EAS's TensorFlow, PyTorch or ONNX processor holds tensors for the network alone and is answered
in the same protobuf; any other body is what `/predict` takes and is answered in JSON. GET shows the
network's signature. Tokens and signatures are the guard's affair: a service's token is a key.
"""

from __future__ import annotations

import asyncio
import math
from typing import Any

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ...engine.model import LiveModel
from ...engine.repository import Repository
from ...errors import DeadlineExceeded, InputError, QueueFull, Unavailable
from ...steps.row_files import looks_like_json, parse_json
from ...tensors import Tensors, TensorSpec
from ..body import encoded_item, off_loop, read_body
from ..options import chosen, of_query
from ..predict import json_response
from ..predict_rows import answer_body
from ..rows import is_record
from .eas_tensors import DT_NAMES, SIGNATURE, Asked, encode, parse

QUEUE_FULL = 450
"""EAS's status for a full queue."""
TIMED_OUT = 408
"""EAS's status for a request that was not answered in time."""
SDK_KIND = "application/octet-stream"
"""The Content-Type of whatever EAS's SDK sends."""
_TAGS = (b"\x0a", b"\x12", b"\x1a")  # what these messages start with; no picture and no array file does


async def predict(request: Request) -> Response:
    """POST /api/predict/{name}[/{version}]"""
    repository: Repository = request.app.state.repository
    path = request.path_params
    try:
        body = await read_body(request, request.app.state.max_body)
        model = repository.model(path["name"], path.get("version"))
        asked = await off_loop(parse, body)
        if asked is not None:
            return await _tensors(model, asked)
        if is_record(model.bundle.manifest):
            return await _records(model, request, body)
        return await _item(model, request, body)
    except QueueFull as problem:
        return _refusal(problem, QUEUE_FULL)
    except DeadlineExceeded as problem:
        return _refusal(problem, TIMED_OUT)


async def signature(request: Request) -> Response:
    """GET /api/predict/{name}[/{version}]: what the network takes and gives, as EAS shows it."""
    repository: Repository = request.app.state.repository
    entry = repository.entry(request.path_params["name"], request.path_params.get("version"))
    net = entry.bundle.manifest.graphs.net.signature
    return json_response(
        {
            "signature_name": SIGNATURE,
            "inputs": [_described(spec) for spec in net.inputs],
            "outputs": [_described(spec) for spec in net.outputs],
        }
    )


async def _tensors(model: LiveModel, asked: Asked) -> Response:
    net = model.bundle.manifest.graphs.net.signature
    outputs = await model.infer(_by_name(asked, net.inputs))
    ordered = {spec.name: outputs[spec.name] for spec in net.outputs}
    return Response(await asyncio.to_thread(encode, asked, ordered), media_type="application/octet-stream")


def _by_name(asked: Asked, specs: tuple[TensorSpec, ...]) -> Tensors:
    if not asked.placed:
        return asked.named
    if len(asked.placed) != len(specs):
        names = ", ".join(spec.name for spec in specs)
        raise InputError(
            f"{len(asked.placed)} inputs; the network takes {len(specs)}: {names}", at="$.inputs"
        )
    return {spec.name: array for spec, array in zip(specs, asked.placed, strict=True)}


async def _records(model: LiveModel, request: Request, body: bytes) -> Response:
    """Texts or rows of a table, as `/predict` answers them."""
    headers = request.headers
    # The SDK calls every body so, also JSON: only the bytes tell.
    if headers.get("content-type", SDK_KIND) == SDK_KIND and await off_loop(_is_json, body):
        headers = Headers({"content-type": "application/json"})
    said = await answer_body(model, body, headers, request.scope["query_string"])
    return json_response({name: value for name, value in said.items() if name != "timing_ms"})


def _is_json(body: bytes) -> bool:
    """Whether a body is a JSON object or list; a text may begin as one does."""
    if not looks_like_json(body):
        return False
    try:
        parse_json(body)
    except InputError:
        return False
    return True


async def _item(model: LiveModel, request: Request, body: bytes) -> Response:
    if body.startswith(_TAGS) and not body[:64].lstrip().startswith((b"{", b"[")):
        raise InputError(
            "the body starts like a protobuf and is no request of EAS's TensorFlow, PyTorch or ONNX "
            "processor",
            hint=f"GET {request.url.path} shows what the network takes",
        )
    manifest = model.bundle.manifest
    picture, optional = manifest.decode.kind == "image", bool(manifest.options)
    item = await encoded_item(body, request.headers, picture=picture, fields=optional)
    options = chosen(model, of_query(request.scope["query_string"]), item.fields) if optional else None
    answered = await model.answer(item.data, options=options)
    answer = model.readable(answered.tensors)
    return json_response({"model": model.name, "version": model.version, "answer": answer})


def _refusal(problem: Unavailable, status: int) -> Response:
    return json_response(
        {"error": str(problem)}, status, {"Retry-After": str(math.ceil(problem.retry_after))}
    )


def _described(spec: TensorSpec) -> dict[str, Any]:
    shape = [-1 if isinstance(size, str) else size for size in spec.shape]
    return {"name": spec.name, "shape": shape, "type": DT_NAMES[spec.dtype]}


_PATHS = ("/api/predict/{name}", "/api/predict/{name}/", "/api/predict/{name}/{version}")
ROUTES = [
    Route(path, endpoint, methods=[method])
    for path in _PATHS
    for endpoint, method in ((predict, "POST"), (signature, "GET"))
]
