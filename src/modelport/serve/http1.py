"""HTTP/1.1 on a socket: requests out of bytes, replies into bytes, and every limit that keeps it well.

The parsing is llhttp's (through httptools), which refuses what could be read in two ways. Large bodies
with a known length are received straight into memory that the executors share. Knows nothing of models.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, cast

import httptools
import msgspec

from ..engine.arena import MIN_SLOT, Slot
from .exchange import JSON, Exchange, Head
from .listener import Server

_ALIGNMENT = 64
_NOT_PLAIN = frozenset([b"transfer-encoding", b"expect", b"upgrade", b"connection"])
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\n"
    b'Content-Type: application/json\r\nContent-Length: 32\r\n\r\n{"error":"too many connections"}'
)
_LINGER_SECONDS = 2.0
"""How long a refused caller's bytes are still read, so that it gets to read why (a closed socket with
unread bytes resets the connection, reply and all)."""


class Connection(asyncio.BufferedProtocol):
    """One connection; the event loop calls it."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.peer: tuple[str, int] = ("", 0)
        self.since = server.now
        """When the present phase began: idle, head, body, or waiting for the reply."""
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._current: Exchange | None = None
        self._waiting: deque[Exchange] = deque()
        self._direct = False
        self._ignoring = False
        self._paused = False
        self._in_message = False
        self._in_head = False
        self._head_bytes = 0
        self._write_since = 0.0
        self._served = False
        self._mark = 0
        self._mark_at = 0.0
        """Where the body was when its pace was last judged, and when that was."""
        self._reserved = 0
        self._first = b""
        self._reset()

    def _reset(self) -> None:
        self._target = b""
        self._headers: dict[bytes, bytes] = {}
        self._parts: list[bytes] = []
        self._size = 0
        self._position = 0
        self._slot: Slot | None = None
        self._slot_start = 0
        self._method = b""
        self._keep_alive = True
        self._head: Head | None = None
        """The head of the message at hand, if it was known by its bytes."""

    # -- the event loop's calls ------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        if isinstance(peer, tuple):
            self.peer = (str(peer[0]), int(peer[1]))
        server = self.server
        server.connections.add(self)
        if len(server.connections) > server.limits.max_connections:
            server.refused("queue_full")
            self._ignoring = True
            self._transport.write(_FULL)
            self._transport.close()

    def get_buffer(self, sizehint: int) -> memoryview:
        if self._direct and self._slot is not None:
            return self._slot.view[self._position : self._slot_start + self._size]
        return self.server.scratch

    def buffer_updated(self, nbytes: int) -> None:
        if self._direct:
            self._position += nbytes
            if self._position == self._slot_start + self._size:
                self._direct = False
                if self._head is None:
                    # The parser has not seen this body, and is in the middle of it for ever.
                    self._parser = httptools.HttpRequestParser(self)
                self.on_message_complete()
            return
        if self._ignoring:
            return
        data: bytes | memoryview = self.server.scratch[:nbytes]
        if not self._in_message:
            self.since = self.server.now
            if not self._head_bytes:
                data = bytes(data)
                end = data.find(b"\r\n\r\n") + 4
                known = self.server.heads.get(data[:end])
                if known is not None and self._receive(known, data, end):
                    return
                self._first = data[:end]
        if self._in_head or not self._in_message:
            self._head_bytes += nbytes
        self._parse(data)

    def _parse(self, data: bytes | memoryview) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse(501, "this server does not change protocols")
        except httptools.HttpParserError as problem:
            self.server.refused("invalid")
            self._refuse(400, f"not an HTTP/1.1 request: {problem}"[:200])
        else:
            if (self._in_head or not self._in_message) and self._head_bytes > self.server.limits.max_head:
                self.server.refused("too_large")
                self._refuse(431, f"the headers are over {self.server.limits.max_head} bytes")
            if self._slot is not None and self._in_message and not self._ignoring:
                self._direct = True

    def _receive(self, head: Head, data: bytes, end: int) -> bool:
        """Take a request whose head was parsed before, byte for byte; false where the parser has to."""
        size = head.size
        rest = len(data) - end
        if rest == size < MIN_SLOT:
            if not self._reserve(size):
                return True
            self._take(Exchange(self, head), data[end:])
            return True
        if rest > size or size < MIN_SLOT or self.server.arena is None or not self._reserve(size):
            return False
        self._size = size
        self._take_slot(size, head.headers.get(b"inference-header-content-length"))
        if self._slot is None:
            return False
        self._slot.view[self._position : self._position + rest] = data[end:]
        self._position += rest
        self._head = head
        self._in_message = self._direct = True
        self._mark, self._mark_at = self._position, self.server.now
        if rest == size:
            self._direct = False
            self.on_message_complete()
        return True

    def eof_received(self) -> bool:
        """The caller sends no more: it may still read, if it is owed something."""
        if self._in_message or (self._current is None and not self._waiting):
            return False
        self._ignoring = True
        for exchange in (self._current, *self._waiting):
            if exchange is not None:
                exchange.keep_alive = False
        return True

    def connection_lost(self, problem: Exception | None) -> None:
        self.server.connections.discard(self)
        self._transport = None
        if self._slot is not None:
            self._slot.release()
            self._slot = None
        self.server.buffered -= self._reserved
        self._reserved = 0
        for exchange in (self._current, *self._waiting):
            if exchange is not None:
                self.server.busy -= 1
                self.server.buffered -= exchange.reserved
                exchange.hang_up()
        self._current = None
        self._waiting.clear()

    def pause_writing(self) -> None:
        """Called by the event loop: the caller does not read. Then nothing more is read of it either."""
        self._write_since = self.server.clock()
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Called by the event loop: the caller reads again."""
        self._write_since = 0.0
        if self._transport is not None and not self._paused:
            self._transport.resume_reading()
        if self._current is None and self._waiting:
            self._next()

    # -- the parser's calls ----------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._ignoring:
            return
        self._in_message = self._in_head = True

    def on_url(self, url: bytes) -> None:
        if self._ignoring:
            return
        self._target = self._target + url if self._target else url
        if len(self._target) > self.server.limits.max_target:
            self._refuse(414, "the request target is too long")

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._ignoring:
            return
        name = name.lower()
        headers = self._headers
        # Fields of one name are one list (RFC 9110, 5.3); two Hosts or lengths are then none that is valid.
        headers[name] = headers[name] + b", " + value if name in headers else value

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._head_bytes = 0
        if self._ignoring:
            return
        parser = self._parser
        self._method = parser.get_method()
        version = parser.get_http_version()
        if version not in ("1.1", "1.0"):
            self._refuse(505, f"expected HTTP/1.1, got {version}")
            return
        # HTTP/1.0 is answered and closed: keeping it open would need a header that only it knows.
        self._keep_alive = version == "1.1" and parser.should_keep_alive()
        headers = self._headers
        limits = self.server.limits
        host = headers.get(b"host")
        if len(headers) > limits.max_headers:
            self.server.refused("too_large")
            self._refuse(431, f"more than {limits.max_headers} headers")
            return
        if (host is None and version == "1.1") or (host is not None and b"," in host):
            self._refuse(400, "expected one Host header")
            return
        length = headers.get(b"content-length")
        size = self._size = 0 if length is None else int(length)
        if size > limits.max_body:
            self.server.refused("too_large")
            self._refuse(413, f"the body is {size} bytes; at most {limits.max_body} are read")
            return
        if not self._reserve(size):
            return
        if size >= MIN_SLOT and self.server.arena is not None:
            self._take_slot(size, headers.get(b"inference-header-content-length"))
        if size or b"transfer-encoding" in headers:
            self.since = self._mark_at = self.server.now
            self._mark = self._position
            if headers.get(b"expect", b"").lower() == b"100-continue" and self._transport is not None:
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        if self._ignoring:
            return
        if self._slot is not None:
            self._slot.view[self._position : self._position + len(body)] = body
            self._position += len(body)
            return
        self._parts.append(body)
        self._position += len(body)
        if self._position > self._reserved and not self._reserve(self._position):
            return
        if self._position > self.server.limits.max_body:
            self.server.refused("too_large")
            self._refuse(413, f"the body is over {self.server.limits.max_body} bytes")
        elif len(self._parts) > 1024:
            self._parts = [b"".join(self._parts)]

    def on_message_complete(self) -> None:
        self._in_message = False
        if self._ignoring:
            return
        head = self._head or self._new_head()
        exchange = Exchange(self, head)
        body: bytes | memoryview = b""
        if self._slot is not None:
            exchange.slot = self._slot
            exchange.slot_start = self._slot_start
            body = self._slot.view[self._slot_start : self._slot_start + self._size]
        elif self._parts:
            body = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        exchange.keep_alive = self._keep_alive
        self._reset()
        self._take(exchange, body)

    def _new_head(self) -> Head:
        """The head that the parser has read; a plain one is remembered by its bytes."""
        headers = self._headers
        head = Head(self._method, self._target, headers, self._size)
        first = self._first
        plain = (
            self._keep_alive
            and self._method == b"POST"
            and b"content-length" in headers
            and headers.keys().isdisjoint(_NOT_PLAIN)
            # What was parsed is what was looked up: one head, from its first letter to its empty line.
            and first.startswith(b"POST ")
            and first.count(b"\n") == first.count(b"\r\n")
        )
        if plain:
            self.server.learn(first, head)
        self._first = b""
        return head

    def _take(self, exchange: Exchange, body: bytes | memoryview) -> None:
        """Have a request answered, now or after those before it."""
        exchange.body = body
        exchange.reserved, self._reserved = self._reserved, 0
        self._served = True
        server = self.server
        server.busy += 1
        if self._current is None:
            self._current = exchange
            server.dispatch(exchange)
            return
        self._waiting.append(exchange)
        if len(self._waiting) >= server.limits.max_pipelined and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    # -- replies ---------------------------------------------------------------------------------------------

    def raw(self, parts: list[Any]) -> None:
        """Write a part of a reply."""
        if self._transport is not None:
            self._transport.writelines(parts)

    def write(self, exchange: Exchange, parts: list[Any]) -> None:
        """Write the (last part of the) reply of `exchange`, and go on with the next request."""
        server = self.server
        transport = self._transport
        if transport is None:
            return
        if len(parts) == 1:
            transport.write(parts[0])
        elif parts:
            transport.write(b"".join(parts))
        server.busy -= 1
        server.buffered -= exchange.reserved
        self._current = None
        if server.finished is not None:
            server.finished(exchange)
        if not exchange.keep_alive or server.stopping:
            self._finish()
            return
        self.since = server.now
        if self._waiting and not self._write_since:
            self._next()

    def _next(self) -> None:
        """Answer the next of the requests that came before the reply to the one before them."""
        self._current = self._waiting.popleft()
        if self._paused and len(self._waiting) <= self.server.limits.max_pipelined // 2:
            self._paused = False
            if self._transport is not None:
                self._transport.resume_reading()
        # Not from inside the reply before it: a thousand pipelined requests are no deep recursion.
        asyncio.get_running_loop().call_soon(self._handle, self._current)

    def check(self, now: float) -> None:
        """Called once a second: end what takes too long."""
        limits = self.server.limits
        if self._write_since and now - self._write_since > limits.write_seconds:
            self._abort()
        elif self._current is not None:
            return
        elif self._in_head or self._head_bytes:
            if now - self.since > limits.head_seconds:
                self._refuse(408, f"the headers did not come within {limits.head_seconds:g} s")
        elif self._in_message:
            if now - self._mark_at > limits.body_seconds:
                if self._position - self._mark < limits.body_rate * limits.body_seconds:
                    self._refuse(408, "the body came too slowly")
                self._mark, self._mark_at = self._position, now
        elif now - self.since > (limits.idle_seconds if self._served else limits.head_seconds):
            self._finish()

    def close_if_idle(self) -> None:
        """End it, unless a request is on its way or being answered."""
        if self._current is None and not self._waiting and not self._in_message and not self._head_bytes:
            self._finish()

    def _handle(self, exchange: Exchange) -> None:
        if exchange is self._current and not exchange.replied:
            self.server.dispatch(exchange)

    def _reserve(self, size: int) -> bool:
        """Count this body among those that are held; a refusal where all of them together are too much."""
        server = self.server
        server.buffered += size - self._reserved
        self._reserved = size
        if server.buffered <= server.limits.max_buffered:
            return True
        server.refused("queue_full")
        self._refuse(503, "too many large bodies at once", b"Retry-After: 1\r\n")
        return False

    def _take_slot(self, size: int, header_length: bytes | None) -> None:
        """Where the body goes so that the tensor behind its JSON begins on a cache line."""
        assert self.server.arena is not None
        shift = 0
        if header_length is not None and header_length.isdigit() and len(header_length) < 9:
            shift = -int(header_length) % _ALIGNMENT
        self._slot = self.server.arena.take(size + _ALIGNMENT)
        self._slot_start = self._position = shift if self._slot is not None else 0

    def _refuse(self, status: int, words: str, headers: bytes = b"") -> None:
        """Answer what cannot be read, behind the replies that are owed, and hang up."""
        if self._ignoring:
            return
        self._ignoring = True
        if self._slot is not None:
            self._slot.release()
            self._slot = None
        self._in_message = self._in_head = False
        self._head_bytes = 0
        self.server.buffered -= self._reserved
        self._reserved = 0
        if self._current is not None:
            (self._waiting or [self._current])[-1].keep_alive = False
            return
        exchange = Exchange(self, Head(self._method, self._target[:200], {}, 0))
        exchange.keep_alive = False
        body = msgspec.json.encode({"error": words})
        self.server.busy += 1
        self._current = exchange
        exchange.reply(status, body, JSON + headers)

    def _finish(self) -> None:
        """Close when what was written has been sent; a caller that still sends gets to read it first."""
        transport = self._transport
        if transport is None:
            return
        if self._ignoring and transport.can_write_eof():
            transport.write_eof()
            asyncio.get_running_loop().call_later(_LINGER_SECONDS, self._abort)
        else:
            self._ignoring = True
            transport.close()

    def _abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()
