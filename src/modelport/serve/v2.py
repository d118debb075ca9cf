"""The Open Inference Protocol's HTTP paths over the live models."""

from __future__ import annotations

import math
import time
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from .._version import __version__
from ..bundle.rules import NETWORK_SUFFIX as NET
from ..engine.repository import Entry, Repository
from ..errors import Unavailable
from .body import read_body
from .infer import find, raw_specs, run, specs
from .oip import encode_response, metadata, parse_request, raw_request
from .predict import json_response

HEADER_LENGTH = "Inference-Header-Content-Length"


async def server_metadata(request: Request) -> Response:
    """GET /v2"""
    return json_response({"name": "modelport", "version": __version__, "extensions": EXTENSIONS})


async def live(request: Request) -> Response:
    """GET /v2/health/live"""
    return json_response({"live": True})


async def ready(request: Request) -> Response:
    """GET /v2/health/ready: 200 when every model answers, else 503."""
    yes = _repository(request).ready()
    return json_response({"ready": yes}, 200 if yes else 503)


async def model_list(request: Request) -> Response:
    """GET /v2/models, as KServe has it."""
    names = _repository(request).names()
    return json_response({"models": [full for name in names for full in (name, name + NET)]})


async def index(request: Request) -> Response:
    """POST /v2/repository/index; the body may be empty or say {"ready": true}."""
    body = await read_body(request, request.app.state.max_body)
    only_ready = b'"ready"' in body and b"true" in body
    entries = [
        {
            "name": entry.name + suffix,
            "version": entry.version,
            "state": "READY" if entry.model else "UNAVAILABLE",
            "reason": entry.reason,
        }
        for entry in _repository(request).entries()
        for suffix in ("", NET)
        if entry.model or not only_ready
    ]
    return json_response(entries)


async def model_metadata(request: Request) -> Response:
    """GET /v2/models/{name}[/versions/{version}]"""
    entry, net = _find(request)
    inputs, outputs = specs(entry, net)
    return json_response(
        {
            "name": request.path_params["name"],
            "versions": _repository(request).versions(entry.name),
            "platform": "onnxruntime_onnx" if net else "modelport_bundle",
            "inputs": metadata(inputs),
            "outputs": metadata(outputs),
        }
    )


async def model_ready(request: Request) -> Response:
    """GET /v2/models/{name}[/versions/{version}]/ready"""
    entry, _ = _find(request)
    if entry.model is None:
        raise Unavailable(f"model {entry.name!r} version {entry.version} is not ready: {entry.reason}")
    return json_response({"name": request.path_params["name"], "ready": True})


async def infer(request: Request) -> Response:
    """POST /v2/models/{name}[/versions/{version}]/infer"""
    entry, net = _find(request)
    model = _repository(request).model(entry.name, entry.version)
    body = await read_body(request, request.app.state.max_body)
    header_length = request.headers.get(HEADER_LENGTH)
    if header_length == "0":
        asked = raw_request(body, raw_specs(model, net))
    else:
        asked = parse_request(body, header_length)
    deadline = time.monotonic() + asked.timeout if asked.timeout else math.inf
    outputs = await run(model, asked, net, deadline)
    labels = () if not net else model.bundle.labels()
    data, length = encode_response(
        outputs, asked, model=request.path_params["name"], version=entry.version, labels=labels
    )
    if length is None:
        return Response(data, media_type="application/json")
    return Response(data, 200, {HEADER_LENGTH: str(length)}, media_type="application/octet-stream")


def _find(request: Request) -> tuple[Entry, bool]:
    return find(_repository(request), request.path_params["name"], request.path_params.get("version"))


def _repository(request: Request) -> Repository:
    repository: Repository = request.app.state.repository
    return repository


EXTENSIONS: list[Any] = ["model_repository", "binary_tensor_data", "classification", "parameters"]

_MODEL = "/v2/models/{name}"
_VERSION = "/v2/models/{name}/versions/{version}"
ROUTES = [
    Route("/v2", server_metadata),
    Route("/v2/", server_metadata),
    Route("/v2/health/live", live),
    Route("/v2/health/ready", ready),
    Route("/v2/models", model_list),
    Route("/v2/repository/index", index, methods=["POST"]),
    *(
        Route(path + suffix, endpoint, methods=[method])
        for path in (_MODEL, _VERSION)
        for suffix, endpoint, method in (
            ("", model_metadata, "GET"),
            ("/ready", model_ready, "GET"),
            ("/infer", infer, "POST"),
        )
    ),
]
