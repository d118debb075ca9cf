"""The queue with a clock and an executor around it: rows in, rows out, never mixed.

One thread runs the batches of a model; while it computes, requests gather in the queue, and when it is
free it takes what is there. Nothing waits for a window.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec
import numpy as np

from ..errors import InputError, ModelFailed, Unavailable
from ..tensors import Array, Tensors
from .queue import BatchQueue

Run = Callable[[Tensors], dict[str, Array]]


class Batched(msgspec.Struct, frozen=True):
    """What came out for one submission, and where its time went, in seconds."""

    outputs: dict[str, Array]
    queued: float
    ran: float
    rows: int
    """Rows in the batch that it was part of."""


class _Submission(msgspec.Struct):
    inputs: Tensors
    rows: int
    future: asyncio.Future[Batched]
    arrived: float


class Batcher:
    """Groups submissions by the shape of their rows and runs them together.

    Args:
        run: a function of a batch, called in the batcher's own thread; the first axis of every input
            and output is the batch.
        max_rows: the most rows in one call; 1 turns batching off.
        max_waiting: rows that may wait before `submit` refuses.
    """

    def __init__(self, run: Run, *, max_rows: int = 32, max_waiting: int = 4096, name: str = "net") -> None:
        self._run = run
        self._queue: BatchQueue[_Submission] = BatchQueue(max_rows=max_rows, max_waiting=max_waiting)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"modelport-{name}")
        self._busy = False
        self._closed = False
        self._idle = asyncio.Event()
        self._idle.set()

    async def submit(self, inputs: Tensors, *, deadline: float = math.inf) -> Batched:
        """Run `inputs` (one or more rows, the same number in each) with whatever else is waiting.

        Raises:
            Unavailable: the queue is full, the batcher is closed, or `deadline` (seconds on
                `time.monotonic`'s clock) passed while waiting.
            ModelFailed, InputError: this submission's own failure; a neighbour's never shows here.
        """
        if self._closed:
            raise Unavailable("the server is stopping", retry_after=5.0)
        now = time.monotonic()
        rows = len(next(iter(inputs.values())))
        future: asyncio.Future[Batched] = asyncio.get_running_loop().create_future()
        submission = _Submission(inputs, rows, future, now)
        lane = tuple(sorted((name, a.dtype.str, a.shape[1:]) for name, a in inputs.items()))
        if not self._queue.push(submission, rows=rows, lane=lane, now=now, deadline=deadline):
            raise Unavailable(f"{len(self._queue)} rows are waiting already; the queue is full")
        self._start_next()
        return await future

    def __len__(self) -> int:
        """Rows that wait."""
        return len(self._queue)

    async def close(self) -> None:
        """Finish everything that was taken, refuse what comes after, and end the thread."""
        self._closed = True
        await self._idle.wait()
        await asyncio.get_running_loop().run_in_executor(None, self._thread.shutdown)

    def _start_next(self) -> None:
        """Take a batch if the executor is free; called after every push and after every batch."""
        if self._busy:
            return
        now = time.monotonic()
        for late in self._queue.expire(now):
            _settle(late, Unavailable("the deadline passed while the request waited"))
        # A caller that went away has cancelled its future: its rows are not computed.
        batch: list[_Submission] = []
        while not batch:
            taken = self._queue.pop(now)
            if not taken:
                self._idle.set()
                return
            batch = [submission for submission in taken if not submission.future.done()]
        self._busy = True
        self._idle.clear()
        loop = asyncio.get_running_loop()
        job = loop.run_in_executor(self._thread, self._compute, batch, now)
        job.add_done_callback(self._finish)

    def _finish(self, job: asyncio.Future[list[tuple[_Submission, Batched | Exception]]]) -> None:
        self._busy = False
        for submission, result in job.result():
            _settle(submission, result)
        self._start_next()

    def _compute(
        self, batch: Sequence[_Submission], started: float
    ) -> list[tuple[_Submission, Batched | Exception]]:
        """In the batcher's thread: run, and where that fails, halve until the guilty row is alone."""
        begun = time.monotonic()
        try:
            outputs = self._run(_join([submission.inputs for submission in batch]))
            rows = sum(submission.rows for submission in batch)
            parts = _split(outputs, [submission.rows for submission in batch], rows)
        except Exception as problem:  # noqa: BLE001 - the edge of a batch: every submission gets its own
            if len(batch) == 1:
                return [(batch[0], problem)]
            middle = len(batch) // 2
            return self._compute(batch[:middle], started) + self._compute(batch[middle:], started)
        ran = time.monotonic() - begun
        return [
            (submission, Batched(part, started - submission.arrived, ran, rows))
            for submission, part in zip(batch, parts, strict=True)
        ]


def _settle(submission: _Submission, result: Batched | Exception) -> None:
    if submission.future.done():
        return
    if isinstance(result, Exception):
        submission.future.set_exception(result)
    else:
        submission.future.set_result(result)


def _join(items: Sequence[Tensors]) -> Tensors:
    if len(items) == 1:
        return items[0]
    return {name: np.concatenate([item[name] for item in items]) for name in items[0]}


def _split(outputs: Tensors, sizes: Sequence[int], rows: int) -> list[dict[str, Array]]:
    """Each submission's rows.

    Raises:
        ModelFailed: an output does not have one row for each row that went in.
    """
    for name, array in outputs.items():
        if array.ndim == 0 or len(array) != rows:
            raise ModelFailed(f"output {name!r} has shape {list(array.shape)} for a batch of {rows} rows")
    ends = np.cumsum(sizes)
    return [
        {name: array[end - size : end] for name, array in outputs.items()}
        for end, size in zip(ends, sizes, strict=True)
    ]


def check_rows(inputs: Tensors) -> int:
    """The number of rows, the same in every input.

    Raises:
        InputError: no inputs, a scalar, no rows, or different numbers.
    """
    sizes = {name: len(array) if array.ndim else -1 for name, array in inputs.items()}
    if not sizes or min(sizes.values()) < 1 or len(set(sizes.values())) != 1:
        raise InputError(f"expected the same number of rows (at least one) in every input, got {sizes}")
    return next(iter(sizes.values()))
