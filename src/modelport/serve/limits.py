"""What one connection may take, before anything is known of models."""

from __future__ import annotations

import msgspec


class Limits(msgspec.Struct, frozen=True):
    """What one connection may take; sizes in bytes, times in seconds."""

    max_body: int = 64 << 20
    max_head: int = 64 << 10
    max_headers: int = 100
    max_target: int = 8 << 10
    max_pipelined: int = 16
    max_connections: int = 8192
    head_seconds: float = 15.0
    """From the first byte of a request to the end of its headers."""
    body_seconds: float = 30.0
    """In each such span a body must go on at `body_rate` on the average."""
    body_rate: float = 1 << 10
    max_buffered: int = 2 << 30
    """Of all bodies together that are on their way or being answered."""
    idle_seconds: float = 75.0
    write_seconds: float = 60.0
    """For which a caller may leave a reply unread."""
