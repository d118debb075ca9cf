"""One live version of a bundle: its executors, started, watched over and ended; and what it can be asked.

Knows nothing of HTTP, and loads no graph into this process.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np

from ..bundle.store import Bundle
from ..errors import InputError, ParityFailed, TooLarge, Unavailable
from ..monitor.metrics import ModelMetrics
from ..tensors import Array, Tensors, dtype_name, readable
from .arena import Arena, Slot
from .caller import caller
from .cost import CostModel
from .process import ExecutorProcess
from .scheduler import Scheduler
from .submission import Done, Lane, Result, Submission
from .wire import Job, Kind, Ready, Reply, TensorHead, pack_tensor

log = logging.getLogger("modelport.engine")

MAX_LANES = 256
"""Shapes of one model that are remembered; a new one beyond them forgets the others."""
_BACK_OFF = (0.1, 30.0)
"""Seconds before a dead executor is started again: the first time, and at most."""
_HEALTHY_SECONDS = 60.0
"""An executor that lived so long died by accident: the back-off starts anew."""


class EngineSettings(msgspec.Struct, frozen=True):
    """How models are run; every default is measured or follows from the machine."""

    executors: int = 0
    """Processes of one model side by side; 0 is one for each core."""
    max_rows: int = 64
    runtime: str = "onnxruntime"
    timeout: float = 30.0
    """Seconds within which a request that says nothing else is answered or refused."""
    slo: float = math.inf
    """Seconds within which answers are promised: a run takes at most half of it where that can be had."""
    run_limit: float = 60.0
    """Seconds after which one run counts as hung."""
    wide: bool = True
    """Whether a lone request may use every core (costs a second copy of the network)."""
    golden_every: float = 300.0
    """Seconds between live replays of golden cases; 0 for none."""


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
        self._arena = arena
        self._max_rows = settings.max_rows if bundle.manifest.graphs.net.batch else 1
        self._scheduler = Scheduler(metrics, max_rows=settings.max_rows, run_limit=settings.run_limit)
        self._lanes: dict[tuple[Kind, tuple[TensorHead, ...]], Lane] = {}
        self._costs: dict[str, CostModel] = {}
        self._processes: set[ExecutorProcess] = set()
        self._started: dict[ExecutorProcess, asyncio.Future[Ready]] = {}
        self._failures = 0
        self._born: dict[ExecutorProcess, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closing = False

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
        model = cls(bundle, settings, arena, metrics)
        count = settings.executors or usable_cores()
        starting = [
            asyncio.ensure_future(model._start(check=number == 0, nice=10 if complete else 0))
            for number in range(count)
        ]
        try:
            ready = await starting[0]
            if complete:
                await asyncio.gather(*starting)
        except BaseException:
            await model.close()
            await asyncio.gather(*starting, return_exceptions=True)
            raise
        for each in starting[1:]:
            each.add_done_callback(_logged)
        for rows, seconds in ready.costs:
            model._cost("net").observe(rows, seconds)
        if ready.golden is not None:
            metrics.golden(True, ready.golden)
        metrics.ready = True
        model._keep(model._watch())
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

    def pids(self) -> list[int]:
        """The executors' process ids."""
        return [each.pid for each in self._processes]

    def costs(self) -> dict[str, dict[str, Any]]:
        """What runs have cost, by kind of work: seconds a row by batch size, and the size preferred."""
        return {
            kind: {"seconds_per_row": dict(cost.curve()), "best_rows": cost.best_rows()}
            for kind, cost in self._costs.items()
        }

    def drain_seconds(self) -> float:
        """Seconds until what waits and runs now is through."""
        return self._scheduler.drain_seconds()

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
    ) -> Submission:
        """Queue bytes that fit `lane`; `done` is called with the result or the error, perhaps at once."""
        now = time.monotonic()
        if deadline == math.inf:
            asking = caller.get()
            if asking is not None:
                deadline = asking.deadline
            latest = now + self.settings.timeout
            deadline = min(deadline, latest)
        submission = Submission(lane, rows, data, done, now, deadline, slot, starts)
        if self._closing:
            submission.settle(Unavailable(f"version {self.version} of {self.name!r} was unloaded"))
            return submission
        if self.mirror is not None:
            self.mirror(submission, self)
        self._scheduler.submit(submission)
        return submission

    async def answer(self, encoded: bytes | memoryview, *, deadline: float = math.inf) -> Answered:
        """Decode one encoded item and answer it.

        Raises:
            InputError, TooLarge, UnsupportedMedia: the bytes are not such an item.
            Unavailable: it would not be answered by `deadline` (seconds on `time.monotonic`'s clock).
        """
        return answered(await self._ask(self.lane("encoded"), 1, [encoded], deadline))

    async def answer_decoded(self, decoded: Tensors, *, deadline: float = math.inf) -> Answered:
        """Answer one item that the caller has decoded (`image`: uint8[H, W, 3], say).

        Raises:
            InputError: it does not fit, or is empty. TooLarge: more pixels than the bundle decodes.
        """
        self.check_decoded(decoded)
        heads = tuple(TensorHead(name, dtype_name(array), array.shape) for name, array in decoded.items())
        data = [pack_tensor(array) for array in decoded.values()]
        return answered(await self._ask(self.lane("decoded", heads), 1, data, deadline))

    async def infer(self, batch: Tensors, *, deadline: float = math.inf) -> dict[str, Array]:
        """Run the network alone on a batch of prepared tensors.

        Raises:
            InputError: the tensors do not fit the network's signature.
        """
        self.bundle.manifest.graphs.net.signature.check_inputs(batch)
        return (await self._ask_rows("net", batch, deadline)).arrays()

    async def answer_rows(self, batch: Tensors, *, deadline: float = math.inf) -> dict[str, Array]:
        """Answer a batch of items that need no decoding (a bundle of kind `tensors`), keeping its batch axis.

        Raises:
            InputError: the tensors do not fit.
        """
        if self.bundle.manifest.steps.pre:
            rows = check_rows(batch)
            items = [{name: array[row] for name, array in batch.items()} for row in range(rows)]
            done = await asyncio.gather(*(self.answer_decoded(item, deadline=deadline) for item in items))
            return stack([each.tensors for each in done])
        self.bundle.manifest.graphs.net.signature.check_inputs(batch)
        return (await self._ask_rows("rows", batch, deadline)).arrays()

    def check_decoded(self, decoded: Tensors) -> None:
        """Raises InputError or TooLarge where a decoded item is not what `pre` takes."""
        manifest = self.bundle.manifest
        manifest.graphs.pre.signature.check_inputs(decoded)
        for name, array in decoded.items():
            if not array.size:
                raise InputError(f"an empty tensor of shape {list(array.shape)}", at=f"$.inputs.{name}")
            if manifest.decode.kind == "image" and array.size > 3 * manifest.decode.max_pixels:
                raise TooLarge(f"more than {manifest.decode.max_pixels} pixels", at=f"$.inputs.{name}")

    def readable(self, tensors: Tensors) -> list[dict[str, Any]] | dict[str, Any]:
        """One item's answer for people and JSON: labels with scores, or nested lists by name."""
        return readable(tensors)

    async def _ask_rows(self, kind: Kind, batch: Tensors, deadline: float) -> Result:
        rows = check_rows(batch)
        heads = tuple(TensorHead(name, dtype_name(array), array.shape[1:]) for name, array in batch.items())
        data = [pack_tensor(array) for array in batch.values()]
        return await self._ask(self.lane(kind, heads), rows, data, deadline)

    async def _ask(self, lane: Lane, rows: int, data: Sequence[Any], deadline: float) -> Result:
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()

        def done(result: Result | Exception) -> None:
            if future.done():
                return
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)

        submission = self.submit(lane, rows, data, done, deadline=deadline)
        try:
            return await future
        except asyncio.CancelledError:
            submission.cancelled = True
            raise

    def _cost(self, kind: str) -> CostModel:
        if kind not in self._costs:
            self._costs[kind] = CostModel(self._max_rows, self.settings.slo / 2)
        return self._costs[kind]

    # -- the executors -------------------------------------------------------------------------------------

    async def close(self) -> None:
        """Finish everything that was taken, then end the executors; their memory is the system's again."""
        if self.healthy:
            await self._scheduler.drained()
        self._closing = True
        self.metrics.ready = False
        for task in self._tasks:
            task.cancel()
        self._scheduler.fail_all(Unavailable(f"version {self.version} of {self.name!r} was unloaded"))
        await asyncio.gather(*(each.close() for each in list(self._processes)))

    async def replay_golden(self, case: int) -> None:
        """Replay one golden case on an executor that is free; the finding goes to the metrics."""
        free = [each for each in self._scheduler.executors if each.ready and not each.jobs]
        if not free:
            return
        heard: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        free[0].send(Job(-1, "golden", (), [case], []), [], heard.set_result)
        (group,) = (await heard).groups
        if group.problem is None:
            self.metrics.golden(True, group.net)
            return
        self.metrics.golden(False, math.inf)
        log.error(
            "model %s version %s: a golden case no longer replays: %s", self.name, self.version, group.problem
        )

    async def _start(self, *, check: bool, nice: int = 0) -> Ready:
        """Start one executor and wait until it answers.

        Raises:
            ModelportError: what it says instead.
        """
        process = ExecutorProcess(
            on_ready=self._on_ready, on_reply=self._scheduler.on_reply, on_lost=self._on_lost
        )
        heard: asyncio.Future[Ready] = asyncio.get_running_loop().create_future()
        self._started[process] = heard
        self._processes.add(process)
        cores = usable_cores()
        await process.start(
            self.bundle,
            self._arena,
            runtime=self.settings.runtime,
            wide=cores if self.settings.wide and cores > 1 else 0,
            max_rows=self._max_rows,
            check=check,
            nice=nice,
        )
        try:
            return await heard
        finally:
            self._started.pop(process, None)

    def _on_ready(self, process: ExecutorProcess, ready: Ready) -> None:
        heard = self._started[process]
        if ready.problem is not None:
            if not heard.done():
                heard.set_exception(ready.problem.error())
            return
        self._born[process] = time.monotonic()
        self._scheduler.executors.append(process)
        self.metrics.executors = len(self._scheduler.executors)
        if not heard.done():
            heard.set_result(ready)
        self._scheduler.resume()

    def _on_lost(self, process: ExecutorProcess) -> None:
        self._processes.discard(process)
        heard = self._started.get(process)
        if heard is not None and not heard.done():
            heard.set_exception(Unavailable("an executor ended before it was ready"))
        born = self._born.pop(process, None)
        self._scheduler.on_lost(process)
        self.metrics.executors = len(self._scheduler.executors)
        if born is None or self._closing:
            return
        if time.monotonic() - born > _HEALTHY_SECONDS:
            self._failures = 0
        log.error("an executor of model %s version %s ended (pid %d)", self.name, self.version, process.pid)
        self._keep(self._restart())

    async def _restart(self) -> None:
        while not self._closing:
            first, most = _BACK_OFF
            await asyncio.sleep(min(most, first * 2**self._failures))
            self._failures += 1
            try:
                await self._start(check=False)
            except (Unavailable, InputError, ParityFailed, OSError) as problem:
                log.error("an executor of model %s did not come back: %s", self.name, problem)
            else:
                return

    async def _watch(self) -> None:
        """Once a second: executors that hang are ended; now and then a golden case is replayed."""
        golden = self.bundle.manifest.golden
        case = 0
        due = time.monotonic() + self.settings.golden_every
        while not self._closing:
            await asyncio.sleep(1.0)
            self._scheduler.end_hung()
            if golden and golden.cases and self.settings.golden_every and time.monotonic() > due:
                await self.replay_golden(case % len(golden.cases))
                case += 1
                due = time.monotonic() + self.settings.golden_every

    def _keep(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(_logged)


def answered(result: Result) -> Answered:
    """A result of one item, without its batch axis."""
    group = result.group
    timing = Timing(
        _ms(group.decode),
        _ms(group.pre),
        _ms(result.queued),
        _ms(group.net),
        _ms(group.post),
        _ms(result.seconds),
    )
    return Answered({name: array[0] for name, array in result.arrays().items()}, timing)


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


def usable_cores() -> int:
    """Cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _ms(seconds: float) -> float:
    return round(seconds * 1e3, 3)


def _logged(task: asyncio.Future[Any]) -> None:
    """Exceptions of tasks that nobody awaits are at least read and told."""
    if not task.cancelled() and (problem := task.exception()) is not None:
        log.error("%s: %s", type(problem).__name__, problem)
