"""Routes with a guard before each: what a request may do is decided by the route it reached.

Never by its path: whichever spelling, alias or method leads to an endpoint leads through the guard that
stands before it, and there is no list of path patterns to keep in step with the router.
"""

from __future__ import annotations

import copy
import hashlib
import logging
from collections.abc import Callable, Collection, Iterable

from starlette.datastructures import Headers
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ...bundle.rules import NETWORK_SUFFIX
from ...errors import Forbidden, Unauthorized
from .guard import Guard, Needs
from .origin import SAFE_METHODS
from .ring import Principal

audit = logging.getLogger("modelport.audit")

MODEL_PARAMETERS = ("name", "model", "model_name", "service")
"""What dialects call the model in their paths."""
OF_ALL = frozenset(["/v2/models/stats"])
"""Routes that tell of all models at once, and more than their names."""
MAX_LOGGED = 200


def scoped(
    routes: Iterable[BaseRoute], scope: Needs, guard: Guard, *, origins: Collection[str] = ()
) -> list[BaseRoute]:
    """The same routes, each answering only callers whom `guard` lets do what `scope` names.

    Args:
        origins: whose pages may send more than GETs to them, beside this server's own; never for `admin`.

    Raises:
        TypeError: a kind of route that this cannot put a guard before.
    """
    allowed = () if scope == "admin" else origins
    return [_guarded(route, scope, guard, allowed) for route in routes]


def scope_of(route: BaseRoute) -> Needs | None:
    """What a route asks of its caller; None if nobody put a guard before it."""
    app = getattr(route, "app", None)
    return app.needs if isinstance(app, _Guarded) else None


def model_of(parameters: Iterable[tuple[str, object]]) -> str | None:
    """The model that a route's parameters name: `NAME.net` is the network of NAME."""
    named = dict(parameters)
    for parameter in MODEL_PARAMETERS:
        if isinstance(value := named.get(parameter), str):
            return value.removesuffix(NETWORK_SUFFIX)
    return None


def _guarded(route: BaseRoute, scope: Needs, guard: Guard, origins: Collection[str]) -> BaseRoute:
    # Exactly these: a subclass may reach its endpoint past `app`.
    if not isinstance(route, Route | Mount) or type(route) not in (Route, Mount):
        raise TypeError(f"cannot put a guard before a {type(route).__name__} ({route})")
    own = copy.copy(route)
    own.app = _Guarded(own.app, scope, guard, origins, route.path)
    return own


class _Guarded:
    """An endpoint behind the guard."""

    def __init__(self, app: ASGIApp, needs: Needs, guard: Guard, origins: Collection[str], path: str) -> None:
        self.needs = needs
        self._path = path
        self._app = app
        self._guard = guard
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise Forbidden("only plain requests are answered here")
        headers = Headers(scope=scope)
        if (exchange := scope.get("state", {}).get("exchange")) is not None:
            exchange.routed = self._path
        self._guard.check_site(scope["method"], headers, self._origins)
        principal = self._principal(scope, headers)
        state = scope.setdefault("state", {})
        state["principal"] = principal
        # For what goes on after its first answer: whether this caller still may.
        state["authorize"] = lambda: self._asked(scope, headers)
        if principal.body_md5 is not None:
            receive = _checked(receive, principal.body_md5, self._guard.refused)
        if self.needs == "admin":
            await self._audited(principal, scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _principal(self, scope: Scope, headers: Headers) -> Principal:
        model = model_of(scope.get("path_params", {}).items())
        known = getattr(scope.get("state", {}).get("exchange"), "principal", None)
        if self.needs == "infer" and known is not None and (model is None or known.may_ask(model)):
            # The short way asked already, and then could not answer: one request takes one token.
            principal: Principal = known
        else:
            principal = self._asked(scope, headers)
        if model is None and (scope["method"] not in SAFE_METHODS or self._path in OF_ALL):
            # The endpoint may take the model from the body: nothing here could check that one.
            self._guard.check_unbound(principal)
        return principal

    def _asked(self, scope: Scope, headers: Headers) -> Principal:
        client = scope.get("client")
        return self._guard.authorize(
            headers,
            self.needs,
            model=model_of(scope.get("path_params", {}).items()),
            client=client[0] if client else "",
            method=scope["method"],
            path=_sent_path(scope),
        )

    async def _audited(self, principal: Principal, scope: Scope, receive: Receive, send: Send) -> None:
        status = 500

        async def send_and_see(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_and_see)
        except Exception as problem:
            status = getattr(problem, "http_status", getattr(problem, "status_code", 500))
            raise
        finally:
            record(principal, scope, status)


def record(principal: Principal, scope: Scope, status: int) -> None:
    """One line of the audit log; what the caller chose is quoted, so that it makes no lines of its own."""
    client = scope.get("client")
    fields = {
        "principal": principal.name,
        "client": client[0] if client else "",
        "method": scope["method"],
        "path": scope["path"][:MAX_LOGGED],
        "status": status,
    }
    audit.info(
        "admin_action principal=%(principal)s client=%(client)s method=%(method)s path=%(path)a "
        "status=%(status)d",
        fields,
        extra={"event": "admin_action", **fields},
    )


def _sent_path(scope: Scope) -> str:
    """The path as it was sent, without the query."""
    raw: bytes | None = scope.get("raw_path")
    return raw.partition(b"?")[0].decode("latin-1") if raw else scope["path"]


def _checked(receive: Receive, md5: str, refused: Callable[[str], None]) -> Receive:
    """`receive`, refusing the end of a body that is not the one that was signed; `refused` counts it."""
    so_far = hashlib.md5(usedforsecurity=False)

    async def receive_and_check() -> Message:
        message = await receive()
        if message["type"] == "http.request":
            so_far.update(message.get("body", b""))
            if not message.get("more_body", False) and so_far.hexdigest() != md5:
                refused("unauthorized")
                raise Unauthorized("the body is not the one that was signed")
        return message

    return receive_and_check
