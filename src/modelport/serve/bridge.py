"""From the connection to an ASGI application and back, for everything that is not on the short path."""

from __future__ import annotations

import asyncio
import logging
from typing import Any
from urllib.parse import unquote_to_bytes

from starlette.types import ASGIApp, Message, Scope

from ..engine.caller import caller
from .exchange import REASONS, SAFE, Exchange

log = logging.getLogger("modelport.serve")


class Bridge:
    """Runs `app` for exchanges, one task each."""

    def __init__(self, app: ASGIApp, address: tuple[str, int], scheme: str = "http") -> None:
        self._app = app
        self._address = address
        self._scheme = scheme
        self._tasks: set[asyncio.Task[None]] = set()
        self.taken = 0
        """Requests that came this way."""

    def __call__(self, exchange: Exchange) -> None:
        """Answer the exchange by the application."""
        caller.set(exchange)
        self.taken += 1
        task = asyncio.get_running_loop().create_task(self._run(exchange))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        exchange.gone = task.cancel

    async def _run(self, exchange: Exchange) -> None:
        body = exchange.take_body()
        scope = self._scope(exchange)
        reply = _Reply(exchange, scope)
        sent = False

        async def receive() -> Message:
            nonlocal sent
            if not sent:
                sent = True
                return {"type": "http.request", "body": body, "more_body": False}
            # A caller that hangs up cancels this task; there is nothing else to be told.
            never: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
            return await never

        try:
            await self._app(scope, receive, reply.send)
        except asyncio.CancelledError:
            pass
        except Exception:
            log.exception("%a %a failed", exchange.method, exchange.path[:200])
            reply.fail()
        else:
            reply.finish()

    def _scope(self, exchange: Exchange) -> dict[str, Any]:
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": exchange.method.decode("latin-1"),
            "scheme": self._scheme,
            "path": unquote_to_bytes(exchange.path).decode("utf-8", "replace"),
            "raw_path": exchange.path,
            "query_string": exchange.head.query,
            "root_path": "",
            "headers": list(exchange.headers.items()),
            "client": exchange.client,
            "server": self._address,
            "state": {"exchange": exchange},
        }


class _Reply:
    """The application's messages, as a reply on the wire."""

    def __init__(self, exchange: Exchange, scope: Scope) -> None:
        self._exchange = exchange
        self._scope = scope
        self._status = 0
        self._headers: list[tuple[bytes, bytes]] = []
        self._streaming = self._chunked = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._exchange.parameters = self._scope.get("path_params", {})
            self._headers = [(bytes(name), bytes(value)) for name, value in message.get("headers", ())]
            return
        body, more = message.get("body", b""), message.get("more_body", False)
        if not self._streaming and not more:
            self._whole(body)
            return
        if not self._streaming:
            self._begin()
        if body and self._exchange.method != b"HEAD":
            self._exchange.stream(b"%x\r\n%s\r\n" % (len(body), body) if self._chunked else body)
        if not more:
            self.finish()

    def finish(self) -> None:
        """The application returned."""
        if self._exchange.replied:
            return
        if not self._streaming:
            self.fail()
            return
        if self._chunked and self._exchange.method != b"HEAD":
            self._exchange.stream(b"0\r\n\r\n")
        self._exchange.end_stream()

    def fail(self) -> None:
        """The application raised, or said nothing: a 500, or, within a stream, a cut connection."""
        if self._streaming:
            self._exchange.keep_alive = False
            self._exchange.end_stream()
        elif not self._exchange.replied:
            self._exchange.reply_json(500, {"error": "internal error; the server's log says more"})

    def _lines(self) -> bytes:
        return b"".join(
            b"%s: %s\r\n" % (name, value)
            for name, value in self._headers
            if name.lower()
            not in (b"content-length", b"connection", b"transfer-encoding", b"x-content-type-options")
        )

    def _whole(self, body: bytes) -> None:
        exchange = self._exchange
        if exchange.method == b"HEAD" or self._status == 304:
            sizes = [value for name, value in self._headers if name.lower() == b"content-length"]
            size = int(sizes[0]) if sizes else len(body)
            head = b"HTTP/1.1 %d %s\r\n%s%sContent-Length: %d\r\n%s\r\n"
            end = b"Connection: close\r\n" if exchange.closes else b""
            values = (self._status, REASONS.get(self._status, b""), self._lines(), SAFE, size, end)
            exchange.send([head % values], self._status)
        else:
            exchange.reply(self._status, body, self._lines())

    def _begin(self) -> None:
        self._streaming = True
        lines = self._lines() + SAFE
        sizes = [value for name, value in self._headers if name.lower() == b"content-length"]
        if sizes:
            lines += b"Content-Length: %s\r\n" % sizes[0]
        else:
            self._chunked = True
            lines += b"Transfer-Encoding: chunked\r\n"
        self._exchange.start_stream(self._status, lines)
