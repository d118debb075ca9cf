"""A listening port in the test's own process, and callers that read and write when they are told to."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any

from modelport.engine.arena import Arena
from modelport.serve.exchange import Exchange
from modelport.serve.limits import Limits
from modelport.serve.listener import Server

PATIENCE = 20


class Port:
    """A listening port, whose requests are answered by the test."""

    def __init__(self, limits: Limits) -> None:
        self.asked: asyncio.Queue[Exchange] = asyncio.Queue()
        self.arena = Arena(16 << 20)
        self.server = Server(self.asked.put_nowait, limits, self.arena)
        self.problems: list[dict[str, Any]] = []

    async def take(self) -> Exchange:
        """The next request."""
        return await asyncio.wait_for(self.asked.get(), PATIENCE)

    async def connect(self, *, small: bool = False) -> Caller:
        """A caller; with `small` buffers much of a large reply waits in the server."""
        sock = socket.socket()
        if small:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 10)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, self.address)
        return Caller(sock)

    async def quiet(self) -> None:
        """Wait until nothing is held for anybody."""
        async with asyncio.timeout(PATIENCE):
            while self.server.connections or self.server.busy:
                await asyncio.sleep(0.002)
        assert self.server.memory.held == 0 and not self.server.memory.coming and self.arena.in_use() == 0
        assert not self.problems, self.problems

    address: tuple[str, int]


class Caller:
    """The other end, which reads and writes when it is told to."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    async def send(self, data: bytes) -> None:
        """Send all of it."""
        await asyncio.wait_for(asyncio.get_running_loop().sock_sendall(self._sock, data), PATIENCE)

    async def read(self, size: int) -> bytes:
        """This many bytes; fewer where the connection ends."""
        got = bytearray()
        while len(got) < size:
            read = asyncio.get_running_loop().sock_recv(self._sock, min(size - len(got), 1 << 20))
            data = await asyncio.wait_for(read, PATIENCE)
            if not data:
                break
            got += data
        return bytes(got)

    def waiting(self) -> bytes:
        """What has come by now, without taking it."""
        try:
            return self._sock.recv(1 << 20, socket.MSG_PEEK)
        except BlockingIOError:
            return b""

    def end(self) -> None:
        """Send no more."""
        self._sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Hang up."""
        self._sock.close()


Test = Callable[[Port], Coroutine[Any, Any, None]]
Run = Callable[..., None]


def post(body: bytes = b"", path: str = "/", *lines: str) -> bytes:
    """A whole POST."""
    fields = "".join(f"{line}\r\n" for line in lines)
    return f"POST {path} HTTP/1.1\r\nHost: x\r\n{fields}Content-Length: {len(body)}\r\n\r\n".encode() + body


def bodies(replies: bytes) -> list[bytes]:
    """The bodies of replies that follow one another."""
    found = []
    while replies:
        head, _, rest = replies.partition(b"\r\n\r\n")
        if head.startswith(b"HTTP/1.1 100 "):
            replies = rest
            continue
        size = int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0])
        found.append(rest[:size])
        assert len(rest) >= size, f"{size - len(rest)} bytes of a reply are missing"
        replies = rest[size:]
    return found


async def turns(count: int = 20) -> None:
    """Let everything happen that is about to."""
    for _ in range(count):
        await asyncio.sleep(0.001)
