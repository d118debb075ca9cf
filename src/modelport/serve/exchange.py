"""One request and the way to answer it, as the connection hands it to whoever answers."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import msgspec

from ..engine.arena import Slot
from ..engine.told import Told
from ..errors import QueueFull

if TYPE_CHECKING:
    from ..engine.submission import Submission
    from .guard.ring import Principal
    from .listener import Connected, Server
    from .receiving import Receiver

REASONS = {status.value: status.phrase.encode() for status in HTTPStatus} | {
    413: b"Content Too Large",
    450: b"Queue Full",
    499: b"Client Closed Request",
}
SAFE = b"X-Content-Type-Options: nosniff\r\n"
CLOSE = b"Connection: close\r\n"
JSON = b"Content-Type: application/json\r\n"


class Head:
    """What stands before a request's body; shared by all requests that say the same."""

    __slots__ = ("headers", "json_size", "method", "path", "query", "route", "size")

    def __init__(self, method: bytes, target: bytes, headers: dict[bytes, bytes], size: int) -> None:
        self.method = method
        self.path, _, self.query = target.partition(b"?")
        self.headers = headers
        self.size = size
        self.json_size = 0
        """Bytes of JSON before binary tensors; set with the route that reads it."""
        self.route: Callable[[Exchange], bool] | None = None
        """The short way, once it was found; whatever depends on the head alone has been judged then."""


class Exchange:
    """One request, and the way to answer it once."""

    __slots__ = (
        "_connection",
        "began",
        "body",
        "chosen",
        "counted",
        "deadline",
        "extra",
        "gone",
        "head",
        "headers",
        "held",
        "keep_alive",
        "method",
        "parameters",
        "path",
        "principal",
        "replied",
        "routed",
        "slot",
        "slot_start",
        "status",
        "submission",
        "told",
    )

    def __init__(self, connection: Receiver, head: Head) -> None:
        self._connection = connection
        self.head = head
        self.method = head.method
        self.path = head.path
        self.headers = head.headers
        """By lower-case name; several fields of one name are joined by commas."""
        self.held = 0
        """Bytes that are counted for its body until it is answered."""
        self.principal: Principal | None = None
        """Who asks, where the guard has been asked already."""
        self.deadline = math.inf
        """When the caller stops waiting, on `time.monotonic`'s clock."""
        self.chosen: dict[str, tuple[str | None, str | None]] | None = None
        self.body: bytes | memoryview = b""
        self.slot: Slot | None = None
        """Where the body lies, if it is in the arena; whoever takes it over sets this to None."""
        self.slot_start = 0
        self.keep_alive = True
        self.replied = False
        self.status = 0
        self.began = connection.server.clock()
        self.submission: Submission | None = None
        """What is cancelled when the caller hangs up."""
        self.gone: Callable[[], object] | None = None
        """Called when the caller hangs up before the reply."""
        self.told: Told | None = None
        """What its reply, the access log and traces say of it, beside the status."""
        self.routed = ""
        """The route that answers, as traces name it: `/predict/{name}`; empty on the short way."""
        self.counted = False
        """Whether it is among what was refused already, by whoever refused it."""
        self.parameters: Mapping[str, object] | None = None
        """What the route makes of the path; None on the short way."""
        self.extra = b""
        """Header lines that whoever is before the answer adds to it."""

    place: float | None = None

    @property
    def client(self) -> tuple[str, int]:
        """The caller's address and port."""
        return self._connection.peer

    @property
    def address(self) -> str:
        """The caller's address."""
        return self._connection.peer[0]

    @property
    def server(self) -> Server:
        """Whose connection it came on."""
        return self._connection.server

    @property
    def closes(self) -> bool:
        """Whether the connection ends with the reply, which then says so."""
        return not self.keep_alive or self._connection.server.stopping

    def get(self, name: str, /) -> str | None:
        """A header by its lower-case name, as guards and rollouts ask for it."""
        value = self.headers.get(name.encode("latin-1"))
        return None if value is None else value.decode("latin-1")

    def hold(self, size: int) -> None:
        """Count `size` more bytes that its body takes (unpacked, say) until it is answered.

        Raises:
            QueueFull: all bodies together are too much.
        """
        if self.replied:
            return
        try:
            self.server.memory.take(size)
        except QueueFull:
            self.counted = True
            raise
        self.held += size

    def take_body(self) -> bytes:
        """The body as bytes of its own; its slot is free then."""
        body = bytes(self.body)
        self.release()
        self.body = body
        return body

    def release(self) -> None:
        """Give the arena's memory back, if the body lies there."""
        if self.slot is not None:
            self.body = b""
            self.slot.release()
            self.slot = None

    def reply(self, status: int, body: bytes, headers: bytes = JSON) -> None:
        """Answer; `headers` are whole lines. Nothing happens where the caller is gone."""
        head = b"HTTP/1.1 %d %s\r\n%s%s%s%s%s\r\n" % (
            status,
            REASONS.get(status, b"Unknown"),
            headers,
            SAFE,
            self.extra,
            CLOSE if self.closes else b"",
            # RFC 9110, 8.6: a 204 has none.
            b"" if status == 204 else b"Content-Length: %d\r\n" % len(body),
        )
        self.send([head] if self.method == b"HEAD" else [head, body], status)

    def reply_json(self, status: int, value: Any, headers: bytes = b"") -> None:
        """Answer with anything that msgspec encodes."""
        self.reply(status, msgspec.json.encode(value), JSON + headers)

    def send(self, parts: list[Any], status: int = 200) -> None:
        """Answer with bytes that are a whole reply, from the status line to the end of the body."""
        if self.replied:
            return
        self.replied = True
        self.status = status
        if status >= 400 and not self.counted:
            self.server.erred(self)
        self.release()
        self._connection.write(self, parts)

    def take_over(self, head: bytes, protocol: Connected) -> asyncio.Transport | None:
        """Answer with `head`, a whole 101, and have `protocol` read and write the connection from now on.

        Returns:
            The transport; None where the connection cannot be had: its caller is gone, sent more before
            it was answered, or the server stops.
        """
        if self.replied:
            return None
        self.status = 101
        transport = self._connection.take_over(self, head, protocol)
        if transport is not None:
            self.replied = True
            self.gone = None
            self.release()
        return transport

    def start_stream(self, status: int, headers: bytes) -> None:
        """Begin a reply whose length is not known; `stream` and `end_stream` follow."""
        self.status = status
        if status >= 400 and not self.counted:
            self.server.erred(self)
        end = self.extra + (CLOSE if self.closes else b"")
        self._connection.raw(
            [b"HTTP/1.1 %d %s\r\n%s%s\r\n" % (status, REASONS.get(status, b""), headers, end)]
        )

    def stream(self, data: bytes) -> None:
        """A piece of the reply's body, as it goes on the wire."""
        self._connection.raw([data])

    def end_stream(self) -> None:
        """The reply is whole."""
        if not self.replied:
            self.replied = True
            self.release()
            self._connection.write(self, [])

    def hang_up(self) -> None:
        """The caller is gone: drop what has not begun."""
        self.replied = True
        if self.submission is not None:
            self.submission.cancelled = True
        else:
            self.release()
        if self.gone is not None:
            self.gone()
