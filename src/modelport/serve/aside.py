"""What takes long is done in a thread, so that the event loop answers others meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

LOOP_BYTES = 64 << 10
"""Bytes that are gone through on the event loop; more are in a thread."""


async def aside(work: Callable[[], T], size: int) -> T:
    """`work()`, in a thread where it takes long.

    Args:
        size: the bytes that it goes through.
    """
    return await asyncio.to_thread(work) if size > LOOP_BYTES else work()
