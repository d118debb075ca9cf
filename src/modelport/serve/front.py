"""What stands before every answer: the name we are called by, the caller's deadline, and the two ways on."""

from __future__ import annotations

import time
from typing import Any

from starlette.types import ASGIApp

from ..engine.caller import Headers
from ..engine.repository import Repository
from ..engine.told import Told
from ..errors import Forbidden, ModelportError
from .bridge import Bridge
from .exchange import Exchange
from .guard.guard import Guard, Needs
from .guard.origin import allowed_host, cors_headers, preflight
from .logs import MAX_PATH, AccessLog, clean, is_probe
from .refusal import refusal
from .settings import ServeSettings
from .short import ShortPath, deadline_of, route_of, shortly
from .short_replies import refuse
from .trace import Tracer

_METHODS = frozenset([b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"TRACE"])


class Front:
    """Answers exchanges: `short` where that can, `app` everything else."""

    def __init__(
        self,
        app: ASGIApp,
        address: tuple[str, int],
        settings: ServeSettings,
        *,
        repository: Repository | None = None,
        guard: Guard,
    ) -> None:
        self.bridge = Bridge(app, address, "https" if settings.tls_cert else "http")
        self._guard = guard
        self._needs: Needs = "infer" if repository else "admin"
        self._bound = address[0]
        self._names = settings.allow_hosts
        self._origins = settings.cors_origins
        self._hosts: set[bytes] = set()
        self.short = (
            ShortPath(repository, guard, settings.cors_origins, settings.apis) if repository else None
        )

    def __call__(self, exchange: Exchange) -> None:
        """Answer one request, now or later."""
        if exchange.head.route is not None:
            if not shortly(exchange, exchange.head.route):
                self.bridge(exchange)
            return
        headers = exchange.headers
        try:
            host = headers.get(b"host", b"")
            if host not in self._hosts:
                self._check_host(host)
            if exchange.method not in _METHODS:
                exchange.reply_json(405, {"error": "Method Not Allowed"})
                return
            if b"x-request-timeout-ms" in headers:
                exchange.deadline = deadline_of(exchange)
            if self._origins and b"origin" in headers:
                if self._cross_origin(exchange):
                    return
            elif exchange.method == b"POST" and self.short is not None and self.short(exchange):
                return
        except ModelportError as problem:
            refuse(exchange, problem)
            return
        self.bridge(exchange)

    def admits(self, exchange: Exchange) -> tuple[int, str, bytes] | None:
        """Why a large body is not even read: its caller shows no key where one is needed; None if it is read.

        Returns:
            Status, words, and lines of header.
        """
        try:
            method, path = exchange.method.decode("latin-1"), exchange.path.decode("latin-1")
            self._guard.check_known(exchange, self._needs, method=method, path=path)
        except ModelportError as problem:
            status, words, headers = refusal(problem, f"{method} {path}")
            shared = cors_headers(exchange.get("origin"), self._origins)
            return status, words, _lines([*headers.items(), *shared])
        return None

    def _check_host(self, host: bytes) -> None:
        """Raises Forbidden for a name that is not this server's; one that is, is remembered."""
        if not allowed_host(host.decode("latin-1") or None, self._bound, self._names):
            self._guard.refused("host")
            raise Forbidden("this server is not called that", hint="serve with --allow-host NAME")
        if len(self._hosts) < 64:
            self._hosts.add(host)

    def _cross_origin(self, exchange: Exchange) -> bool:
        """Add what lets the page of an allowed origin read the reply; true if that was all it asked."""
        if exchange.method == b"OPTIONS" and b"access-control-request-method" in exchange.headers:
            found = preflight(exchange, self._origins)
            exchange.reply(204, b"", _lines(found))
            return True
        exchange.extra += _lines(cors_headers(exchange.get("origin"), self._origins))
        return False


class Finished:
    """Writes requests that were answered into the access log and the traces; good probes into these alone."""

    def __init__(self, access: AccessLog | None, tracer: Tracer | None) -> None:
        self._access = access
        self._tracer = tracer

    def __call__(self, exchange: Exchange) -> None:
        """Called after the reply was written."""
        seconds = exchange.server.clock() - exchange.began
        method, path = exchange.method.decode("latin-1"), exchange.path.decode("latin-1")
        route = exchange.routed or (route_of(exchange.path) if self._tracer is not None else "")
        self.record(exchange, method, path, route, exchange.status, seconds, exchange.told, exchange.address)

    def record(
        self,
        headers: Headers,
        method: str,
        path: str,
        route: str,
        status: int,
        seconds: float,
        told: Told | None,
        client: str,
    ) -> None:
        """Write down one request, whichever way it came; `route` is what its path is one of, if anything."""
        model, version, batch = (told.model, told.version, told.batch) if told else ("", "", 0)
        trace = ""
        if self._tracer is not None:
            attributes: dict[str, Any] = {"url.path": clean(path, MAX_PATH), "client.address": client}
            if told:
                attributes |= {"modelport.model.name": model, "modelport.model.version": version}
                attributes["modelport.batch.rows"] = batch
            known = method if method.encode() in _METHODS else "_OTHER"
            trace = self._tracer.request(
                headers,
                f"{known} {route}" if route else known,
                time.time_ns() - round(seconds * 1e9),
                told.stages if told else {},
                status,
                seconds=seconds,
                attributes=attributes,
            )
        if self._access is not None and not (status < 400 and is_probe(path)):
            self._access.write(
                method,
                path,
                status,
                seconds,
                model=model,
                version=version,
                batch=batch,
                request_id=headers.get("x-request-id") or "",
                trace_id=trace,
                client=client,
            )


def _lines(headers: list[tuple[str, str]]) -> bytes:
    return b"".join(b"%s: %s\r\n" % (name.encode(), value.encode()) for name, value in headers)
