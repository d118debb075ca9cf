"""What a search may do."""

from __future__ import annotations

from typing import Any

import msgspec

from .judge import Gate


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What the search may do."""

    margin: float = 0.5
    """The loss that is accepted, in points."""
    gate: Gate = "interval"
    seconds: float = 600.0
    portable: bool = False
    """Only 8 bits that no processor overflows on."""
    evaluation: dict[str, Any] = {}
    """Settings of `evaluate`: split, target, …"""
