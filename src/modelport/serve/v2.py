"""The Open Inference Protocol's HTTP paths over the live models."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from ..bundle.rules import NETWORK_SUFFIX as NET
from ..engine.entry import Entry
from ..engine.repository import Repository
from ..errors import InputError, Unavailable
from . import describe, v2_settings
from .aside import aside
from .body import decode_json, off_loop, read_body
from .infer import due, find, raw_specs, run
from .infer import live as live_model
from .oip import encode_response, parse_request, raw_request
from .predict import json_response

HEADER_LENGTH = "Inference-Header-Content-Length"


async def server_metadata(request: Request) -> Response:
    """GET /v2"""
    return json_response(describe.server())


async def live(request: Request) -> Response:
    """GET /v2/health/live"""
    return json_response({"live": True})


async def ready(request: Request) -> Response:
    """GET /v2/health/ready: 200 when every model answers, else 503."""
    yes = _repository(request).ready() and not request.app.state.stopping()
    return json_response({"ready": yes}, 200 if yes else 503)


async def model_list(request: Request) -> Response:
    """GET /v2/models, as KServe has it."""
    names = _repository(request).names()
    return json_response({"models": [full for name in names for full in (name, name + NET)]})


async def index(request: Request) -> Response:
    """POST /v2/repository/index; the body may be empty or say {"ready": true}."""
    asked = await _optional(request)
    only_ready = asked.get("ready", False)
    if not isinstance(only_ready, bool):
        raise InputError("ready is true or false", at="$.ready")
    entries = describe.index(_repository(request), only_ready=only_ready)
    if not only_ready:
        entries += describe.broken(_repository(request))
    return json_response(entries)


async def load(request: Request) -> Response:
    """POST /v2/repository/models/{name}/load: from the repository's folder as it is now."""
    asked = await _optional(request)
    version = _version_of(asked, {"version"})
    await _repository(request).load(request.path_params["name"].removesuffix(NET), version)
    return Response()


async def unload(request: Request) -> Response:
    """POST /v2/repository/models/{name}/unload: every version of it."""
    asked = await _optional(request)
    version = _version_of(asked, {"version", "unload_dependents"})
    await _repository(request).unload(request.path_params["name"].removesuffix(NET), version)
    return Response()


async def model_metadata(request: Request) -> Response:
    """GET /v2/models/{name}[/versions/{version}]"""
    entry, net = _find(request)
    return json_response(describe.model(_repository(request), entry, net))


async def model_ready(request: Request) -> Response:
    """GET /v2/models/{name}[/versions/{version}]/ready"""
    entry, _ = _find(request)
    if entry.model is None or not entry.model.healthy:
        why = entry.reason or "no executor answers"
        raise Unavailable(f"model {entry.name!r} version {entry.version} is not ready: {why}")
    return json_response({"name": request.path_params["name"], "ready": True})


async def config(request: Request) -> Response:
    """GET /v2/models/{name}[/versions/{version}]/config"""
    entry, net = _find(request)
    return json_response(describe.config(entry, net, max_rows=_repository(request).settings.max_rows))


async def stats(request: Request) -> Response:
    """GET /v2/models/{name}[/versions/{version}]/stats, and /v2/models/stats for all."""
    asked = request.path_params
    found = await describe.statistics(request.app.state, asked.get("name"), asked.get("version"))
    return json_response({"model_stats": found})


async def infer(request: Request) -> Response:
    """POST /v2/models/{name}[/versions/{version}]/infer"""
    body = await read_body(request, request.app.state.max_body)
    name = request.path_params["name"]
    model, net = live_model(_repository(request), name, request.path_params.get("version"))
    header_length = request.headers.get(HEADER_LENGTH)
    if header_length == "0":
        asked = raw_request(body, raw_specs(model, net))
    else:
        asked = await aside(lambda: parse_request(body, header_length), _read_bytes(body, header_length))
    outputs = await run(model, asked, net, due(asked.timeout))
    labels = () if not net else model.bundle.labels()
    data, length = await aside(
        lambda: encode_response(outputs, asked, model=name, version=model.version, labels=labels),
        sum(array.nbytes for array in outputs.values()),
    )
    if length is None:
        return Response(data, media_type="application/json")
    return Response(data, 200, {HEADER_LENGTH: str(length)}, media_type="application/octet-stream")


def _read_bytes(body: bytes, header_length: str | None) -> int:
    """The bytes of an inference request that are gone through to read it: numbers in binary are not."""
    if header_length is None or len(header_length) > 9 or not header_length.isdecimal():
        return len(body)
    end = int(header_length)
    texts = b"BYTES" in body[:end] or b"\\" in body[:end]  # a name may be written with escapes
    return len(body) if texts else end


def _find(request: Request) -> tuple[Entry, bool]:
    return find(_repository(request), request.path_params["name"], request.path_params.get("version"))


def _repository(request: Request) -> Repository:
    repository: Repository = request.app.state.repository
    return repository


def _version_of(asked: dict[str, Any], known: set[str]) -> str | None:
    """The version that a load or unload names.

    Raises:
        InputError: other parameters. Triton takes a configuration and files here; a model that comes in by
            the API is a way in.
    """
    parameters = asked.get("parameters") or {}
    if not isinstance(parameters, dict) or set(parameters) - known:
        words = ", ".join(sorted(known))
        raise InputError(f"only {words} here", at="$.parameters", hint="put the bundle into the folder")
    version = parameters.get("version")
    if version is not None and not isinstance(version, str):
        raise InputError("version is a string", at="$.parameters.version")
    return version


async def _optional(request: Request) -> dict[str, Any]:
    """The body's JSON object, or an empty one where there is no body."""
    body = await read_body(request, request.app.state.max_body)
    return await off_loop(decode_json, body) if body.strip() else {}


_MODEL = "/v2/models/{name}"
_VERSION = "/v2/models/{name}/versions/{version}"
OPEN_ROUTES: list[BaseRoute] = [Route("/v2/health/live", live), Route("/v2/health/ready", ready)]
"""What probes ask, without a key."""

ADMIN_ROUTES: list[BaseRoute] = [
    Route("/v2/repository/models/{name}/load", load, methods=["POST"]),
    Route("/v2/repository/models/{name}/unload", unload, methods=["POST"]),
]

ROUTES: list[BaseRoute] = [
    Route("/v2", server_metadata),
    Route("/v2/", server_metadata),
    Route("/v2/models", model_list),
    Route("/v2/models/stats", stats),
    Route("/v2/repository/index", index, methods=["POST"]),
    *(
        Route(path + suffix, endpoint, methods=[method])
        for path in (_MODEL, _VERSION)
        for suffix, endpoint, method in (
            ("", model_metadata, "GET"),
            ("/ready", model_ready, "GET"),
            ("/config", config, "GET"),
            ("/stats", stats, "GET"),
            ("/infer", infer, "POST"),
        )
    ),
    *v2_settings.ROUTES,
]
