"""Bytes on a socket, and replies read back by a strict parser (h11): what no HTTP client would send."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import h11

TIMEOUT = 30.0
CRLF = b"\r\n"


class Reply(NamedTuple):
    """One whole reply."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> str:
        """The server's words."""
        return str(json.loads(self.body)["error"])


class Target(NamedTuple):
    """A server that is attacked."""

    url: str
    pid: int

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        parts = urlsplit(self.url)
        assert parts.hostname and parts.port
        return parts.hostname, parts.port

    def connect(self) -> socket.socket:
        """A connection of its own."""
        return socket.create_connection(self.address, TIMEOUT)

    def talk(
        self, *pieces: bytes, methods: Sequence[str] = ("POST",), half_close: bool = False
    ) -> list[Reply]:
        """Send the pieces on one connection and read as many replies as there are `methods`.

        Fewer come back where the server closed the connection first. A reply that is not well-formed
        HTTP fails the test.
        """
        with self.connect() as sock:
            send(sock, pieces)
            if half_close:
                sock.shutdown(socket.SHUT_WR)
            return read(sock, methods)

    def one(self, *pieces: bytes, method: str = "POST") -> Reply:
        """As `talk`, for one reply, which has to come."""
        replies = self.talk(*pieces, methods=(method,))
        assert replies, "the connection was closed without a reply"
        return replies[0]


def send(sock: socket.socket, pieces: Iterable[bytes]) -> None:
    """Send, until the other side does not want more."""
    try:
        for piece in pieces:
            sock.sendall(piece)
    except (BrokenPipeError, ConnectionResetError):
        return


def read(sock: socket.socket, methods: Sequence[str] = ("POST",), *, seconds: float = TIMEOUT) -> list[Reply]:
    """The replies to requests with these methods, in order, until all are there or the connection ends.

    Raises:
        TimeoutError: after `seconds` neither is so.
    """
    until = time.monotonic() + seconds
    replies: list[Reply] = []
    left = b""
    for method in methods:
        reply, left = _reply(sock, method, left, until)
        if reply is None:
            break
        replies.append(reply)
        if reply.headers.get("connection") == "close":
            break
    return replies


def _reply(sock: socket.socket, method: str, left: bytes, until: float) -> tuple[Reply | None, bytes]:
    parser = h11.Connection(h11.CLIENT, max_incomplete_event_size=1 << 20)
    parser.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
    parser.send(h11.EndOfMessage())
    if left:
        parser.receive_data(left)
    head: h11.Response | None = None
    body = bytearray()
    while True:
        event = parser.next_event()
        if event is h11.NEED_DATA:
            sock.settimeout(max(until - time.monotonic(), 0.01))
            try:
                data = sock.recv(1 << 16)
            except ConnectionResetError:
                data = b""
            if not data and head is None and not parser.trailing_data[0]:
                return None, b""
            parser.receive_data(data)
        elif isinstance(event, h11.Response):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            assert head is not None
            headers = {name.decode(): value.decode() for name, value in head.headers}
            return Reply(head.status_code, headers, bytes(body)), bytes(parser.trailing_data[0])


def post(path: str, body: bytes = b"", **headers: Any) -> bytes:
    """A whole POST; header names are written with `_` for `-`."""
    return head("POST", path, content_length=len(body), **headers) + body


def get(path: str, **headers: Any) -> bytes:
    """A whole GET."""
    return head("GET", path, **headers)


def head(method: str, path: str, **headers: Any) -> bytes:
    """Request line and headers, with `Host` where none is given."""
    lines = [f"{method} {path} HTTP/1.1"]
    for name, value in ({"host": "127.0.0.1"} | headers).items():
        lines.append(f"{name.replace('_', '-')}: {value}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def closes(sock: socket.socket, *, seconds: float = TIMEOUT) -> bool:
    """Whether the server ends the connection in that time; what it says before is not looked at."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        sock.settimeout(left)
        try:
            if not sock.recv(1 << 16):
                return True
        except ConnectionResetError:
            return True
        except TimeoutError:
            return False
    return False


def as_json(value: Any) -> bytes:
    """JSON text, with NaN where Python would write it."""
    return json.dumps(value).encode()
