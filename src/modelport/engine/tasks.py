"""Work that goes on whatever becomes of the caller who began it."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from ..errors import Unavailable

log = logging.getLogger("modelport.engine")

P = ParamSpec("P")


class Operations:
    """What was begun and is not through yet."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    async def finish(self, work: Coroutine[Any, Any, None]) -> None:
        """Wait for `work`; where the waiting is cancelled it goes on, and what it raises is logged.

        Raises:
            Unavailable: it was cut off by `cancel`.
        """
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            asking = asyncio.current_task()
            if task.cancelled() and not (asking and asking.cancelling()):
                raise Unavailable("the server stops, and this was cut off") from None
            task.add_done_callback(logged)
            raise

    async def cancel(self) -> None:
        """End all of it, and wait until it has ended."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Operator(Protocol):
    operations: Operations


Owner = TypeVar("Owner", bound=_Operator)


def to_the_end(
    method: Callable[Concatenate[Owner, P], Coroutine[Any, Any, None]],
) -> Callable[Concatenate[Owner, P], Coroutine[Any, Any, None]]:
    """A method that runs to its end once it was called, though its caller hangs up meanwhile."""

    @functools.wraps(method)
    async def begun(self: Owner, /, *args: P.args, **options: P.kwargs) -> None:
        await self.operations.finish(method(self, *args, **options))

    return begun


async def nobody(what: str, name: str, version: str | None) -> None:
    """There is no other process that must be told what was done here."""


def logged(task: asyncio.Future[Any]) -> None:
    """Exceptions of tasks that nobody awaits are at least read and told."""
    if not task.cancelled() and (problem := task.exception()) is not None:
        log.error("%s: %s", type(problem).__name__, problem)
