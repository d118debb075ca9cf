"""Many items, some at a time, answered in their order; items are taken only a little ahead of the answers."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from ..errors import ModelportError, UsageError

if TYPE_CHECKING:
    import asyncio

I = TypeVar("I")  # noqa: E741  (an item)
R = TypeVar("R")


def check_many(concurrency: int, errors: str) -> None:
    """Refuse arguments that make no sense.

    Raises:
        UsageError: no concurrency at all, or an unknown way with errors.
    """
    if concurrency < 1:
        raise UsageError(f"concurrency={concurrency!r}: expected 1 or more")
    if errors not in ("return", "raise"):
        raise UsageError(f"errors={errors!r}: expected 'return' or 'raise'")


AHEAD = 2
"""Items taken and not yet handed over, for each that is computed: a slow one does not idle the others."""


def in_order(
    answer: Callable[[I], R | ModelportError], items: Iterable[I], concurrency: int, *, raises: bool
) -> Iterator[R | ModelportError]:
    """Answers of threads, in the items' order; left early, what has not begun is dropped."""
    pool = ThreadPoolExecutor(concurrency, thread_name_prefix="modelport-client")
    waiting: deque[Future[R | ModelportError]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(answer, item))
            if len(waiting) >= AHEAD * concurrency:
                yield _given(waiting.popleft().result(), raises)
        while waiting:
            yield _given(waiting.popleft().result(), raises)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


async def in_order_async(
    answer: Callable[[I], Awaitable[R | ModelportError]],
    items: Iterable[I] | AsyncIterable[I],
    concurrency: int,
    *,
    raises: bool,
) -> AsyncIterator[R | ModelportError]:
    """Answers of tasks, in the items' order; left early, those on their way are cancelled."""
    import asyncio

    slots = asyncio.Semaphore(concurrency)
    waiting: deque[asyncio.Task[R | ModelportError]] = deque()

    async def one(item: I) -> R | ModelportError:
        async with slots:
            return await answer(item)

    try:
        async for item in _each(items):
            waiting.append(asyncio.create_task(one(item)))
            if len(waiting) >= AHEAD * concurrency:
                yield _given(await waiting.popleft(), raises)
        while waiting:
            yield _given(await waiting.popleft(), raises)
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def _each(items: Iterable[I] | AsyncIterable[I]) -> AsyncIterator[I]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item


def _given(answer: R | ModelportError, raises: bool) -> R | ModelportError:
    if raises and isinstance(answer, ModelportError):
        raise answer
    return answer
