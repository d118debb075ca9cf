"""Servers that are wrong on purpose: a proxy before a right one, and a gRPC server that knows one answer."""

from __future__ import annotations

import contextlib
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

YES = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
NO = b"HTTP/1.1 500 Oops\r\nContent-Type: text/plain\r\nContent-Length: 4\r\nConnection: close\r\n\r\noops"


class Proxy:
    """Forwards connections to a server; told to, it lies.

    `lie` is None, or a pair of byte strings of one length: the first is replaced by the second in what the
    server says. `answer` is None, or the reply to everything, with nobody asked; empty closes at once.
    """

    def __init__(self, port: int) -> None:
        self._upstream = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.answer: bytes | None = None
        self.lie: tuple[bytes, bytes] | None = None
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no more connections."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        client.settimeout(20)
        with client, contextlib.suppress(OSError):
            if self.answer is None:
                self._forward(client)
                return
            if self.answer:
                _read_request(client)
                client.sendall(self.answer)

    def _forward(self, client: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", self._upstream), timeout=20) as server:
            up = threading.Thread(target=_copy, args=(client, server, None), daemon=True)
            up.start()
            _copy(server, client, self.lie)
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
            up.join(20)


def _copy(source: socket.socket, target: socket.socket, lie: tuple[bytes, bytes] | None) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data.replace(*lie) if lie else data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def _read_request(client: socket.socket) -> None:
    """What the client sends until it is quiet for a moment: lengths may lie."""
    client.settimeout(0.05)
    with contextlib.suppress(TimeoutError):
        while client.recv(1 << 16):
            pass


class OneAnswer(grpc.GenericRpcHandler):
    """Every method there is and is not: an empty message, or a code."""

    def __init__(self) -> None:
        self.code: Any = None

    def service(self, details: Any) -> Any:
        if details.method.endswith("StreamInfer"):
            return grpc.stream_stream_rpc_method_handler(self._stream)
        return grpc.unary_unary_rpc_method_handler(self._unary)

    def _unary(self, request: bytes, context: Any) -> bytes:
        if self.code is not None:
            context.abort(self.code, "oops")
        return b""

    def _stream(self, requests: Any, context: Any) -> Any:
        for request in requests:
            yield self._unary(request, context)


def grpc_server(handler: OneAnswer) -> tuple[Any, int]:
    """A running server and its port."""
    server = grpc.server(ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((handler,))
    port: int = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, port
