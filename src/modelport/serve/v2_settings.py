"""Triton's settings over HTTP, shown and changed by nobody from afar; and its shared memory, refused."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from ..engine.repository import Repository
from . import describe
from .body import decode_json, off_loop, read_body
from .infer import find
from .oip import no_shared_memory
from .predict import json_response

_TRACE = ("/v2/trace/setting", "/v2/models/{name}/trace/setting")
_REGIONS = (
    ("GET", "/status"),
    ("GET", "/region/{region}/status"),
    ("POST", "/region/{region}/register"),
    ("POST", "/region/{region}/unregister"),
    ("POST", "/unregister"),
)


async def trace_setting(request: Request) -> Response:
    """GET, POST /v2[/models/{name}]/trace/setting: off; a POST that wants another is 501."""
    if "name" in request.path_params:
        repository: Repository = request.app.state.repository
        find(repository, request.path_params["name"], None)
    for name, value in (await _settings(request)).items():
        # Triton's null takes back what was set: here nothing is.
        given = value if isinstance(value, list) else [value]
        describe.check_trace(name, [] if value is None else given)
    return json_response(describe.TRACE)


async def logging_setting(request: Request) -> Response:
    """GET, POST /v2/logging: what is logged; a POST that wants another is 501."""
    describe.check_log(await _settings(request))
    return json_response(describe.log_settings())


async def shared_memory(request: Request) -> Response:
    """Everything about regions: 501."""
    raise no_shared_memory("send tensors in the body")


async def _settings(request: Request) -> dict[str, object]:
    if request.method != "POST":
        return {}
    return await off_loop(decode_json, await read_body(request, request.app.state.max_body))


ROUTES: list[BaseRoute] = [
    *(Route(path, trace_setting, methods=["GET", "POST"]) for path in _TRACE),
    Route("/v2/logging", logging_setting, methods=["GET", "POST"]),
    *(
        Route(f"/v2/{kind}sharedmemory{path}", shared_memory, methods=[method])
        for kind in ("system", "cuda")
        for method, path in _REGIONS
    ),
]
