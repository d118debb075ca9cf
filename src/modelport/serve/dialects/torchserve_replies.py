"""How TorchServe replies: indented JSON, a request id, and errors by the names of its exceptions."""

from __future__ import annotations

import functools
import uuid
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from ...bundle.rules import NETWORK_SUFFIX as NET
from ...engine.repository import Repository
from ...errors import ModelportError
from ..refusal import MAX_WORDS, refusal
from .items import Endpoint

TYPES = {
    400: "BadRequestException",
    401: "InvalidKeyException",
    404: "ResourceNotFoundException",
    408: "RequestTimeoutException",
    409: "ConflictStatusException",
    413: "BadRequestException",
    415: "BadRequestException",
    501: "UnsupportedOperationException",
    503: "ServiceUnavailableException",
    504: "RequestTimeoutException",
}
"""Status -> the class of TorchServe's that says it; everything else is an InternalServerException."""

_HEADERS = {
    "Pragma": "no-cache",
    "Cache-Control": "no-cache; no-store, must-revalidate, private",
    "Expires": "Thu, 01 Jan 1970 00:00:00 UTC",
}


class Refused(ModelportError):
    """What TorchServe would answer with an exception of its own."""

    def __init__(self, status: int, kind: str, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.http_status = status
        self.kind = kind


def torchserve(endpoint: Endpoint) -> Endpoint:
    """The endpoint, whose replies and errors look like TorchServe's."""

    @functools.wraps(endpoint)
    async def dressed(request: Request) -> Response:
        try:
            reply = await endpoint(request)
        except ModelportError as problem:
            reply = _error(problem, f"{request.method} {request.url.path}")
        reply.headers.update(_HEADERS)
        reply.headers["x-request-id"] = str(uuid.uuid4())
        return reply

    return dressed


def indented(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A value as TorchServe writes JSON."""
    data = msgspec.json.format(msgspec.json.encode(value), indent=2)
    return Response(data, status, headers, media_type="application/json")


def check_known(repository: Repository, name: str, version: str | None) -> None:
    """Refuse what the repository does not have, in TorchServe's words.

    Raises:
        Refused: an unknown model or version.
    """
    model = name.removesuffix(NET)
    if model not in repository:
        known = ", ".join(repository.names()) or "none"
        raise Refused(404, "ModelNotFoundException", f"Model not found: {name}", hint=f"known: {known}")
    if version is not None and version not in repository.versions(model):
        raise no_version(name, version)


def no_version(name: str, version: str) -> Refused:
    """A version that there is not."""
    return Refused(
        404,
        "ModelVersionNotFoundException",
        f"Model version: {version} does not exist for model: {name}",
    )


def _error(problem: ModelportError, asked: str) -> Response:
    if isinstance(problem, Refused):
        # No fault of this server's, so no line in its log, which callers could then fill.
        words = str(problem)[:MAX_WORDS]
        return indented(
            {"code": problem.http_status, "type": problem.kind, "message": words}, problem.http_status
        )
    status, words, headers = refusal(problem, asked)
    kind = TYPES.get(status, "InternalServerException")
    return indented({"code": status, "type": kind, "message": words}, status, headers)
