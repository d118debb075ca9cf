"""The HTTP application: routes, the one table from errors to statuses, and the headers of every reply."""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..bundle.store import Bundle
from ..engine.repository import Repository
from ..errors import ModelportError, Unavailable
from . import pages, v2
from .predict import json_response, predict

log = logging.getLogger("modelport.serve")

MAX_BODY = 64 << 20
"""Bytes of one request body, unless told otherwise."""

# Everything a page needs comes from here; blob: is a picture that the visitor chose or drew.
CONTENT_SECURITY_POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
    "object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def create_app(
    bundles: Sequence[Bundle], *, max_rows: int = 32, max_body: int = MAX_BODY, home: str | None = None
) -> Starlette:
    """An ASGI application that serves `bundles`; they are loaded when it starts.

    Args:
        max_rows: the most rows in one batch of a network.
        max_body: the most bytes in one request body.
        home: the model whose page is at /; by default the list of all models is.
    """

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        await app.state.repository.open()
        yield
        await app.state.repository.close()

    app = Starlette(
        routes=[
            Route("/predict/{name}", predict, methods=["POST"]),
            Route("/predict/{name}/{version}", predict, methods=["POST"]),
            *v2.ROUTES,
            *pages.ROUTES,
        ],
        exception_handlers={
            ModelportError: _refused,
            HTTPException: _http_error,
            ClientDisconnect: _gone,
            Exception: _failed,
        },
        lifespan=lifespan,
    )
    app.state.repository = Repository(bundles, max_rows=max_rows)
    app.state.max_body = max_body
    app.state.home = home
    app.add_middleware(SafeHeaders)
    return app


class SafeHeaders:
    """Adds the security headers to every reply."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
                headers["X-Content-Type-Options"] = "nosniff"
                headers["Referrer-Policy"] = "no-referrer"
                # Pages and their scripts change together: ask before an old one is used (ETags answer).
                headers.setdefault("Cache-Control", "no-cache")
            await send(message)

        await self.app(scope, receive, send_with_headers)


async def _refused(request: Request, problem: Exception) -> Response:
    if not isinstance(problem, ModelportError):
        raise problem
    if problem.http_status >= 500:
        log.warning("%s %s: %s", request.method, request.url.path, problem)
    headers = {}
    if isinstance(problem, Unavailable):
        headers["Retry-After"] = str(math.ceil(problem.retry_after))
    # What went wrong on this side may name its places (paths); those stay in the log.
    words = str(problem) if problem.http_status < 500 else problem.message
    return json_response({"error": words}, problem.http_status, headers)


async def _http_error(request: Request, problem: Exception) -> Response:
    if not isinstance(problem, HTTPException):
        raise problem
    return json_response({"error": problem.detail}, problem.status_code, dict(problem.headers or {}))


async def _gone(request: Request, problem: Exception) -> Response:
    """The client hung up while it was sending; nobody reads this reply."""
    return Response(status_code=499)


async def _failed(request: Request, problem: Exception) -> Response:
    """A bug: the client learns nothing of the inside, the log gets the traceback (from Starlette)."""
    return json_response({"error": "internal error; the server's log says more"}, 500)
