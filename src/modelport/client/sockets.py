"""HTTP over blocking sockets, for many threads: a pool of connections that are kept open.

A connection is used by one request at a time. It goes back to the pool only after a whole reply that allows
it; after anything else, an interrupt included, it is closed, so that no answer is ever read by another call.
"""

from __future__ import annotations

import math
import select
import socket
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from .arrays import Buffer
from .failures import Busy, cannot_connect, cannot_trust, cut_before, cut_within
from .http1 import Ended, Reply, ReplyReader
from .settings import Settings, owner

if TYPE_CHECKING:
    import ssl

IDLE = 20.0
"""Seconds after which an unused connection is not used again; servers close theirs after 30 and more."""


class HttpLink:
    """Carries requests to one server and brings the replies."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._tls: ssl.SSLContext | None = None
        if settings.address.secure:
            self._tls = settings.tls.context()
        self._closed = False
        self._reset()

    def _reset(self) -> None:
        self._owner = owner()
        self._lock = threading.Lock()
        self._returned = threading.Condition(self._lock)
        self._waiting = 0
        self._open = 0
        self._idle: list[_Connection] = []

    def send(self, parts: Sequence[Buffer], deadline: float, about: str) -> Reply:
        """Send one request and wait for its reply.

        Args:
            parts: what to send, in order.
            deadline: on time.monotonic's clock.

        Raises:
            Failed: no reply came. TimeoutError: not before `deadline`. BadReply: what came is none.
        """
        if self._owner != owner():
            self._abandon()
        if self._closed:
            raise UsageError("this client is closed", hint="make another")
        connection = self._take(deadline)
        keep = False
        try:
            if connection is not None:
                try:
                    reply = connection.exchange(parts, deadline)
                except _Stale:
                    # The server had closed it meanwhile, as servers do. Nothing was read, and inference can
                    # be repeated: a new connection is tried at once, which is no retry of a failing server.
                    connection.close()
                    connection = None
            if connection is None:
                connection = self._connect(deadline)
                reply = connection.exchange(parts, deadline)
            keep = reply.keep_alive and not self._closed
        finally:
            self._give_back(connection, keep)
        return reply

    def close(self) -> None:
        """Close what is open; requests on their way are finished, and their connections closed then."""
        self._closed = True
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _abandon(self) -> None:
        """This is a forked child: its parent's connections are not its own, only closed here."""
        inherited = self._idle
        self._reset()
        for connection in inherited:
            connection.close()

    def _take(self, deadline: float) -> _Connection | None:
        """An open connection, or None for leave to open one.

        Raises:
            Busy: neither before the deadline.
        """
        oldest = time.monotonic() - IDLE
        while True:
            with self._lock:
                while not self._idle and self._open >= self._settings.connections:
                    self._wait(deadline)
                if not self._idle:
                    self._open += 1
                    return None
                # The one used last, so that those no longer needed grow old.
                connection = self._idle.pop()
            if connection.since >= oldest and connection.quiet():
                return connection
            self._give_back(connection, keep=False)

    def _wait(self, deadline: float) -> None:
        """Let go of the lock until a connection comes back."""
        busy = Busy(f"all {self._settings.connections} connections were busy")
        left = None if deadline == math.inf else deadline - time.monotonic()
        self._waiting += 1
        try:
            if (left is not None and left <= 0) or not self._returned.wait(left):
                raise busy
        finally:
            self._waiting -= 1

    def _give_back(self, connection: _Connection | None, keep: bool) -> None:
        old = None if keep else connection
        with self._lock:
            if keep and connection is not None:
                connection.since = time.monotonic()
                self._idle.append(connection)
                # The oldest lie at the bottom, where nobody takes them.
                if self._idle[0].since < connection.since - IDLE:
                    old = self._idle.pop(0)
                    self._open -= 1
            else:
                self._open -= 1
            if self._waiting:
                self._returned.notify()
        if old is not None:
            old.close()

    def _connect(self, deadline: float) -> _Connection:
        address = self._settings.address
        limit = _seconds_left(deadline, self._settings.connect_timeout)
        try:
            plain = socket.create_connection((address.host, address.port), timeout=limit)
        except OSError as problem:  # socket.gaierror is one
            if isinstance(problem, TimeoutError) and time.monotonic() >= deadline:
                raise
            raise cannot_connect(str(address), problem) from problem
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock = plain
            if self._tls is not None:
                sock = self._tls.wrap_socket(plain, server_hostname=address.host)
        except OSError as problem:
            plain.close()
            if isinstance(problem, TimeoutError) and time.monotonic() >= deadline:
                raise
            refuse = cannot_trust if self._tls is not None and is_tls(problem) else cannot_connect
            raise refuse(str(address), problem) from problem
        return _Connection(sock, str(address), self._settings.max_reply)


class _Stale(Exception):
    """A kept connection turned out to be closed before a byte of the reply came."""


class _Connection:
    """One socket and the reader of its replies."""

    def __init__(self, sock: socket.socket, address: str, limit: int) -> None:
        self.since = 0.0
        """When it became idle, on time.monotonic's clock."""
        self._sock = sock
        self._address = address
        self._reader = ReplyReader(limit)
        self._used = False
        self._set_at = self._set_for = -math.inf
        self._poll: Any = None
        if hasattr(select, "poll"):
            self._poll = select.poll()
            self._poll.register(sock, select.POLLIN)

    def close(self) -> None:
        self._sock.close()
        self._reader.close()

    def quiet(self) -> bool:
        """Whether the server has neither closed it nor sent what nobody asked for."""
        if self._poll is not None:
            return not self._poll.poll(0)
        return not select.select([self._sock], [], [], 0)[0]

    def exchange(self, parts: Sequence[Buffer], deadline: float) -> Reply:
        """Send one request and read its reply.

        Raises:
            TimeoutError: not before `deadline`. Failed: the connection broke. _Stale: it was broken before.
        """
        used, self._used = self._used, True
        self._reader.begin()
        try:
            broken = self._send(parts, deadline)
            try:
                return self._receive(deadline)
            except Ended as problem:
                raise broken or problem from None
        except (OSError, Ended) as problem:
            if is_timeout(problem):
                raise
            if self._reader.got:
                raise cut_within(self._address, self._reader.got) from problem
            if used:
                raise _Stale from problem
            raise cut_before(self._address, problem if isinstance(problem, OSError) else None) from problem

    def _send(self, parts: Sequence[Buffer], deadline: float) -> OSError | None:
        """Send all parts, or say why not: a server that refuses a body replies before it has read it all."""
        try:
            for part in parts:
                self._limit(deadline)
                self._sock.sendall(part)
        except OSError as problem:
            if is_timeout(problem):
                raise
            return problem
        return None

    def _receive(self, deadline: float) -> Reply:
        while True:
            self._limit(deadline)
            count = self._sock.recv_into(self._reader.buffer())
            reply = self._reader.received(count) if count else self._reader.ended()
            if reply is not None:
                return reply

    def _limit(self, deadline: float) -> None:
        """Bound what the socket does next by the deadline; a setting under a millisecond old is left.

        Raises:
            TimeoutError: it has passed.
        """
        now = time.monotonic()
        if now - self._set_at > 1e-3 or deadline != self._set_for:
            self._sock.settimeout(_seconds_left(deadline, None))
            self._set_at, self._set_for = now, deadline


def is_tls(problem: OSError) -> bool:
    """Whether it is the secure connection that failed, and not the one below."""
    import ssl

    return isinstance(problem, ssl.SSLError)


def is_timeout(problem: Exception) -> bool:
    """Whether our own time is over; a connection that the system gave up (ETIMEDOUT) has an errno."""
    return isinstance(problem, TimeoutError) and problem.errno is None


def _seconds_left(deadline: float, limit: float | None) -> float | None:
    """Seconds to the deadline, at most `limit`; None: no limit.

    Raises:
        TimeoutError: none are left.
    """
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    if limit is not None:
        left = min(left, limit)
    return None if left == math.inf else left
