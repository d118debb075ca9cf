"""HTTP/1.1 requests out of bytes.

The parsing is llhttp's (through httptools), which refuses what could be read in two ways. A plain head that
it has read is remembered by its bytes: the same head again needs no parser. Large bodies with a known length
are received straight into memory that the executors share.
"""

from __future__ import annotations

import asyncio
from typing import Any

import httptools

from ..engine.arena import MIN_SLOT, Slot
from .exchange import Exchange, Head
from .listener import Connected, Server
from .memory import TOO_MANY

_ALIGNMENT = 64
_OFFERS = frozenset([b"upgrade", b"connection", b"http2-settings"])
_NOT_PLAIN = frozenset([b"transfer-encoding", b"expect", b"upgrade", b"connection"])


class Receiver(asyncio.BufferedProtocol):
    """One connection's reading half; the event loop and the parser call it."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.peer: tuple[str, int] = ("", 0)
        self.since = server.now
        """When the present phase began: idle, head, body, or waiting for the reply."""
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._direct = False
        """Whether the event loop reads into the slot, past the parser."""
        self._old = False
        """Whether the caller speaks HTTP/1.0, which knows no 1xx."""
        self._ignoring = False
        self._ignored = False
        """Whether bytes came (or the end did) that nobody read: what follows them would be misread."""
        self._in_message = False
        self._in_head = False
        self._head_bytes = 0
        """Those that came of a head which is not whole yet: all of it, unless it follows another message."""
        self._came = self._came_first = 0
        """Those that came last, and those that came together with the head's first."""
        self._mark = 0
        self._mark_at = 0.0
        """Where the body was when its pace was last judged, and when that was."""
        self._held = 0
        """Bytes of the body at hand that have come."""
        self._first = b""
        self._reset()

    def _reset(self) -> None:
        self._target = b""
        self._headers: dict[bytes, bytes] = {}
        self._fields = 0
        self._repeated = 0
        """Bytes of the names that came again, which `_headers` has once."""
        self._beside = 0
        """Bytes that came since the last of the body: between its chunks, and behind them."""
        self._parts: list[bytes] = []
        self._size = 0
        self._position = 0
        self._slot: Slot | None = None
        self._slot_start = 0
        self._method = b""
        self._keep_alive = True
        self._again = b""
        """The head at hand as it has to be read once more."""
        self._expects = False
        """Whether the caller holds the body back until it is asked for."""
        self._head: Head | None = None
        """The head of the message at hand, if it was known by its bytes."""
        self._asking: tuple[Exchange, bytes | memoryview] | None = None
        """A whole request that asks for another protocol."""

    def _take(self, exchange: Exchange, body: bytes | memoryview) -> None:
        """A request is whole."""
        raise NotImplementedError

    def write(self, exchange: Exchange, parts: list[Any]) -> None:
        """Write the (last part of the) reply of `exchange`."""
        raise NotImplementedError

    def take_over(self, exchange: Exchange, head: bytes, protocol: Connected) -> asyncio.Transport | None:
        """Answer `exchange` with `head` (101), and give the connection to `protocol`."""
        raise NotImplementedError

    def raw(self, parts: list[Any]) -> None:
        """Write a part of a reply."""
        raise NotImplementedError

    def _invite(self) -> None:
        """Ask for the body that is held back, when it is its turn."""
        raise NotImplementedError

    def _refuse(self, status: int, words: str, headers: bytes = b"") -> None:
        """Nothing more can be read from this connection."""
        raise NotImplementedError

    def get_buffer(self, sizehint: int) -> memoryview:
        if self._direct and self._slot is not None:
            return self._slot.view[self._position : self._slot_start + self._size]
        return self.server.scratch

    def buffer_updated(self, nbytes: int) -> None:
        if self._direct:
            self._position += nbytes
            if self._hold(nbytes) and self._position == self._slot_start + self._size:
                self._direct = False
                if self._head is None:
                    # The parser has not seen this body, and is in the middle of it for ever.
                    self._parser = httptools.HttpRequestParser(self)
                self.on_message_complete()
            return
        if self._ignoring:
            self._ignored = True
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
        self._came = nbytes
        if self._in_head or not self._in_message:
            self._head_bytes += nbytes
        else:
            self._beside += nbytes
        self._parse(data)

    def _parse(self, data: bytes | memoryview) -> None:
        pieces = [data]
        while pieces:
            data = pieces.pop()
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as asked:
                rest = memoryview(data)[asked.args[0] :]
                if self._again:
                    pieces += [rest, self._again] if rest else [self._again]
                    self._reset()
                    self._parser = httptools.HttpRequestParser(self)
                else:
                    self._take_asking(bool(rest))
            except httptools.HttpParserError as problem:
                self._refuse(400, f"not an HTTP/1.1 request: {problem}"[:200])
        unread = self._head_bytes if self._in_head or not self._in_message else self._beside
        if unread > self.server.limits.max_head:
            self._refuse_head()
        if self._slot is not None and self._in_message and not self._ignoring:
            self._direct = True

    def _receive(self, head: Head, data: bytes, end: int) -> bool:
        """Take a request whose head was parsed before, byte for byte; false where the parser has to."""
        size = head.size
        rest = len(data) - end
        if rest == size < MIN_SLOT:
            if not size or self._hold(size):
                self._take(Exchange(self, head), data[end:])
            return True
        if rest > size or size < MIN_SLOT or self.server.arena is None:
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
        if rest and self._hold(rest) and rest == size:
            self._direct = False
            self.on_message_complete()
        return True

    # -- the parser's calls ----------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._ignoring:
            return
        self._in_message = self._in_head = True
        self._came_first = self._came

    def on_url(self, url: bytes) -> None:
        if self._ignoring:
            return
        self._target = self._target + url if self._target else url
        if len(self._target) > self.server.limits.max_target:
            self._refuse(414, "the request target is too long")

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._ignoring:
            return
        self._fields += 1
        if self._fields > self.server.limits.max_headers:
            self._refuse(431, f"more than {self.server.limits.max_headers} headers")
            return
        name = name.lower()
        headers = self._headers
        if name in headers:
            # One list (RFC 9110, 5.3); two Hosts or lengths are then none that is valid.
            value = headers[name] + b", " + value
            self._repeated += len(name) - 2
        headers[name] = value

    def on_headers_complete(self) -> None:
        most = self._head_bytes + self._came_first
        self._in_head = False
        self._head_bytes = 0
        if self._ignoring:
            return
        parser = self._parser
        self._method = parser.get_method()
        limits = self.server.limits
        if most > limits.max_head and self._head_size() > limits.max_head:
            self._refuse_head()
            return
        if parser.should_upgrade() and not self._asks_for_another():
            self._again = self._without_upgrade()
            return
        version = parser.get_http_version()
        if version not in ("1.1", "1.0"):
            self._refuse(505, f"expected HTTP/1.1, got {version}")
            return
        # HTTP/1.0 is answered and closed: keeping it open would need a header that only it knows.
        self._old = version == "1.0"
        self._keep_alive = not self._old and parser.should_keep_alive()
        headers = self._headers
        host = headers.get(b"host")
        if (host is None and version == "1.1") or (host is not None and b"," in host):
            self._refuse(400, "expected one Host header")
            return
        length = headers.get(b"content-length")
        size = self._size = 0 if length is None else int(length)
        if size > limits.max_body:
            self._refuse(413, f"the body is {size} bytes; at most {limits.max_body} are read")
            return
        if size >= MIN_SLOT or b"transfer-encoding" in headers:
            refused = self.server.admits(Exchange(self, Head(self._method, self._target, headers, size)))
            if refused is not None:
                self._refuse(*refused)
                return
        if size >= MIN_SLOT and self.server.arena is not None:
            self._take_slot(size, headers.get(b"inference-header-content-length"))
        if size or b"transfer-encoding" in headers:
            self.since = self._mark_at = self.server.now
            self._mark = self._position
            if headers.get(b"expect", b"").lower() == b"100-continue" and not self._old:
                self._expects = True
                self._invite()

    def on_body(self, body: bytes) -> None:
        if self._ignoring or not self._hold(len(body)):
            return
        if self._slot is not None:
            self._slot.view[self._position : self._position + len(body)] = body
            self._position += len(body)
            return
        self._beside = 0
        self._parts.append(body)
        self._position += len(body)
        if self._position > self.server.limits.max_body:
            self._refuse(413, f"the body is over {self.server.limits.max_body} bytes")
        elif len(self._parts) > 1024:
            self._parts = [b"".join(self._parts)]

    def on_message_complete(self) -> None:
        self._in_message = False
        if self._ignoring or self._again:
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
        if self._parser.should_upgrade():
            self._asking = exchange, body
            return
        self._take(exchange, body)

    def _head_size(self) -> int:
        """Bytes of the head at hand, which is whole: however they came, and whatever came with them."""
        line = len(self._method) + len(self._target) + len("  HTTP/1.1\r\n")
        fields = sum([len(name) + len(value) for name, value in self._headers.items()])
        return line + fields + self._repeated + 4 * self._fields + 2

    def _refuse_head(self) -> None:
        self._refuse(431, f"the headers are over {self.server.limits.max_head} bytes")

    def _asks_for_another(self) -> bool:
        """Whether the head at hand asks in earnest: for a WebSocket or, by CONNECT, for a tunnel."""
        headers = self._headers
        if self._method == b"CONNECT":
            return True
        body = headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers
        return not body and b"websocket" in headers.get(b"upgrade", b"").lower()

    def _without_upgrade(self) -> bytes:
        """The head at hand, less what is passed over (RFC 9110, 7.8): the parser reads no body after it.

        Clients that know HTTP/2 offer it in this way with their first request, whatever that is.
        """
        version = self._parser.get_http_version().encode()
        lines = [b"%s %s HTTP/%s" % (self._method, self._target, version)]
        lines += [b"%s: %s" % each for each in self._headers.items() if each[0] not in _OFFERS]
        if b"close" in self._headers.get(b"connection", b"").lower():
            lines.append(b"connection: close")
        self._first = b""
        return b"\r\n".join([*lines, b"", b""])

    def _take_asking(self, more: bool) -> None:
        """A request that asks for another protocol: the last one of its connection, whatever its answer.

        Args:
            more: whether bytes follow it already; nobody can say in which protocol.
        """
        if self._asking is None:  # it was refused while it was read
            return
        (exchange, body), self._asking = self._asking, None
        exchange.keep_alive = False
        self._ignoring = True
        self._ignored = self._ignored or more
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

    def _hold(self, size: int) -> bool:
        """Count `size` more bytes that have come; false where this body had to give way."""
        memory = self.server.memory
        if not self._held:
            memory.coming[self] = None
        self._held += size
        memory.held += size
        return memory.held <= memory.limit or (memory.fits() and not self._ignoring)

    def give_way(self) -> None:
        """Refuse what is on its way: all bodies together are too much."""
        self.server.refused("queue_full")
        self._refuse(503, TOO_MANY, b"Retry-After: 1\r\n")

    def _take_slot(self, size: int, header_length: bytes | None) -> None:
        """Where the body goes so that the tensor behind its JSON begins on a cache line."""
        assert self.server.arena is not None
        shift = 0
        if header_length is not None and header_length.isdigit() and len(header_length) < 9:
            shift = -int(header_length) % _ALIGNMENT
        self._slot = self.server.arena.take(size + _ALIGNMENT)
        self._slot_start = self._position = shift if self._slot is not None else 0
