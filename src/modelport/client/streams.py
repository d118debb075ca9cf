"""HTTP over asyncio, for many tasks on one event loop: a pool of connections that are kept open.

The rules are those of sockets.py. A task that is cancelled closes its connection at once, by which the
server learns that nobody waits for the answer.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import UsageError
from .arrays import Buffer
from .failures import BadReply, cannot_connect, cannot_trust, cut_before, cut_within
from .http1 import Ended, Reply, ReplyReader
from .settings import Settings, owner
from .sockets import IDLE, is_tls

if TYPE_CHECKING:
    import ssl


class HttpStream:
    """Carries requests to one server and brings the replies."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._tls: ssl.SSLContext | None = None
        if settings.address.secure:
            self._tls = settings.tls.context()
        self._idle: list[_Connection] = []
        self._slots = asyncio.Semaphore(settings.connections)
        self._home: tuple[int, asyncio.AbstractEventLoop] | None = None
        self._closed = False

    async def send(self, parts: Sequence[Buffer], deadline: float, about: str) -> Reply:
        """Send one request and wait for its reply.

        Args:
            parts: what to send, in order.
            deadline: on time.monotonic's clock.

        Raises:
            Failed: no reply came. TimeoutError: not before `deadline`. BadReply: what came is none.
        """
        if self._closed:
            raise UsageError("this client is closed", hint="make another")
        self._check_home()
        if deadline == math.inf:
            return await self._send(parts)
        async with asyncio.timeout(deadline - time.monotonic()):
            return await self._send(parts)

    async def close(self) -> None:
        """Close what is open; requests on their way are finished, and their connections closed then."""
        self._closed = True
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()
        for connection in idle:
            await connection.gone

    def _check_home(self) -> None:
        """Connections belong to the event loop, and the process, that opened them.

        Raises:
            UsageError: this is another.
        """
        here = (owner(), asyncio.get_running_loop())
        if self._home is None:
            self._home = here
        elif self._home != here:
            raise UsageError(
                "this AsyncClient was used in another event loop or process", hint="make one for each"
            )

    async def _send(self, parts: Sequence[Buffer]) -> Reply:
        async with self._slots:
            connection = self._kept()
            if connection is not None:
                try:
                    return await self._exchange(connection, parts)
                except _Stale:
                    pass  # closed by the server meanwhile; see sockets.py
            return await self._exchange(await self._connect(), parts)

    async def _exchange(self, connection: _Connection, parts: Sequence[Buffer]) -> Reply:
        keep = False
        try:
            reply = await connection.exchange(parts)
            keep = reply.keep_alive and connection.sent
        finally:
            if keep and not self._closed:
                connection.since = time.monotonic()
                self._idle.append(connection)
                if self._idle[0].since < connection.since - IDLE:
                    self._idle.pop(0).close()
            else:
                connection.close()
        return reply

    def _kept(self) -> _Connection | None:
        oldest = time.monotonic() - IDLE
        while self._idle:
            connection = self._idle.pop()
            if connection.quiet and connection.since >= oldest:
                return connection
            connection.close()
        return None

    async def _connect(self) -> _Connection:
        address, limit = self._settings.address, self._settings.connect_timeout
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(None if limit == math.inf else limit):
                _, connection = await loop.create_connection(
                    lambda: _Connection(str(address), self._settings.max_reply),
                    address.host,
                    address.port,
                    ssl=self._tls,
                )
        except OSError as problem:
            if self._tls is not None and is_tls(problem):
                raise cannot_trust(str(address), problem) from problem
            raise cannot_connect(str(address), problem) from problem
        return connection


class _Stale(Exception):
    """A kept connection turned out to be closed before a byte of the reply came."""


class _Connection(asyncio.BufferedProtocol):
    """One connection and the reader of its replies; bytes are read straight to where they stay."""

    def __init__(self, address: str, limit: int) -> None:
        self.since = 0.0
        """When it became idle, on time.monotonic's clock."""
        self.quiet = True
        """Whether the server has neither closed it nor sent what nobody asked for."""
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._address = address
        self._reader = ReplyReader(limit)
        self._used = False
        self._reply: asyncio.Future[Reply] | None = None
        self._transport: asyncio.Transport | None = None

    @property
    def sent(self) -> bool:
        """Whether the whole request has left; a server that refuses a body replies before it has it all."""
        return self._transport is not None and not self._transport.get_write_buffer_size()

    async def exchange(self, parts: Sequence[Buffer]) -> Reply:
        """Send one request and wait for its reply.

        Raises:
            Failed: the connection broke. _Stale: it was broken before. BadReply: no HTTP.
        """
        if self._transport is None or not self.quiet:
            raise _Stale
        used, self._used = self._used, True
        self._reader.begin()
        self._reply = asyncio.get_running_loop().create_future()
        try:
            for part in parts:
                self._transport.write(part)
            return await self._reply
        except (OSError, Ended) as problem:
            if self._reader.got:
                raise cut_within(self._address, self._reader.got) from problem
            if used:
                raise _Stale from problem
            raise cut_before(self._address, problem if isinstance(problem, OSError) else None) from problem
        finally:
            self._reply = None

    def close(self) -> None:
        """End it at once; what was not sent yet is not."""
        self.quiet = False
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._reader.buffer()

    def buffer_updated(self, nbytes: int) -> None:
        if self._reply is None or self._reply.done():
            self.close()  # nobody asked for it
            return
        try:
            reply = self._reader.received(nbytes)
        except BadReply as problem:
            self._reply.set_exception(problem)
            return
        if reply is not None:
            self._reply.set_result(reply)

    def eof_received(self) -> None:
        self.quiet = False
        self._end(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self.quiet = False
        self._end(exc)
        self._transport = None
        self._reader.close()
        if not self.gone.done():
            self.gone.set_result(None)

    def _end(self, problem: Exception | None) -> None:
        if self._reply is None or self._reply.done():
            return
        try:
            self._reply.set_result(self._reader.ended())
        except (Ended, BadReply) as end:
            broke = isinstance(problem, OSError) and isinstance(end, Ended)
            self._reply.set_exception(problem if broke and problem is not None else end)
