"""Tracking sessions: `GET /track/NAME` as a WebSocket, or `POST /track/NAME` and a picture at a time.

Over HTTP a session is a resource that takes one picture a request: every request is bounded, any client can
send it, and there is no body without an end for a proxy to collect. The WebSocket is for video.
"""

from __future__ import annotations

import asyncio
import math
import random
import secrets
import time

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from ..engine.caller import Caller
from ..engine.repository import Repository
from ..errors import NotFound, Unavailable
from ..track.association import load
from .body import read_body
from .exchange import Exchange
from .guard.ring import Principal
from .options import of_query
from .predict import json_response
from .track_session import TrackSession, Wishes
from .track_talk import WAITING, Talk, decoded, time_of
from .websocket import open_websocket

IDLE_SECONDS = 60.0
"""Without a picture, after which a session is over."""
MAX_MESSAGE = 16 << 20
"""Bytes of a picture that comes over a WebSocket."""
MAX_SESSIONS = 256
"""Of one process, at once."""
_MAX_WISHES = 64 << 10


class Held:
    """A session over HTTP, kept between requests."""

    def __init__(self, session: TrackSession, owner: str, now: float) -> None:
        self.session = session
        self.owner = owner
        self.last = now
        self.turn = asyncio.Lock()
        self.waiting = 0


class Sessions:
    """Every session of this process."""

    def __init__(self) -> None:
        self.tag = secrets.token_hex(3)
        """Tells this process's sessions from those of its siblings on the same port."""
        self.open = 0
        """WebSockets."""
        self._held: dict[str, Held] = {}

    def room(self) -> None:
        """Raises Unavailable where there are as many sessions as there may be."""
        now = time.monotonic()
        for name in [name for name, held in self._held.items() if now - held.last > IDLE_SECONDS]:
            del self._held[name]
        if self.open + len(self._held) >= MAX_SESSIONS:
            raise Unavailable(f"{MAX_SESSIONS} tracking sessions are open", retry_after=5)

    def keep(self, session: TrackSession, owner: str) -> str:
        """Keep a session; its name, which nobody can guess."""
        name = f"{self.tag}-{secrets.token_urlsafe(16)}"
        self._held[name] = Held(session, owner, time.monotonic())
        return name

    def find(self, name: str, model: str, owner: str) -> Held:
        """A session of this caller's.

        Raises:
            NotFound: there is none, or another process has it.
        """
        held = self._held.get(name)
        if held is not None and held.owner == owner and held.session.name == model:
            if held.waiting or time.monotonic() - held.last <= IDLE_SECONDS:
                held.last = time.monotonic()
                return held
            del self._held[name]
        elsewhere = held is None and not name.startswith(f"{self.tag}-") and "-" in name
        raise NotFound(
            "no such tracking session"
            + (" in this process" if elsewhere else f": over, or idle for {IDLE_SECONDS:g} s"),
            hint="with --workers keep one connection open, or take the WebSocket" if elsewhere else None,
        )

    def drop(self, name: str) -> None:
        """A session is over."""
        self._held.pop(name, None)


def _sessions(request: Request) -> Sessions:
    found = getattr(request.app.state, "track_sessions", None)
    if found is None:
        found = request.app.state.track_sessions = Sessions()
    return found


def _started(request: Request) -> TrackSession:
    repository: Repository = request.app.state.repository
    exchange: Exchange | None = request.scope.get("state", {}).get("exchange")
    # A session that no key of the plan keeps with one version keeps to it by its place.
    asking = Caller(exchange, exchange.address, place=random.random()) if exchange is not None else None
    name, version = request.path_params["name"], request.query_params.get("version")
    principal: Principal | None = request.scope.get("state", {}).get("principal")

    def may_ask(model: str) -> bool:
        may = principal is None or principal.may_ask(model)
        if not may and exchange is not None:
            exchange.server.refused("unauthorized")
        return may

    return TrackSession(repository, name, version, asking=asking, clock=time.monotonic, may_ask=may_ask)


def _tell(request: Request, session: TrackSession) -> None:
    """Say of this request how its picture was answered; a session asks as who began it."""
    exchange: Exchange | None = request.scope.get("state", {}).get("exchange")
    if exchange is not None:
        exchange.told, exchange.counted = session.told, session.counted


def _deadline(request: Request) -> float:
    exchange: Exchange | None = request.scope.get("state", {}).get("exchange")
    return exchange.deadline if exchange is not None else math.inf


def _owner(request: Request) -> str:
    principal = request.scope.get("state", {}).get("principal")
    return principal.name if principal is not None else ""


# -- one picture a request -----------------------------------------------------------------------------------


async def start(request: Request) -> Response:
    """Begin a session; the body is JSON with wishes, or empty."""
    sessions = _sessions(request)
    body = await read_body(request, _MAX_WISHES)
    await asyncio.to_thread(load, "bytetrack")
    sessions.room()
    session = _started(request)
    if body:
        session.wish(decoded(body, Wishes))
    name = sessions.keep(session, _owner(request))
    where = f"/track/{request.path_params['name']}/sessions/{name}"
    said = {"session": name, "url": where, "model": session.name, "version": session.model_version}
    return json_response(said, 201, {"Location": where})


async def frame(request: Request) -> Response:
    """The next picture of a session; `?seconds=` is its time. Answered in the order they come."""
    held = _sessions(request).find(
        request.path_params["session"], request.path_params["name"], _owner(request)
    )
    picture = await read_body(request, request.app.state.max_body)
    number, seconds = held.session.arrived()
    given = of_query(request.scope["query_string"]).get("seconds")
    if given is not None:
        seconds = time_of(given)
    if held.waiting >= WAITING:
        held.session.dropped += 1
        raise Unavailable(f"{WAITING} pictures of this session wait already")
    held.waiting += 1
    try:
        async with held.turn:
            try:
                answer = await held.session.answer(picture, number, seconds, deadline=_deadline(request))
            finally:
                _tell(request, held.session)
    finally:
        held.waiting -= 1
        held.last = time.monotonic()
    return json_response(answer)


async def look(request: Request) -> Response:
    """What a session has seen so far."""
    held = _sessions(request).find(
        request.path_params["session"], request.path_params["name"], _owner(request)
    )
    async with held.turn:
        return json_response(held.session.summary())


async def finish(request: Request) -> Response:
    """End a session; what it has seen."""
    sessions, name = _sessions(request), request.path_params["session"]
    held = sessions.find(name, request.path_params["name"], _owner(request))
    async with held.turn:
        sessions.drop(name)
        return json_response(held.session.end())


# -- a WebSocket ---------------------------------------------------------------------------------------------


async def socket(request: Request) -> Response:
    """Open a WebSocket: pictures as binary messages, wishes as text, an answer for each picture."""
    sessions = _sessions(request)
    state = request.scope.get("state", {})
    exchange: Exchange | None = state.get("exchange")
    if "websocket" not in request.headers.get("upgrade", "").lower():
        words = "expected a WebSocket here; POST begins a session of one picture a request"
        return json_response({"error": words}, 426, {"Upgrade": "websocket"})
    await asyncio.to_thread(load, "bytetrack")
    sessions.room()
    session = _started(request)
    settings = request.app.state.settings
    decode = session.model().bundle.manifest.decode
    opened = open_websocket(
        exchange,
        origins=settings.cors_origins,
        max_message=min(MAX_MESSAGE, decode.max_bytes, settings.limits.max_body),
        idle_seconds=IDLE_SECONDS,
    )
    sessions.open += 1
    try:
        await Talk(opened, session, state.get("authorize")).run()
    finally:
        sessions.open -= 1
    return Response(status_code=200)  # for nobody: the connection is no HTTP any more


ROUTES: list[BaseRoute] = [
    Route("/track/{name}", socket, methods=["GET"]),
    Route("/track/{name}", start, methods=["POST"]),
    Route("/track/{name}/sessions/{session}", frame, methods=["POST"]),
    Route("/track/{name}/sessions/{session}", look, methods=["GET"]),
    Route("/track/{name}/sessions/{session}", finish, methods=["DELETE"]),
]
