"""A WebSocket (RFC 6455) on a connection that began as HTTP. Knows nothing of models.

Frames are read and written by the library `websockets`, which does no I/O of its own. No extension is
agreed on: pictures do not compress, and what is not compressed cannot be a bomb.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from typing import Any, Literal

from ..errors import Forbidden, InputError, ModelportError, Unavailable, Unsupported
from .exchange import Exchange
from .guard.origin import same_origin
from .listener import Server
from .memory import TOO_MANY

INSTALL = "pip install 'modelport[track]'"
PING_SECONDS = 20.0
"""Of silence after which the other side is asked whether it is there; after as much again it is not."""
CLOSE_SECONDS = 5.0
"""For the other side to answer a close."""
MAX_TEXT = 256 << 10
"""Bytes of a text message."""
GOING_AWAY, UNSUPPORTED_DATA, POLICY, TOO_BIG, INTERNAL, TRY_LATER = 1001, 1003, 1008, 1009, 1011, 1013

log = logging.getLogger("modelport.serve")
_quiet = logging.getLogger("modelport.serve.websocket")
_quiet.setLevel(logging.WARNING)


class UpgradeRequired(ModelportError):
    """The request came as plain HTTP, and here a WebSocket is spoken."""

    exit_code = 2
    http_status = 426


class WebSocket(asyncio.BufferedProtocol):
    """One open WebSocket. The event loop calls it; whoever took it sets what is called from it.

    Args:
        max_message: bytes of a message.
        idle_seconds: without a message, after which it is closed.
    """

    def __init__(self, server: Server, *, max_message: int, idle_seconds: float) -> None:
        from websockets.protocol import OPEN
        from websockets.server import ServerProtocol

        self.server = server
        self.on_message: Callable[[bytes | str], None] = lambda message: None
        self.on_gone: Callable[[], None] = lambda: None
        """Called once, when nothing can be sent any more."""
        self.busy: Callable[[], bool] = lambda: False
        """Whether something that came is being answered, for which a server that stops waits."""
        self.idle_seconds = idle_seconds
        self._protocol = ServerProtocol(state=OPEN, max_size=max_message, logger=_quiet)
        self._transport: asyncio.Transport | None = None
        self._kind: Literal["text", "binary"] = "binary"
        self._parts = bytearray()
        self._coming = 0
        """Bytes of a message that has not come whole: they count among all bodies."""
        self._held = False
        self._full = False
        self._gone = False
        self._room = asyncio.Event()
        self._room.set()
        self._write_since = self._closing_since = 0.0
        self._heard = self._asked = self._last = server.now

    def begin(self, transport: asyncio.Transport) -> None:
        """The connection is ours."""
        self._transport = transport

    # -- what is sent ----------------------------------------------------------------------------------------

    @property
    def open(self) -> bool:
        """Whether messages can be sent."""
        return not self._gone and not self._closing_since

    def send(self, text: bytes) -> None:
        """Send a text message (UTF-8); nothing happens where it is closed."""
        if self.open:
            self._protocol.send_text(text)
            self._flush()

    async def room(self) -> None:
        """Wait until the other side has read so much that more may be sent."""
        await self._room.wait()

    def close(self, code: int, reason: str = "") -> None:
        """Say good-bye; the reason is cut to the 123 bytes that there is room for."""
        if self.open:
            words = reason.encode()[:120].decode(errors="ignore")
            self._closing_since = self.server.now or 1e-9
            self._protocol.send_close(code, words)
            self._flush()

    def hold(self, held: bool) -> None:
        """Read no more of the other side (it then waits, by TCP), or go on reading.

        A message that has begun then gives no way to other bodies, unless the other side does not read.
        """
        self._held = held
        self._read_or_not()

    # -- the event loop's calls ------------------------------------------------------------------------------

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.server.scratch

    def buffer_updated(self, nbytes: int) -> None:
        self._heard = self.server.now
        self._protocol.receive_data(bytes(self.server.scratch[:nbytes]))
        frames = self._protocol.events_received()
        for frame in frames:
            self._receive(frame)
        # What the library has of a further frame is within the bytes that were read now, and not counted.
        self._count(len(self._parts) if frames else self._coming + nbytes)
        self._flush()

    def eof_received(self) -> bool:
        self._protocol.receive_eof()
        self._flush()
        return False

    def connection_lost(self, problem: Exception | None) -> None:
        self.server.connections.discard(self)
        self._transport = None
        self._count(0)
        self._end()

    def pause_writing(self) -> None:
        """Called by the event loop: the other side does not read. Then nothing more is read of it either."""
        self._write_since = self.server.clock()
        self._full = True
        self._room.clear()
        self._read_or_not()

    def resume_writing(self) -> None:
        """Called by the event loop: the other side reads again."""
        self._write_since = 0.0
        self._full = False
        self._room.set()
        self._read_or_not()

    # -- what the listener asks ------------------------------------------------------------------------------

    def check(self, now: float) -> None:
        """Called once a second: end what takes too long."""
        if self._write_since and now - self._write_since > self.server.limits.write_seconds:
            self._abort()
        elif self._closing_since:
            if now - self._closing_since > CLOSE_SECONDS:
                self._abort()
        elif self.busy() or self._held:
            self._heard = self._last = now
        elif now - self._last > self.idle_seconds:
            self.close(POLICY, f"nothing came for {self.idle_seconds:g} s")
        elif now - self._heard > 2 * PING_SECONDS:
            self._abort()
        elif now - max(self._heard, self._asked) > PING_SECONDS:
            self._asked = now
            self._protocol.send_ping(b"there?")
            self._flush()

    def give_way(self) -> None:
        """End it, message and all: all bodies together are too much."""
        self.server.refused("queue_full")
        self._count(0)
        self._fail(TRY_LATER, TOO_MANY)

    def close_if_idle(self) -> None:
        """The server stops: end, unless something is being answered."""
        if not self.busy():
            self.close(GOING_AWAY, "the server stops")

    # -- inside ----------------------------------------------------------------------------------------------

    def _receive(self, frame: Any) -> None:
        """One frame, which the library has found right by itself and among the others."""
        from websockets.frames import Opcode

        if not self.open:  # the other side may send for a while until it answers the close
            self._parts.clear()
            return
        if frame.opcode in (Opcode.TEXT, Opcode.BINARY):
            self._kind = "text" if frame.opcode is Opcode.TEXT else "binary"
        elif frame.opcode is not Opcode.CONT:
            return
        # One piece of memory: a million empty fragments are no million objects.
        self._parts += frame.data
        if self._kind == "text" and len(self._parts) > MAX_TEXT:
            self._fail(TOO_BIG, f"a text over {MAX_TEXT} bytes")
        if not frame.fin or not self.open:
            return
        whole, self._parts = bytes(self._parts), bytearray()
        self._count(0)
        self._last = self.server.now
        if self._kind == "binary":
            self.on_message(whole)
            return
        try:
            text = whole.decode()
        except UnicodeDecodeError:
            self._fail(1007, "a text that is not UTF-8")
        else:
            self.on_message(text)

    def _count(self, coming: int) -> None:
        """So much of a message has come."""
        memory = self.server.memory
        memory.held += coming - self._coming
        self._coming = coming
        self._stand()
        if coming:
            memory.fits()

    def _stand(self) -> None:
        """Stand among the bodies that are on their way, unless it is this side that lets the caller wait."""
        if self._coming and (self._full or not self._held):
            self.server.memory.coming.setdefault(self)
        else:
            self.server.memory.coming.pop(self, None)

    def _fail(self, code: int, reason: str) -> None:
        self._parts.clear()
        self._protocol.fail(code, reason)
        self._flush()

    def _flush(self) -> None:
        """Write what the library has to say; an empty piece is the end."""
        transport = self._transport
        for data in self._protocol.data_to_send():
            if transport is None:
                break
            if data:
                transport.write(data)
            else:
                transport.close()
        if self._protocol.close_sent is not None or self._protocol.eof_sent:
            self._closing_since = self._closing_since or self.server.now or 1e-9
            self._end()

    def _end(self) -> None:
        """Nothing can be sent from now on: whoever waits to is woken."""
        if not self._gone:
            self._gone = True
            self._room.set()
            self.on_gone()

    def _read_or_not(self) -> None:
        self._stand()
        if self._transport is None or self._transport.is_closing():
            return
        if self._held or self._full:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def _abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()


def open_websocket(
    exchange: Exchange | None, *, origins: Collection[str], max_message: int, idle_seconds: float
) -> WebSocket:
    """Answer a handshake: the connection is a WebSocket from now on.

    Who may call must have been asked before; here only the handshake itself and the page it comes from
    are looked at (a browser opens WebSockets to everywhere, and sends no preflight).

    Args:
        exchange: the request; None where another server than ours took it.
        origins: of whose pages may open one, beside this server's own.

    Raises:
        UpgradeRequired: plain HTTP. InputError: a handshake that is none. Forbidden: a foreign page.
        Unsupported: the library is not installed, or this is another HTTP server.
        Unavailable: the server stops.
    """
    if exchange is None:
        raise Unsupported("WebSockets are answered by `modelport serve` alone", hint="use the HTTP session")
    if b"websocket" not in exchange.headers.get(b"upgrade", b"").lower():
        raise UpgradeRequired("expected a WebSocket (Upgrade: websocket)")
    origin = exchange.get("origin")
    if origin is not None and origin not in origins and not same_origin(origin, exchange.get("host")):
        exchange.server.refused("origin")
        raise Forbidden(
            f"pages of {origin[:120]!r} may not open this WebSocket",
            hint="serve with --cors-origin to allow an origin",
        )
    try:
        head = _handshake(exchange)
    except ImportError as problem:
        raise Unsupported(f"this needs websockets, which does not load: {problem}", hint=INSTALL) from problem
    socket = WebSocket(exchange.server, max_message=max_message, idle_seconds=idle_seconds)
    transport = exchange.take_over(head, socket)
    if transport is None:
        if exchange.server.stopping:
            raise Unavailable("the server stops")
        raise InputError("bytes came behind the handshake, before it was answered")
    socket.begin(transport)
    return socket


def _handshake(exchange: Exchange) -> bytes:
    """The reply to a right handshake, as it goes on the wire.

    Raises:
        InputError: it is not right. UpgradeRequired: it asks for something else.
    """
    from websockets.datastructures import Headers
    from websockets.http11 import Request
    from websockets.server import ServerProtocol

    headers = Headers()
    for name, value in exchange.headers.items():
        headers[name.decode("latin-1")] = value.decode("latin-1")
    protocol = ServerProtocol(logger=_quiet)
    request = Request(exchange.path.decode("latin-1"), headers, method=exchange.method.decode("latin-1"))
    reply = protocol.accept(request)
    if reply.status_code != 101:
        words = (reply.body or b"").decode(errors="replace").partition("\n")[0]
        raise (UpgradeRequired if reply.status_code == 426 else InputError)(words)
    return bytes(reply.serialize())
