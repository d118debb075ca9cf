"""Rollouts over HTTP: `/api/models/{name}/rollout`, for those who may administer.

A change is a JSON body with `Content-Type: application/json`, even where nothing has to be said: that is
what a page of another origin cannot send without being asked first. `ETag` and `If-Match` carry the
revision, so that nobody overwrites what they have not seen.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from ..engine.repository import Repository
from ..engine.traffic import Traffic
from ..errors import InputError, UnsupportedMedia
from ..rollout.plan import Canary, Plan, Policy, Shadow
from .body import read_body
from .predict import json_response

MAX_BODY = 64 << 10
"""Bytes of a plan; far more than one has."""


class _Reason(msgspec.Struct, forbid_unknown_fields=True):
    reason: str = ""


class _Wanted(msgspec.Struct, forbid_unknown_fields=True):
    stable: str
    canary: Canary | None = None
    shadow: Shadow | None = None
    policy: Policy | None = None
    reason: str = ""


async def show(request: Request) -> Response:
    """GET: the plan, what was seen at its present step, what the policy last said, and the history."""
    return _report(request)


async def put(request: Request) -> Response:
    """PUT: a whole plan, `{"stable": "1", "canary": {"version": "2", "weight": 0.1}}`."""
    wanted = _decode(await _json(request), _Wanted)
    name = _name(request)
    plan = Plan(
        model=name,
        stable=wanted.stable,
        canary=wanted.canary,
        shadow=wanted.shadow,
        policy=wanted.policy,
    )
    seen = _seen(request)
    _traffic(request).put(name, plan, now=time.time(), reason=wanted.reason, seen=seen)
    return await _changed(request)


async def delete(request: Request) -> Response:
    """DELETE: no plan; the newest version answers."""
    said = _decode(await read_body(request, MAX_BODY) or b"{}", _Reason)
    _traffic(request).clear(_name(request), now=time.time(), reason=said.reason, seen=_seen(request))
    return await _changed(request)


async def promote(request: Request) -> Response:
    """POST: the candidate becomes the stable version."""
    said = _decode(await _json(request) or b"{}", _Reason)
    _traffic(request).promote(_name(request), now=time.time(), reason=said.reason, seen=_seen(request))
    return await _changed(request)


async def rollback(request: Request) -> Response:
    """POST: the candidate goes; where there is none, the last promotion is undone."""
    said = _decode(await _json(request) or b"{}", _Reason)
    _traffic(request).rollback(_name(request), now=time.time(), reason=said.reason, seen=_seen(request))
    return await _changed(request)


async def _changed(request: Request) -> Response:
    """The answer to a change, when the workers beside this one go by it too."""
    follow: Callable[[str], Awaitable[None]] | None = getattr(request.app.state, "follow", None)
    if follow is not None:
        await follow(_name(request))
    return _report(request)


def _report(request: Request) -> Response:
    traffic, name = _traffic(request), _name(request)
    # Another process may have changed it since the last tick: its ETag is what the caller comes back with.
    traffic.look(name)
    report = traffic.report(name)
    repository: Repository | None = getattr(request.app.state, "repository", None)
    if report.plan is None and repository is not None:
        report = msgspec.structs.replace(report, default=repository.default(name))
    return json_response(report, headers={"ETag": f'"{report.revision}"', "Cache-Control": "no-store"})


async def _json(request: Request) -> bytes:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise UnsupportedMedia(
            f"expected Content-Type: application/json, got {kind[:40]!r}",
            hint="curl -H 'Content-Type: application/json' …; the body may be {}",
        )
    return await read_body(request, MAX_BODY)


def _seen(request: Request) -> int | None:
    """The revision in If-Match; None where the caller takes whatever there is."""
    text = request.headers.get("if-match")
    if text is None or text.strip() == "*":
        return None
    # An answer that was compressed has a weak ETag; the revision in it is the same.
    digits = text.strip().removeprefix("W/").strip('"')
    if not (digits.isascii() and digits.isdigit() and len(digits) < 19):
        raise InputError(f"expected the ETag of a rollout in If-Match, got {text[:40]!r}")
    return int(digits)


_Body = TypeVar("_Body", _Reason, _Wanted)


def _decode(body: bytes, kind: type[_Body]) -> _Body:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise InputError(f"the body is no rollout: {problem}", hint=_EXAMPLE) from problem


def _name(request: Request) -> str:
    name: str = request.path_params["name"]
    return name


def _traffic(request: Request) -> Traffic:
    traffic: Traffic = request.app.state.traffic
    return traffic


_EXAMPLE = 'send {"stable": "1", "canary": {"version": "2", "weight": 0.1}}'
_PATH = "/api/models/{name}/rollout"

# Before `/api/models/{name}/{version}`, which would take `rollout` for a version.
ADMIN_ROUTES: list[BaseRoute] = [
    Route(_PATH, show, methods=["GET"]),
    Route(_PATH, put, methods=["PUT"]),
    Route(_PATH, delete, methods=["DELETE"]),
    Route(_PATH + "/promote", promote, methods=["POST"]),
    Route(_PATH + "/rollback", rollback, methods=["POST"]),
]
