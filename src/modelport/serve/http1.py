"""An HTTP/1.1 connection: its requests in order, its replies, and every limit that keeps it well.

Knows nothing of models.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from typing import Any, cast

import msgspec

from .exchange import JSON, Exchange, Head
from .listener import Connected, Server
from .receiving import Receiver
from .refusal import reason_of

_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\n"
    b'Content-Type: application/json\r\nContent-Length: 32\r\n\r\n{"error":"too many connections"}'
)
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
"""What every client of HTTP/1.1 passes over (RFC 9110, 15.2). Whether one that sends no more has closed the
connection or half of it shows in what becomes of bytes that are sent to it, and in nothing else."""
_COUNTED = frozenset([400, 408, 413, 414, 431, 505])
"""Statuses of refusals that are counted here; the others are counted by whoever decides on them."""
_LOOK_SECONDS = 0.005
_LINGER_SECONDS = 2.0
"""How long a refused caller's bytes are still read, so that it gets to read why (a closed socket with
unread bytes resets the connection, reply and all)."""


class Connection(Receiver):
    """One connection; the event loop calls it."""

    def __init__(self, server: Server) -> None:
        super().__init__(server)
        self._current: Exchange | None = None
        self._waiting: deque[Exchange] = deque()
        self._paused = False
        self._write_since = 0.0
        """When the caller's reading was last judged, while it does not read fast enough; else 0."""
        self._unsent = 0
        """Bytes that waited for it to read them then."""
        self._served = False
        self._ended = False
        """Whether the caller sends no more."""
        self._finished = False
        """Whether nothing more is said: what was written is sent, and that is all."""

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
            self._ignoring = self._finished = True
            self._transport.write(_FULL)
            self._transport.close()

    def eof_received(self) -> bool:
        """The caller sends no more: it may still read, if it is owed something."""
        transport, current = self._transport, self._current
        self._ended = True
        if current is None or transport is None:
            return False
        if transport.get_extra_info("ssl_object") is not None:
            return False  # TLS has no half of a connection: its end is that of both
        self._ignoring = self._ignored = True
        self._forget_message()
        (self._waiting or [current])[-1].keep_alive = False
        if not current.status and not self._old:
            transport.write(_CONTINUE)
            asyncio.get_running_loop().call_later(_LOOK_SECONDS, self._look, _LOOK_SECONDS)
        return True

    def _look(self, waited: float) -> None:
        """End it where the caller does not read either: its system has refused the last write."""
        transport = self._transport
        if transport is None or self._current is None:
            return
        if transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._abort()
        else:
            wait = min(2 * waited, 1.0)
            asyncio.get_running_loop().call_later(wait, self._look, wait)

    def connection_lost(self, problem: Exception | None) -> None:
        self.server.connections.discard(self)
        self._transport = None
        self._forget_message()
        if self._current is not None:
            self._waiting.appendleft(self._current)
            self._current = None
        self._drop_waiting()

    def pause_writing(self) -> None:
        """Called by the event loop: the caller does not read. Then nothing more is read of it either."""
        self._write_since = self.server.clock()
        if self._transport is not None:
            self._unsent = self._transport.get_write_buffer_size()
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """Called by the event loop: the caller reads again."""
        self._write_since = 0.0
        self._resume()
        if self._current is None and self._waiting:
            self._next()

    def _resume(self) -> None:
        """Read on, unless something still speaks against it; only from here on is a slow caller slow."""
        if self._transport is None or self._paused or self._write_since or self._ended:
            return
        self.since = self._mark_at = self.server.now
        self._mark = self._position
        self._transport.resume_reading()

    # -- requests --------------------------------------------------------------------------------------------

    def _take(self, exchange: Exchange, body: bytes | memoryview) -> None:
        """Have a request answered, now or after those before it."""
        exchange.body = body
        exchange.held, self._held = self._held, 0
        self._served = True
        server = self.server
        server.busy += 1
        if self._current is None:
            if exchange.held:
                server.memory.coming.pop(self, None)
            self._current = exchange
            server.dispatch(exchange)
            return
        # What waits for its turn may wait for a caller who does not read: it gives way as what still comes.
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
        server.memory.held -= exchange.held
        self._current = None
        if server.finished is not None:
            server.finished(exchange)
        if not exchange.keep_alive or server.stopping:
            self._finish()
            return
        self.since = server.now
        if self._waiting:
            if not self._write_since:
                self._next()
        elif self._expects:
            self._invite()

    def _invite(self) -> None:
        """Ask for the body that is held back, when all replies before its own are written."""
        if self._transport is not None and self._current is None and not self._waiting:
            self._expects = False
            self._mark_at = self.server.now
            self._transport.write(_CONTINUE)

    def take_over(self, exchange: Exchange, head: bytes, protocol: Connected) -> asyncio.Transport | None:
        """Answer `exchange` with `head` (101), and give the connection to `protocol`.

        Returns:
            The transport; None where the caller is gone, said more than it may, or the server stops.
        """
        server, transport = self.server, self._transport
        if transport is None or exchange is not self._current or self._ignored or server.stopping:
            return None
        server.connections.discard(self)
        server.connections.add(protocol)
        self._transport = self._current = None
        server.busy -= 1
        server.memory.held -= exchange.held
        transport.write(head)
        transport.set_protocol(cast("asyncio.BaseProtocol", protocol))
        if server.finished is not None:
            server.finished(exchange)
        return transport

    def _next(self) -> None:
        """Answer the next of the requests that came before the reply to the one before them."""
        self._current = self._waiting.popleft()
        if not self._waiting and not self._held:
            self.server.memory.coming.pop(self, None)
        if self._paused and len(self._waiting) <= self.server.limits.max_pipelined // 2:
            self._paused = False
            self._resume()
        # Not from inside the reply before it: a thousand pipelined requests are no deep recursion.
        asyncio.get_running_loop().call_soon(self._handle, self._current)

    def check(self, now: float) -> None:
        """Called once a second: end what takes too long."""
        limits = self.server.limits
        if self._write_since or self._finished:
            self._check_reader(now)
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

    def _check_reader(self, now: float) -> None:
        """End it where what was written waits for a caller that does not read, or hardly."""
        limits = self.server.limits
        since = self._write_since or self.since
        if self._transport is None or now - since <= limits.write_seconds:
            return
        unsent = self._transport.get_write_buffer_size()
        if not self._write_since or self._unsent - unsent < limits.body_rate * (now - since):
            self._abort()
        self._write_since, self._unsent = now, unsent

    def close_if_idle(self) -> None:
        """End it, unless a request is on its way or being answered."""
        if self._current is None and not self._waiting and not self._in_message and not self._head_bytes:
            self._finish()

    def _handle(self, exchange: Exchange) -> None:
        if exchange is self._current and not exchange.replied:
            self.server.dispatch(exchange)

    def _refuse(self, status: int, words: str, headers: bytes = b"") -> None:
        """Answer what cannot be read, behind the replies that are owed, and hang up."""
        if self._ignoring:
            return
        self._ignoring = True
        if status in _COUNTED and (reason := reason_of(status)) is not None:
            self.server.refused(reason)
        self._forget_message()
        if self._current is not None:
            (self._waiting or [self._current])[-1].keep_alive = False
            return
        exchange = Exchange(self, Head(self._method, self._target[:200], {}, 0))
        exchange.keep_alive = False
        exchange.counted = True
        body = msgspec.json.encode({"error": words})
        self.server.busy += 1
        self._current = exchange
        exchange.reply(status, body, JSON + headers)

    def give_way(self) -> None:
        """Refuse what is on its way and what waits for its turn: all bodies together are too much."""
        self._drop_waiting()
        if self._current is not None:
            self._current.keep_alive = False
        elif self._ignoring:
            self._finish()
        super().give_way()

    def _forget_message(self) -> None:
        """Give back what a request holds that will not be whole."""
        if self._slot is not None:
            self._slot.release()
            self._slot = None
        self._direct = self._in_message = self._in_head = self._expects = False
        self._head_bytes = 0
        self.server.memory.held -= self._held
        self._held = 0
        if not self._waiting:
            self.server.memory.coming.pop(self, None)

    def _drop_waiting(self) -> None:
        """Nobody gets the replies to these."""
        for exchange in self._waiting:
            self.server.busy -= 1
            self.server.memory.held -= exchange.held
            exchange.hang_up()
        self._waiting.clear()
        self.server.memory.coming.pop(self, None)

    def _finish(self) -> None:
        """Close when what was written has been sent; a caller that still sends gets to read it first."""
        transport = self._transport
        if transport is None or self._finished:
            return
        lingers = (self._ignoring or self._waiting) and not self._ended and transport.can_write_eof()
        self._finished = self._ignoring = True
        self.since = self.server.now
        self._drop_waiting()
        if lingers:
            self._paused = False
            self._resume()
            transport.write_eof()
            asyncio.get_running_loop().call_later(_LINGER_SECONDS, self._linger)
        else:
            transport.close()

    def _linger(self) -> None:
        """End it, unless the caller is still being told."""
        if self._transport is not None and self._transport.get_write_buffer_size():
            asyncio.get_running_loop().call_later(_LINGER_SECONDS, self._linger)
        else:
            self._abort()

    def _abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()
