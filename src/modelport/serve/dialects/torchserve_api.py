"""What TorchServe says of its own routes: OpenAPI 3.0.1 documents of those that are here. Data only.

(`/openapi.json` describes this server; these documents are what TorchServe's clients ask `OPTIONS /` for.)
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

TITLE = "TorchServe APIs"


class Operation(NamedTuple):
    """One method of one path."""

    id: str
    description: str
    statuses: tuple[int, ...]
    query: Mapping[str, str] = {}
    """Parameter -> its type in JSON Schema."""
    body: str | None = None


_MODEL, _VERSION = "{model_name}", "{model_name}/{model_version}"
_PAGING = {"limit": "integer", "next_page_token": "string"}
_REGISTER = {"url": "string", "model_name": "string", "initial_workers": "integer", "synchronous": "boolean"}
_SCALE = {"min_worker": "integer", "max_worker": "integer", "synchronous": "boolean"}
_ITEM = "The input: a picture, or JSON, as the model takes it."

INFERENCE: dict[tuple[str, str], Operation] = {
    ("/", "options"): Operation("apiDescription", "Get openapi description.", (200,)),
    ("/api-description", "get"): Operation("api-description", "Get openapi description.", (200,)),
    ("/ping", "get"): Operation("ping", "Get TorchServe status.", (200, 500)),
    (f"/predictions/{_MODEL}", "post"): Operation(
        "predictions", "Ask the default version of a model.", (200, 400, 404, 500, 503), body=_ITEM
    ),
    (f"/predictions/{_VERSION}", "post"): Operation(
        "version_predictions", "Ask one version of a model.", (200, 400, 404, 500, 503), body=_ITEM
    ),
}

MANAGEMENT: dict[tuple[str, str], Operation] = {
    ("/", "options"): Operation("apiDescription", "Get openapi description.", (200,)),
    ("/api-description", "get"): Operation("api-description", "Get openapi description.", (200,)),
    ("/models", "get"): Operation("listModels", "List registered models.", (200,), _PAGING),
    ("/models", "post"): Operation(
        "registerModel", "Load a bundle of the repository.", (200, 400, 404, 409, 500), _REGISTER
    ),
    (f"/models/{_MODEL}", "get"): Operation(
        "describeModel", "Describe the default version, or `all`.", (200, 404), {"customized": "boolean"}
    ),
    (f"/models/{_MODEL}", "put"): Operation(
        "setAutoScale", "Load the default version, or with no worker unload it.", (200, 400, 404), _SCALE
    ),
    (f"/models/{_MODEL}", "delete"): Operation(
        "unregisterModel", "Unload the default version, if it is the only one.", (200, 403, 404)
    ),
    (f"/models/{_VERSION}", "get"): Operation(
        "version_describeModel", "Describe one version, or `all`.", (200, 404), {"customized": "boolean"}
    ),
    (f"/models/{_VERSION}", "put"): Operation(
        "version_setAutoScale", "Load a version, or with no worker unload it.", (200, 400, 404), _SCALE
    ),
    (f"/models/{_VERSION}", "delete"): Operation(
        "version_unregisterModel", "Unload a version that is not the default.", (200, 403, 404)
    ),
    (f"/models/{_VERSION}/set-default", "put"): Operation(
        "setDefault", "Let the bare name mean this version.", (200, 404, 503)
    ),
}

_PHRASES = {
    200: "OK",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    409: "Conflict",
    500: "Internal Server Error",
    503: "Service Unavailable",
}
_ERROR = {
    "type": "object",
    "required": ["code", "type", "message"],
    "properties": {
        "code": {"type": "integer", "description": "Error code."},
        "type": {"type": "string", "description": "Error type."},
        "message": {"type": "string", "description": "Error message."},
    },
}


def description(operations: Mapping[tuple[str, str], Operation]) -> dict[str, Any]:
    """The OpenAPI 3.0.1 document of some operations, by path and method."""
    paths: dict[str, dict[str, Any]] = {}
    for (path, method), operation in operations.items():
        paths.setdefault(path, {})[method] = _described(operation, re.findall(r"{(\w+)}", path))
    about = {
        "title": TITLE,
        "description": "TorchServe's API, answered by Modelport.",
        "version": "0.12.0",
    }
    return {"openapi": "3.0.1", "info": about, "paths": paths}


def _described(operation: Operation, names: Sequence[str]) -> dict[str, Any]:
    parameters: list[dict[str, Any]] = [
        {"in": "path", "name": name, "required": True, "schema": {"type": "string"}} for name in names
    ]
    parameters += [
        {"in": "query", "name": name, "required": name == "url", "schema": {"type": kind}}
        for name, kind in operation.query.items()
    ]
    made: dict[str, Any] = {
        "description": operation.description,
        "operationId": operation.id,
        "parameters": parameters,
        "responses": {str(status): _response(status) for status in operation.statuses},
    }
    if operation.body:
        binary = {"schema": {"type": "string", "format": "binary"}}
        made["requestBody"] = {
            "description": operation.body,
            "required": True,
            "content": {"*/*": binary},
        }
    return made


def _response(status: int) -> dict[str, Any]:
    made: dict[str, Any] = {"description": _PHRASES[status]}
    if status >= 400:
        made["content"] = {"application/json": {"schema": _ERROR}}
    return made
