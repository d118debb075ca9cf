"""What all connections of one port share: who answers, the limits, and the clock."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Protocol

from ..engine.arena import Arena
from .exchange import Exchange, Head
from .limits import Limits
from .memory import BodyMemory

log = logging.getLogger("modelport.serve")

_MAX_HEAD = 2048
_MAX_HEADS = 1024


Refused = tuple[int, str, bytes]
"""Status, words, and lines of header."""


class Connected(Protocol):
    """A connection, in whatever protocol it speaks by now."""

    def check(self, now: float) -> None:
        """Called once a second: end what takes too long."""
        ...

    def close_if_idle(self) -> None:
        """The server stops: end, unless something is being answered."""
        ...


class Server:
    """What all connections share: the handler, the limits, the clock that ticks once a second."""

    def __init__(
        self,
        handle: Callable[[Exchange], None],
        limits: Limits,
        arena: Arena | None = None,
        memory: BodyMemory | None = None,
    ) -> None:
        self.handle = handle
        self.limits = limits
        self.arena = arena
        self.connections: set[Connected] = set()
        self.stopping = False
        self.finished: Callable[[Exchange], None] | None = None
        """Called after each reply, for logs and traces."""
        self.refused: Callable[[str], None] = lambda reason: None
        """Called with the reason where a request is refused before it is whole."""
        self.erred: Callable[[Exchange], None] = lambda exchange: None
        """Called with each reply that is an error and was not counted before."""
        self.admits: Callable[[Exchange], Refused | None] = lambda exchange: None
        """Asked with the head of a large body before that is read: why it is not read, or None."""
        self.heads: dict[bytes, Head] = {}
        """Heads of requests that were parsed, by their bytes: clients send the same one again and again."""
        self.scratch = memoryview(bytearray(256 << 10))
        self.clock: Callable[[], float] = time.monotonic
        self.now = time.monotonic()
        self.busy = 0
        self.memory = memory or BodyMemory(limits.max_buffered)
        """Shared by all ports of the process."""

    def learn(self, text: bytes, head: Head) -> None:
        """Remember what a head means."""
        if len(text) <= _MAX_HEAD:
            if len(self.heads) >= _MAX_HEADS:
                self.heads.clear()
            self.heads[text] = head

    def dispatch(self, exchange: Exchange) -> None:
        """Hand a request over; a bug there is a 500 for its caller and nothing for the others."""
        try:
            self.handle(exchange)
        except Exception:
            log.exception("%a %a failed", exchange.method, exchange.path[:200])
            exchange.reply_json(500, {"error": "internal error; the server's log says more"})

    def sweep(self) -> None:
        """Once a second: end connections that take too long at what they do."""
        self.now = self.clock()
        for connection in list(self.connections):
            connection.check(self.now)

    def close_idle(self) -> None:
        """The server stops: connections without a request end now, the others after their reply."""
        self.stopping = True
        for connection in list(self.connections):
            connection.close_if_idle()
