"""The HTTP application: which routes there are, who may use them, and the headers of every reply."""

from __future__ import annotations

import types
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .. import plugins
from ..bundle.store import Bundle
from ..engine.repository import Repository
from ..engine.settings import EngineSettings
from ..errors import ModelportError
from ..monitor.metrics import Metrics
from . import openapi, pages, rollout, v2, watch
from .drawing import Drawing
from .guard.guard import Guard
from .guard.rate import Rate
from .guard.scope import scope_of, scoped
from .guard.shared import SharedBuckets
from .predict import PREDICT, how_to_ask, json_response
from .refusal import refusal
from .replies import CompressReplies
from .settings import ServeSettings
from .timing import TellTiming

# Everything a page needs comes from here; blob: is a picture that the visitor chose or drew.
CONTENT_SECURITY_POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
    "object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def create_app(
    source: Path | Sequence[Bundle] | Repository,
    settings: ServeSettings | None = None,
    *,
    guard: Guard | None = None,
) -> Starlette:
    """An ASGI application that serves models; where it makes the repository, its lifespan loads it.

    Under `modelport serve` the common requests are answered before they come here (`short.py`).

    Args:
        source: a model repository's folder, bundles, or a repository that somebody else opens.
    """
    settings = settings or ServeSettings(engine=EngineSettings(executors=1))
    guard = guard or open_guard(settings)
    if isinstance(source, Repository):
        repository = source
    else:
        repository = Repository(source, settings.engine, metrics=Metrics(), keep=settings.keep)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        if source is repository:
            yield
            return
        await repository.open()
        yield
        await repository.close()

    app = _starlette(routes(settings, guard), lifespan)
    _fill(app, repository, settings)
    return app


def create_admin_app(repository: Repository, settings: ServeSettings, guard: Guard) -> Starlette:
    """The application of the port for administration: what changes the server, and its state."""
    found = [
        *scoped([*v2.OPEN_ROUTES, *openapi.ROUTES, *pages.FILES], "open", guard),
        *scoped(watch.ROUTES, "metrics", guard),
        # Before the pages' own paths, for which `rollout` would be a version.
        *scoped([*v2.ADMIN_ROUTES, *v2.ROUTES, *rollout.ADMIN_ROUTES, *pages.API_ROUTES], "admin", guard),
    ]
    for module in _dialects(settings):
        if module is not v2:
            found += scoped(getattr(module, "ADMIN_ROUTES", ()), "admin", guard)
    app = _starlette(found, None)
    _fill(app, repository, settings)
    return app


def open_guard(settings: ServeSettings) -> Guard:
    """The guard that the settings describe.

    Raises:
        UsageError: the file of keys, or the rate, makes no sense.
    """
    return Guard.open(
        settings.keys,
        open_to_all=settings.open_to_all,
        per_client=Rate.parse(settings.rate_per_client) if settings.rate_per_client else None,
        shared=SharedBuckets(settings.shared_rates) if settings.shared_rates else None,
    )


def routes(settings: ServeSettings, guard: Guard) -> list[BaseRoute]:
    """Every route of the main port, each behind the guard that its kind asks for."""
    origins = settings.cors_origins
    found = [
        *scoped([*v2.OPEN_ROUTES, *pages.ROUTES, *watch.PAGES, *openapi.ROUTES], "open", guard),
        *scoped(watch.ROUTES, "metrics", guard),
        *scoped(pages.API_ROUTES, "infer", guard, origins=origins),
    ]
    for module in _dialects(settings):
        if module is not v2:  # whose health is asked whichever dialects are on
            found += scoped(getattr(module, "OPEN_ROUTES", ()), "open", guard)
            found += scoped(getattr(module, "METRICS_ROUTES", ()), "metrics", guard)
        found += scoped(module.ROUTES, "infer", guard, origins=origins)
    return found


def _dialects(settings: ServeSettings) -> list[types.ModuleType]:
    return [plugins.load("dialects", name) for name in plugins.table("dialects") if name in settings.apis]


def _starlette(found: list[BaseRoute], lifespan: object) -> Starlette:
    for route in found:
        if scope_of(route) is None:
            raise RuntimeError(f"nobody stands before {route}")
    app = Starlette(
        routes=found,
        exception_handlers={
            ModelportError: _refused,
            HTTPException: _http_error,
            ClientDisconnect: _gone,
            Exception: _failed,
        },
        lifespan=lifespan,  # type: ignore[arg-type]
    )
    app.router.redirect_slashes = False
    app.add_middleware(CompressReplies)
    app.add_middleware(TellTiming)
    app.add_middleware(SafeHeaders)
    return app


def _fill(app: Starlette, repository: Repository, settings: ServeSettings) -> None:
    """What endpoints find in `request.app.state`."""
    app.state.repository = repository
    app.state.settings = settings
    app.state.max_body = settings.limits.max_body
    app.state.home = settings.home
    app.state.drawing = Drawing()
    app.state.traffic = None
    app.state.stopping = lambda: False


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
    status, words, headers = refusal(problem, f"{request.method} {request.url.path}")
    return json_response({"error": words}, status, headers)


async def _http_error(request: Request, problem: Exception) -> Response:
    if not isinstance(problem, HTTPException):
        raise problem
    headers = dict(problem.headers or {})
    words = problem.detail
    if problem.status_code == 405:
        headers["Allow"] = _allowed(request)
        if request.url.path.startswith(PREDICT):
            words += f": {how_to_ask(request)}"
    elif problem.status_code == 404 and request.url.path.rstrip("/") == PREDICT.rstrip("/"):
        words += f": which model? POST to {PREDICT}NAME; the page /models has the names"
    return json_response({"error": words}, problem.status_code, headers)


def _allowed(request: Request) -> str:
    """The methods of every route that this path means; Starlette names those of the first."""
    found: set[str] = set()
    for route in request.app.routes:
        if isinstance(route, Route) and route.matches(request.scope)[0] is not Match.NONE:
            found |= route.methods or set()
    return ", ".join(sorted(found))


async def _gone(request: Request, problem: Exception) -> Response:
    """The client hung up while it was sending; nobody reads this reply."""
    return Response(status_code=499)


async def _failed(request: Request, problem: Exception) -> Response:
    """A bug: the client learns nothing of the inside, the log gets the traceback."""
    return json_response({"error": "internal error; the server's log says more"}, 500)
