"""One live version of a bundle: items are decoded and prepared side by side, then run in batches.

Knows the bundle's pipeline and the batcher; knows nothing of HTTP.
"""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import msgspec
import numpy as np

from ..bundle.store import Bundle
from ..errors import InputError, TooLarge, Unavailable
from ..runtimes.pipeline import Pipeline
from ..tensors import Array, Tensors
from .batcher import Batched, Batcher, check_rows

R = TypeVar("R")

MAX_IN_FLIGHT = 1024
"""Items of one model that may be anywhere between arrival and answer; more are refused with 503."""


class Timing(msgspec.Struct):
    """Where one request's time went, in milliseconds."""

    decode: float = 0.0
    pre: float = 0.0
    queue: float = 0.0
    net: float = 0.0
    post: float = 0.0
    total: float = 0.0


class Answered(msgspec.Struct, frozen=True):
    """The answer's tensors of one item (no batch axis), and its timing."""

    tensors: dict[str, Array]
    timing: Timing


class LiveModel:
    """A bundle that answers; `open` loads it, `close` finishes what was taken."""

    def __init__(self, bundle: Bundle, pipeline: Pipeline, pool: ThreadPoolExecutor, max_rows: int) -> None:
        self.bundle = bundle
        self.pipeline = pipeline
        self._pool = pool
        self._batcher = Batcher(
            pipeline.net, max_rows=max_rows if bundle.manifest.graphs.net.batch else 1, name=self.name
        )
        self._in_flight = 0

    @classmethod
    def open(cls, bundle: Bundle, pool: ThreadPoolExecutor, *, max_rows: int, threads: int) -> LiveModel:
        """Verify every digest and load the three graphs. Call it inside a running event loop."""
        bundle.verify_files()
        return cls(bundle, Pipeline.open(bundle, threads=threads), pool, max_rows)

    @property
    def name(self) -> str:
        """The model's name."""
        return self.bundle.manifest.name

    @property
    def version(self) -> str:
        """The model's version."""
        return self.bundle.manifest.version

    async def answer(self, encoded: bytes, *, deadline: float = math.inf) -> Answered:
        """Decode one encoded item and answer it."""
        return await self._whole(lambda: self.pipeline.decode(encoded), deadline)

    async def answer_decoded(self, decoded: Tensors, *, deadline: float = math.inf) -> Answered:
        """Answer one item that the caller has decoded (`image`: uint8[H, W, 3], say).

        Raises:
            InputError: it does not fit, or is empty. TooLarge: more pixels than the bundle decodes.
        """
        manifest = self.bundle.manifest
        manifest.graphs.pre.signature.check_inputs(decoded)
        for name, array in decoded.items():
            if not array.size:
                raise InputError(f"an empty tensor of shape {list(array.shape)}", at=f"$.inputs.{name}")
            if manifest.decode.kind == "image" and array.size > 3 * manifest.decode.max_pixels:
                raise TooLarge(f"more than {manifest.decode.max_pixels} pixels", at=f"$.inputs.{name}")
        return await self._whole(lambda: decoded, deadline)

    async def infer(self, batch: Tensors, *, deadline: float = math.inf) -> dict[str, Array]:
        """Run the network alone on a batch of prepared tensors.

        Raises:
            InputError: the tensors do not fit the network's signature.
        """
        self.bundle.manifest.graphs.net.signature.check_inputs(batch)
        check_rows(batch)
        with self._admit():
            done = await self._batcher.submit(batch, deadline=deadline)
        return done.outputs

    async def answer_rows(self, batch: Tensors, *, deadline: float = math.inf) -> dict[str, Array]:
        """Answer a batch of items that need no decoding (a bundle of kind `tensors`), keeping its batch axis.

        Raises:
            InputError: the tensors do not fit.
        """
        if self.bundle.manifest.steps.pre:
            rows = check_rows(batch)
            items = [{name: array[row] for name, array in batch.items()} for row in range(rows)]
            done = await asyncio.gather(*(self.answer_decoded(i, deadline=deadline) for i in items))
            return stack([answered.tensors for answered in done])
        raw = await self.infer(batch, deadline=deadline)
        return await self._in_pool(lambda: self.pipeline.post(raw))

    async def close(self) -> None:
        """Finish everything that was taken, then free the sessions."""
        await self._batcher.close()
        self.pipeline.close()

    async def _whole(self, decode: Callable[[], Tensors], deadline: float) -> Answered:
        with self._admit():
            began = time.perf_counter()
            timing = Timing()
            prepared = await self._in_pool(lambda: self._prepare(decode, timing))
            batch = {name: array[None] for name, array in prepared.items()}
            done = await self._batcher.submit(batch, deadline=deadline)
            answer = await self._in_pool(lambda: self._finish(done, timing))
            timing.total = _ms(time.perf_counter() - began)
        return Answered(answer, timing)

    def _prepare(self, decode: Callable[[], Tensors], timing: Timing) -> Mapping[str, Array]:
        start = time.perf_counter()
        decoded = decode()
        middle = time.perf_counter()
        prepared = self.pipeline.pre(decoded)
        timing.decode, timing.pre = _ms(middle - start), _ms(time.perf_counter() - middle)
        return prepared

    def _finish(self, done: Batched, timing: Timing) -> dict[str, Array]:
        start = time.perf_counter()
        answer = self.pipeline.post(done.outputs)
        timing.queue, timing.net = _ms(done.queued), _ms(done.ran)
        timing.post = _ms(time.perf_counter() - start)
        return {name: array[0] for name, array in answer.items()}

    async def _in_pool(self, work: Callable[[], R]) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)

    @contextmanager
    def _admit(self) -> Iterator[None]:
        """Count one request in and out."""
        if self._in_flight >= MAX_IN_FLIGHT:
            raise Unavailable(f"{self._in_flight} requests for {self.name!r} are in flight already")
        self._in_flight += 1
        try:
            yield
        finally:
            self._in_flight -= 1


def stack(answers: list[dict[str, Array]]) -> dict[str, Array]:
    """Items' answers with a batch axis in front.

    Raises:
        InputError: the items' answers differ in shape, so that they cannot be one tensor.
    """
    try:
        return {name: np.stack([answer[name] for answer in answers]) for name in answers[0]}
    except ValueError as problem:
        raise InputError(
            "the items' answers differ in shape and cannot be one tensor", hint="send them one by one"
        ) from problem


def usable_cores() -> int:
    """Cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _ms(seconds: float) -> float:
    return round(seconds * 1e3, 3)
