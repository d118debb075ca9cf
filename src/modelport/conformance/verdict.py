"""What a check is and what it says. Knows no protocol."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

Outcome = Literal["pass", "fail", "not offered"]
Weight = Literal["must", "should"]

PARTS: dict[str, str] = {
    "health": "REST",
    "metadata": "REST",
    "infer": "REST",
    "datatypes": "REST",
    "BYTES": "REST",
    "versions": "REST",
    "errors": "REST",
    "limits": "REST",
    "HTTP": "REST",
    "binary": "extensions",
    "repository": "extensions",
    "statistics": "extensions",
    "config": "extensions",
    "classification": "extensions",
    "timeout": "extensions",
    "compression": "extensions",
    "gRPC": "gRPC",
    "gRPC errors": "gRPC",
    "gRPC extensions": "gRPC",
}
"""Every part, in the order of the scorecard, and the group that `--only` also takes."""


class Wrong(Exception):
    """The server did what the protocol's text forbids, or what it only should not do.

    Args:
        should: a breach of what is good practice (RFC 9110, Triton's habit) and not of a "must".
    """

    def __init__(self, message: str, *, should: bool = False) -> None:
        super().__init__(message)
        self.should = should


class NotOffered(Exception):
    """The server does not claim what the check is about."""


Function = TypeVar("Function", bound=Callable[..., None])


@dataclass(frozen=True)
class Check:
    """One named check."""

    name: str
    part: str
    rule: str
    """The sentence that it holds the server to, in one line."""
    source: str
    weight: Weight
    call: Callable[[Any], None]


@dataclass(frozen=True)
class Verdict:
    """What one check found; `weight` is that of what was broken, which may be less than the check's."""

    check: Check
    outcome: Outcome
    reason: str
    weight: Weight


ALL: list[Check] = []
"""Every check of the modules that are imported, in their order."""


def check(
    part: str, rule: str, *, source: str = "OIP", should: bool = False
) -> Callable[[Function], Function]:
    """Register a function as a check; it raises `Wrong` or `NotOffered`, or returns.

    Args:
        part: a key of `PARTS`. rule: what the server is held to. source: whose text says so.
        should: good practice rather than a "must".
    """
    if part not in PARTS:
        raise ValueError(f"unknown part {part!r}")

    def register(function: Function) -> Function:
        name = f"{part}/{function.__name__}".replace(" ", "-")
        ALL.append(Check(name, part, rule, source, "should" if should else "must", function))
        return function

    return register


def expect(fact: bool, message: str, *, should: bool = False) -> None:
    """Raise `Wrong` with `message` unless `fact`."""
    if not fact:
        raise Wrong(message, should=should)
