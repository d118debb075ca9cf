"""One live version of a bundle: its executors, started, watched over and ended; and what it can be asked.

Knows nothing of HTTP, and loads no graph into this process.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from msgspec.structs import asdict

from ..bundle.columns import specs_of
from ..bundle.options import check_options
from ..bundle.store import Bundle
from ..errors import InputError, TooLarge, Unavailable
from ..monitor.metrics import ModelMetrics
from ..steps.rows import check_rows as check_rows_of
from ..tensors import Array, Signature, Tensors, TensorSpec, dtype_name, readable
from .arena import Arena, Slot
from .caller import caller, tell
from .cost import CostModel
from .disk import held
from .pool import ExecutorPool
from .scheduler import Scheduler
from .settings import EngineSettings
from .submission import Done, Lane, Result, Submission
from .wire import Kind, Options, Runs, Shapes, TensorHead, pack_tensor

log = logging.getLogger("modelport.engine")

MAX_LANES = 256
"""Shapes of one model that are remembered; a new one beyond them forgets the others."""


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
    """A bundle that answers. `open` loads it, `close` finishes what was taken."""

    def __init__(self, bundle: Bundle, settings: EngineSettings, arena: Arena, metrics: ModelMetrics) -> None:
        self.bundle = bundle
        self.metrics = metrics
        self.settings = settings
        self.mirror: Callable[[Submission, LiveModel], None] | None = None
        """Called with every submission before it is queued, where a rollout watches this version."""
        self._max_rows = settings.max_rows if bundle.manifest.graphs.net.batch else 1
        self._scheduler = Scheduler(metrics, max_rows=settings.max_rows, run_limit=settings.run_limit)
        self._pool = ExecutorPool(bundle, settings, arena, self._scheduler, metrics, max_rows=self._max_rows)
        self._lanes: dict[tuple[Kind, tuple[TensorHead, ...]], Lane] = {}
        self._costs: dict[str, CostModel] = {}
        self._tried: list[tuple[int, float]] = []
        """(rows, seconds) of the network's trial runs, which every kind of work begins with."""
        self._closing = False
        self.runs = Runs()
        """Which form of the network answers, and what runs it; empty until it does."""

    @classmethod
    async def open(
        cls,
        bundle: Bundle,
        settings: EngineSettings,
        arena: Arena,
        metrics: ModelMetrics,
        *,
        complete: bool = False,
    ) -> LiveModel:
        """Start the executors; the first checks digests and replays the golden cases before anybody asks.

        Args:
            complete: return when all executors answer (for a swap under load), not when the first does.

        Raises:
            BundleError, ParityFailed, Unsupported: it does not load, or answers differently here.
        """
        model = cls(await asyncio.to_thread(held, bundle), settings, arena, metrics)
        ready = await model._pool.open(complete=complete)
        model._tried, model.runs = ready.costs, ready.runs
        if ready.golden is not None:
            metrics.golden(True, ready.golden)
        metrics.ready = True
        metrics.info = {"digest": bundle.digest, "task": bundle.manifest.task, **asdict(ready.runs)}
        return model

    @property
    def name(self) -> str:
        """The model's name."""
        return self.bundle.manifest.name

    @property
    def version(self) -> str:
        """The model's version."""
        return self.bundle.manifest.version

    @property
    def healthy(self) -> bool:
        """Whether an executor is there to answer now."""
        return not self._closing and any(each.ready for each in self._scheduler.executors)

    def costs(self) -> dict[str, dict[str, Any]]:
        """What runs have cost, by kind of work: seconds a row by batch size, and the size preferred."""
        return {
            kind: {"seconds_per_row": dict(cost.curve()), "best_rows": cost.best_rows()}
            for kind, cost in self._costs.items()
        }

    # -- asked ---------------------------------------------------------------------------------------------

    def lane(self, kind: Kind, tensors: tuple[TensorHead, ...] = ()) -> Lane:
        """The lane of one kind of work on one shape of row."""
        lane = self._lanes.get((kind, tensors))
        if lane is None:
            if len(self._lanes) >= MAX_LANES:
                self._lanes.clear()
            lane = self._lanes[kind, tensors] = Lane(kind, tensors, self._cost(kind))
        return lane

    def submit(
        self,
        lane: Lane,
        rows: int,
        data: Sequence[Any],
        done: Done,
        *,
        deadline: float = math.inf,
        slot: Slot | None = None,
        starts: Sequence[int] = (),
        options: Options | None = None,
        shapes: Shapes = (),
    ) -> Submission:
        """Queue bytes that fit `lane`; `done` is called with the result or the error, perhaps at once."""
        now = time.monotonic()
        if deadline == math.inf and (asking := caller.get()) is not None:
            deadline = asking.deadline
        if deadline == math.inf:
            deadline = now + self.settings.timeout
        submission = Submission(lane, rows, data, done, now, deadline, slot, starts, options, shapes)
        self.enqueue(submission)
        return submission

    def enqueue(self, submission: Submission) -> None:
        """Queue a submission that fits its lane; it is settled later, or at once if it is refused."""
        if self._closing:
            self.metrics.refused("stopping")
            submission.settle(Unavailable(f"version {self.version} of {self.name!r} was unloaded"))
            return
        if self.mirror is not None:
            self.mirror(submission, self)
        self._scheduler.submit(submission)

    async def answer(
        self, encoded: bytes | memoryview, *, deadline: float = math.inf, options: Options | None = None
    ) -> Answered:
        """Decode one encoded item and answer it.

        Args:
            options: what `check_options` made of the caller's; None for the bundle's own.

        Raises:
            InputError, TooLarge, UnsupportedMedia: the bytes are not such an item.
            Unavailable: it would not be answered by `deadline` (seconds on `time.monotonic`'s clock).
        """
        return answered(await self.ask(self.lane("encoded"), 1, [encoded], deadline, options=options))

    async def answer_decoded(
        self, decoded: Tensors, *, deadline: float = math.inf, options: Options | None = None
    ) -> Answered:
        """Answer one item that the caller has decoded (`image`: uint8[H, W, 3], say).

        Raises:
            InputError: it does not fit, or is empty. TooLarge: more pixels than the bundle decodes.
        """
        self.check_decoded(decoded)
        # Items of all sizes share a lane: each is prepared by itself, and what comes of it is of one size.
        heads = tuple(TensorHead(name, dtype_name(a), (-1,) * a.ndim) for name, a in decoded.items())
        data = [pack_tensor(array) for array in decoded.values()]
        shapes = tuple(array.shape for array in decoded.values())
        lane = self.lane("decoded", heads)
        return answered(await self.ask(lane, 1, data, deadline, options=options, shapes=shapes))

    async def infer(self, batch: Tensors, *, deadline: float = math.inf) -> dict[str, Array]:
        """Run the network alone on a batch of prepared tensors.

        Raises:
            InputError: the tensors do not fit the network's signature.
        """
        self.bundle.manifest.graphs.net.signature.check_inputs(batch)
        return (await self._ask_rows("net", batch, deadline)).arrays()

    async def answer_rows(
        self, batch: Tensors, *, deadline: float = math.inf, options: Options | None = None
    ) -> dict[str, Array]:
        """Answer a batch of items that need no decoding (a bundle of kind `tensors`, rows of a table, texts),
        keeping its batch axis.

        Raises:
            InputError: the tensors do not fit.
        """
        if self.bundle.manifest.decode.kind == "table":
            return (await self.timed_rows(batch, deadline=deadline, options=options))[0]
        if self.bundle.manifest.steps.pre:
            rows = check_rows(batch)
            items = [{name: array[row, ...] for name, array in batch.items()} for row in range(rows)]
            work = [self.answer_decoded(item, deadline=deadline, options=options) for item in items]
            done = await asyncio.gather(*work)
            return stack([each.tensors for each in done])
        self.bundle.manifest.graphs.net.signature.check_inputs(batch)
        return (await self._ask_rows("rows", batch, deadline, options)).arrays()

    async def timed_rows(
        self, rows: Tensors, *, deadline: float = math.inf, options: Options | None = None
    ) -> tuple[dict[str, Array], Timing]:
        """Rows of a table, `[rows, 1]` for each column, answered in one run, with its timing.

        Raises:
            InputError: they do not fit the columns.
        """
        columns = self.bundle.manifest.columns
        specs = [TensorSpec(spec.name, spec.dtype, ("batch", 1)) for spec in specs_of(columns)]
        Signature(tuple(specs), ()).check_inputs(rows)
        check_rows_of(rows, columns)
        result = await self._ask_rows("rows", rows, deadline, options)
        return result.arrays(), timing_of(result)

    def check_decoded(self, decoded: Tensors) -> None:
        """Raises InputError or TooLarge where a decoded item is not what `pre` takes."""
        manifest = self.bundle.manifest
        manifest.graphs.pre.signature.check_inputs(decoded)
        for name, array in decoded.items():
            if not array.size:
                raise InputError(f"an empty tensor of shape {list(array.shape)}", at=f"$.inputs.{name}")
            if manifest.decode.kind == "image" and array.size > 3 * manifest.decode.max_pixels:
                raise TooLarge(f"more than {manifest.decode.max_pixels} pixels", at=f"$.inputs.{name}")

    def check_options(self, given: Mapping[str, Any]) -> Options | None:
        """What a caller gave as options (text from an address is converted); None for nothing.

        Raises:
            InputError: an unknown name, with those that there are, or a value out of its range.
        """
        return check_options(self.bundle.manifest, given) if given else None

    def readable(self, tensors: Tensors) -> list[dict[str, Any]] | dict[str, Any]:
        """One item's answer for people and JSON: labels with scores, or nested lists by name."""
        return readable(tensors)

    async def _ask_rows(
        self, kind: Kind, batch: Tensors, deadline: float, options: Options | None = None
    ) -> Result:
        rows = check_rows(batch)
        heads = tuple(TensorHead(name, dtype_name(array), array.shape[1:]) for name, array in batch.items())
        data = [pack_tensor(array) for array in batch.values()]
        return await self.ask(self.lane(kind, heads), rows, data, deadline, options=options)

    async def ask(
        self,
        lane: Lane,
        rows: int,
        data: Sequence[Any],
        deadline: float,
        *,
        slot: Slot | None = None,
        starts: Sequence[int] = (),
        options: Options | None = None,
        shapes: Shapes = (),
    ) -> Result:
        """`submit`, and wait for the result; who is cancelled meanwhile is dropped before it is computed.

        Raises:
            ModelportError: what the submission ended with instead.
        """
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()

        def done(result: Result | Exception) -> None:
            if future.done():
                return
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)

        submission = self.submit(
            lane,
            rows,
            data,
            done,
            deadline=deadline,
            slot=slot,
            starts=starts,
            options=options,
            shapes=shapes,
        )
        try:
            result = await future
        except asyncio.CancelledError:
            submission.cancelled = True
            raise
        except Exception:
            if (asking := caller.get()) is not None:
                asking.counted = True  # as this model's, by the scheduler
            raise
        tell(self.name, self.version, result)
        return result

    def _cost(self, kind: str) -> CostModel:
        if kind not in self._costs:
            cost = self._costs[kind] = CostModel(self._max_rows, self.settings.slo / 2 or math.inf)
            for rows, seconds in self._tried:
                cost.observe(rows, seconds)
        return self._costs[kind]

    # -- its life --------------------------------------------------------------------------------------------

    def retire(self) -> None:
        """Count no more, as ready or in executors: another bundle of the same version may be there by now."""
        self.metrics.ready = False
        self._pool.counted = False

    async def close(self) -> None:
        """Finish everything that was taken, then end the executors."""
        if await self._pool.back():
            await self._scheduler.drained()
        self._closing = True
        self._scheduler.fail_all(Unavailable(f"version {self.version} of {self.name!r} was unloaded"))
        await self._pool.close()

    async def replay_golden(self, case: int) -> bool:
        """Replay one golden case on an executor; whether it was tried: the finding goes to the metrics."""
        return await self._pool.replay_golden(case)

    def pids(self) -> list[int]:
        """The executors' process ids."""
        return self._pool.pids()


def answered(result: Result) -> Answered:
    """A result of one item, without its batch axis."""
    return Answered({name: array[0, ...] for name, array in result.arrays().items()}, timing_of(result))


def timing_of(result: Result) -> Timing:
    """Where the time of a result went."""
    group = result.group
    parts = (group.decode, group.pre, result.queued, group.net, group.post, result.seconds)
    return Timing(*map(_ms, parts))


def check_rows(inputs: Tensors) -> int:
    """The number of rows, the same in every input.

    Raises:
        InputError: no inputs, a scalar, no rows, or different numbers.
    """
    sizes = {name: len(array) if array.ndim else -1 for name, array in inputs.items()}
    if not sizes or min(sizes.values()) < 1 or len(set(sizes.values())) != 1:
        raise InputError(f"expected the same number of rows (at least one) in every input, got {sizes}")
    return next(iter(sizes.values()))


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


def _ms(seconds: float) -> float:
    return round(seconds * 1e3, 3)
