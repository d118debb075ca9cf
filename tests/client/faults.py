"""A small real HTTP server that fails in exactly the way a test tells it to."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Request:
    """What came: `number` counts requests, `connection` connections, both from 0."""

    number: int
    connection: int
    line: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Act:
    """What to send, and what to do with the connection then; "hang" says no more until the client goes."""

    data: bytes = b""
    then: Literal["keep", "close", "reset", "hang"] = "keep"


@dataclass
class FaultServer:
    """Its address, and what it has seen."""

    act: Callable[[Request], Act]
    port: int = 0
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    hung_up: threading.Event = field(default_factory=threading.Event)
    """Set when a client closed a connection that hangs."""
    read_bodies: bool = True
    scheme: str = "http"
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _open: set[socket.socket] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def talk(self, sock: socket.socket, connection: int) -> None:
        """Answer the requests of one connection."""
        with self._lock:
            self._open.add(sock)
        with sock, contextlib.suppress(OSError):
            data = b""
            while True:
                while b"\r\n\r\n" not in data:
                    more = sock.recv(1 << 16)
                    if not more:
                        return
                    data += more
                head, _, data = data.partition(b"\r\n\r\n")
                line, *rest = head.decode().split("\r\n")
                headers = {name.lower(): value for name, _, value in (r.partition(": ") for r in rest)}
                size = int(headers.get("content-length", "0")) if self.read_bodies else 0
                while len(data) < size:
                    more = sock.recv(1 << 20)
                    if not more:
                        return
                    data += more
                body, data = data[:size], data[size:]
                with self._lock:
                    request = Request(len(self.requests), connection, line, headers, body)
                    self.requests.append(request)
                act = self.act(request)
                sock.sendall(act.data)
                if act.then == "hang":
                    while sock.recv(1 << 16):
                        pass
                    self.hung_up.set()
                if act.then == "reset":
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                if act.then != "keep":
                    return

    def end(self) -> None:
        """Close what is open, so that every thread ends."""
        with self._lock:
            for sock in self._open:
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)


@contextmanager
def faulty(
    act: Callable[[Request], Act], *, tls: ssl.SSLContext | None = None, read_bodies: bool = True
) -> Iterator[FaultServer]:
    """The server on a free port of the loopback; every thread is ended at the end."""
    server = FaultServer(act, read_bodies=read_bodies, scheme="https" if tls else "http")
    threads: list[threading.Thread] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server.port = listener.getsockname()[1]

        def connection(sock: socket.socket, number: int) -> None:
            if tls is not None:
                try:
                    sock = tls.wrap_socket(sock, server_side=True)
                except OSError:
                    sock.close()
                    return
            server.talk(sock, number)

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    sock, _ = listener.accept()
                    number, server.connections = server.connections, server.connections + 1
                    thread = threading.Thread(target=connection, args=(sock, number))
                    threads.append(thread)
                    thread.start()

        acceptor = threading.Thread(target=accept)
        acceptor.start()
        try:
            yield server
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            acceptor.join(10)
            server.end()
            for thread in threads:
                thread.join(10)
    assert not any(thread.is_alive() for thread in [acceptor, *threads])


def reply(status: int, body: object = None, **headers: str) -> bytes:
    """A reply with a JSON body."""
    data = b"" if body is None else json.dumps(body).encode()
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} X\r\n{lines}Content-Length: {len(data)}\r\n\r\n".encode() + data


PREDICTED = {
    "model": "digits",
    "version": "1",
    "answer": [{"label": "7", "score": 0.75}, {"label": "1", "score": 0.25}],
    "timing_ms": {"decode": 0.5, "total": 2.0, "later_stage": 1.0},
}


def good() -> bytes:
    """What /predict answers."""
    return reply(200, PREDICTED)


def metadata() -> bytes:
    """What GET /v2 answers."""
    return reply(200, {"name": "stand-in", "version": "0", "extensions": []})


def in_turn(*acts: Act) -> Callable[[Request], Act]:
    """The nth request gets the nth act, those after them the last."""
    return lambda request: acts[min(request.number, len(acts) - 1)]
