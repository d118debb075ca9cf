"""Who is being answered, as far as the engine asks: for a deadline, and for the version that a name means.

A context variable, so that it reaches the engine past dialects that do not know of either.
"""

from __future__ import annotations

import math
from contextvars import ContextVar
from typing import Protocol


class Headers(Protocol):
    """A request's headers by lower-case name."""

    def get(self, name: str, /) -> str | None:
        """One header, or None."""


class Caller:
    """One request's caller.

    Args:
        headers: of its request.
        address: where it comes from.
        deadline: when it stops waiting, on `time.monotonic`'s clock.
    """

    __slots__ = ("address", "chosen", "deadline", "headers")

    def __init__(self, headers: Headers, address: str, deadline: float = math.inf) -> None:
        self.headers = headers
        self.address = address
        self.deadline = deadline
        self.chosen: dict[str, tuple[str | None, str | None]] = {}
        """By model: the version that answers this caller and the one that is asked too. Drawn once."""


caller: ContextVar[Caller | None] = ContextVar("caller", default=None)
"""The caller of the request at hand; None where there is none (start-up, a live replay)."""
