"""How many bytes of request bodies a process holds, and who gives way where they are too many."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from ..errors import QueueFull

TOO_MANY = "too many large bodies at once"
_UNPACKED_AT_ONCE = 4


class Coming(Protocol):
    """A body that is on its way."""

    def give_way(self) -> None:
        """Refuse it, and give back what of it has come."""
        ...


class BodyMemory:
    """Bytes of request bodies that have come and are not answered: of HTTP, WebSockets and gRPC together.

    Counted is what has come and not what was announced, which costs nobody anything. Where it is too much,
    the body that has been on its way longest gives way: who sends slowly keeps nobody out.

    Args:
        limit: bytes that may be held.
    """

    __slots__ = ("coming", "held", "limit", "refused", "unpacking")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0
        self.coming: dict[Coming, None] = {}
        """The bodies of which something has come and not all, in the order in which they began; without those
        that this side reads no further for now."""
        self.unpacking = asyncio.Semaphore(_UNPACKED_AT_ONCE)
        """What a body unpacks to is not known before, so that few are unpacked at once."""
        self.refused: Callable[[str], None] = lambda reason: None
        """Called with `queue_full` where a body that is whole is refused."""

    def fits(self) -> bool:
        """Whether what is held is within the limit, when bodies that are on their way have given way."""
        while self.held > self.limit and self.coming:
            coming = next(iter(self.coming))
            del self.coming[coming]
            coming.give_way()
        return self.held <= self.limit

    def take(self, size: int) -> None:
        """Count `size` more bytes; whoever takes them gives them back.

        Raises:
            QueueFull: they are too many; they are not counted then.
        """
        self.held += size
        if self.held > self.limit and not self.fits():
            self.held -= size
            self.refused("queue_full")
            raise QueueFull(TOO_MANY)

    def give_back(self, size: int) -> None:
        """Count `size` bytes no more."""
        self.held -= size
