"""The Open Inference Protocol's HTTP paths over the live models.

A bundle answers under two names: `NAME` is the whole of it, one encoded or decoded item or several in,
the answer out; `NAME.net` is the network alone, a batch of prepared tensors in, raw outputs out.
"""

from __future__ import annotations

import asyncio
import math
import time
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from .._version import __version__
from ..bundle.rules import NETWORK_SUFFIX as NET
from ..engine.model import LiveModel, stack
from ..engine.repository import Entry, Repository
from ..errors import InputError, NotFound, Unavailable
from ..tensors import Array, Tensors, TensorSpec, dtype_name, object_array
from .body import read_body
from .oip import InferRequest, encode_response, metadata, parse_request, raw_request
from .predict import json_response

HEADER_LENGTH = "Inference-Header-Content-Length"
MAX_ITEMS = 256
"""Items in one request to a whole bundle."""


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
    inputs, outputs = _specs(entry, net)
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
        asked = raw_request(body, _raw_specs(model, net))
    else:
        asked = parse_request(body, header_length)
    deadline = time.monotonic() + asked.timeout if asked.timeout else math.inf
    outputs = await _outputs(model, asked, net, deadline)
    labels = () if not net else model.bundle.labels()
    data, length = encode_response(
        outputs, asked, model=request.path_params["name"], version=entry.version, labels=labels
    )
    if length is None:
        return Response(data, media_type="application/json")
    return Response(data, 200, {HEADER_LENGTH: str(length)}, media_type="application/octet-stream")


async def _outputs(model: LiveModel, asked: InferRequest, net: bool, deadline: float) -> dict[str, Array]:
    if net:
        return await model.infer(_as_text(asked.inputs), deadline=deadline)
    if model.bundle.manifest.decode.kind == "tensors":
        return await model.answer_rows(_as_text(asked.inputs), deadline=deadline)
    return await _whole(model, asked.inputs, deadline)


async def _whole(model: LiveModel, inputs: Tensors, deadline: float) -> dict[str, Array]:
    """Pictures: `image` as UINT8[H, W, 3], UINT8[n, H, W, 3], or BYTES[n] of encoded files."""
    if set(inputs) != {"image"}:
        raise InputError(f"expected one input `image`, got {', '.join(inputs) or 'none'}", at="$.inputs")
    image = inputs["image"]
    encoded = dtype_name(image) == "string"
    if encoded:
        image = image.reshape(-1)
    elif dtype_name(image) != "uint8" or image.ndim not in (3, 4) or image.shape[-1] != 3:
        raise InputError(
            f"expected UINT8[H, W, 3], UINT8[n, H, W, 3] or BYTES[n] holding image files, got "
            f"{dtype_name(image)}{list(image.shape)}",
            at="$.inputs.image",
        )
    if not encoded and image.ndim == 3:
        return (await model.answer_decoded({"image": image}, deadline=deadline)).tensors
    if not 1 <= len(image) <= MAX_ITEMS:
        raise InputError(f"{len(image)} items; expected 1 to {MAX_ITEMS}", at="$.inputs.image")
    if encoded:
        work = [model.answer(item, deadline=deadline) for item in image]
    else:
        work = [model.answer_decoded({"image": item}, deadline=deadline) for item in image]
    done = await asyncio.gather(*work)
    return stack([answered.tensors for answered in done])


def _specs(entry: Entry, net: bool) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """What a name takes and gives: a whole picture bundle speaks of one item, everything else of a batch."""
    manifest = entry.bundle.manifest
    if net:
        return manifest.graphs.net.signature.inputs, manifest.graphs.net.signature.outputs
    if manifest.decode.kind == "tensors":
        return manifest.graphs.net.signature.inputs, manifest.outputs
    item = tuple(TensorSpec(spec.name, spec.dtype, spec.shape[1:]) for spec in manifest.outputs)
    return manifest.inputs, item


def _raw_specs(model: LiveModel, net: bool) -> tuple[TensorSpec, ...]:
    if net or model.bundle.manifest.decode.kind == "tensors":
        return model.bundle.manifest.graphs.net.signature.inputs
    return (TensorSpec("image", "string", ("batch",)),)


def _as_text(inputs: Tensors) -> dict[str, Array]:
    """BYTES come off the wire as bytes; the runtime's strings are text."""
    return {name: _decode_strings(array, name) for name, array in inputs.items()}


def _decode_strings(array: Array, name: str) -> Array:
    if array.dtype.kind != "O":
        return array
    try:
        return object_array([item.decode() for item in array.flat], array.shape)
    except UnicodeDecodeError as problem:
        raise InputError(f"not UTF-8 text: {problem}", at=f"$.inputs.{name}") from problem


def _find(request: Request) -> tuple[Entry, bool]:
    """The version that a path means, and whether the network alone is meant."""
    repository, name = _repository(request), request.path_params["name"]
    version = request.path_params.get("version")
    net = name.endswith(NET)
    try:
        return repository.entry(name.removesuffix(NET) if net else name, version), net
    except NotFound as problem:
        # Triton's wording, which its clients' users search for.
        where = f" version {version}" if version else ""
        raise NotFound(
            f"Request for unknown model: {name!r}{where} is not found", hint=problem.hint
        ) from problem


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
