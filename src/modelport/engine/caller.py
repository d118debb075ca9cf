"""Who is being answered, as far as the engine asks: for a deadline, and for the version that a name means.

A context variable, so that it reaches the engine past dialects that do not know of either.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextvars import ContextVar
from typing import Protocol

from .submission import Result
from .told import Told, told


class Headers(Protocol):
    """A request's headers, or a call's metadata."""

    def get(self, name: str, /) -> str | None:
        """One by its lower-case name, or None."""
        ...


class Asking(Protocol):
    """One request's caller, as the engine sees it."""

    deadline: float
    """When it stops waiting, on `time.monotonic`'s clock."""
    chosen: dict[str, tuple[str | None, str | None]] | None
    """By model: the version that answers this caller and the one that is asked too. Drawn once."""
    told: Told | None
    """How it was answered; of several items, the one that took longest."""
    counted: bool
    """Whether the metrics have it among what was refused or failed: an item of it, by the model."""

    @property
    def place(self) -> float | None:
        """Where it stands in [0, 1) among those who are drawn for a canary; None: wherever chance has it."""
        ...

    @property
    def address(self) -> str:
        """Where it comes from."""
        ...

    @property
    def get(self) -> Callable[[str], str | None]:
        """A header of its request by lower-case name, or None."""
        ...


class Caller:
    """A caller by its parts.

    Args:
        headers: of its request.
        address: where it comes from.
        deadline: when it stops waiting.
        place: for one that asks again and again, so that it stays with one version.
    """

    __slots__ = ("address", "chosen", "counted", "deadline", "get", "place", "told")

    def __init__(
        self, headers: Headers, address: str, deadline: float = math.inf, *, place: float | None = None
    ) -> None:
        self.get = headers.get
        self.address = address
        self.deadline = deadline
        self.place = place
        self.chosen: dict[str, tuple[str | None, str | None]] | None = None
        self.counted = False
        self.told: Told | None = None


caller: ContextVar[Asking | None] = ContextVar("caller", default=None)
"""The caller of the request at hand; None where there is none (start-up, a live replay)."""


def tell(name: str, version: str, result: Result) -> None:
    """Note for the caller of the request at hand how one of its items was answered."""
    asking = caller.get()
    if asking is not None:
        before = asking.told
        if before is None or result.seconds > before.seconds:
            asking.told = told(name, version, result)
