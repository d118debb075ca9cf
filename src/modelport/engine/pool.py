"""The executors of one live model: started, watched over, started again, ended."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Coroutine
from typing import Any

from ..bundle.store import Bundle
from ..errors import BundleError, ModelportError, Unavailable
from ..monitor.metrics import ModelMetrics
from .admission import warning
from .arena import Arena
from .cores import usable_cores
from .process import ExecutorProcess
from .scheduler import Scheduler
from .settings import EngineSettings
from .tasks import logged
from .wire import Job, Ready, Reply

log = logging.getLogger("modelport.engine")

_BACK_OFF = (0.1, 30.0)
"""Seconds before a dead executor is started again: the first time, and at most."""
_HEALTHY_SECONDS = 60.0
"""An executor that lived so long died by accident: the back-off starts anew."""
_BACK_SECONDS = 10.0
"""How long the end of a version is put off while no executor of it answers."""
_LOADING_PAUSES = (0.5, 2.0)
"""Seconds before an executor that died while its version loads is started again; then it is given up."""
_NICE = 10
"""How far executors that load beside a version that answers step back for it."""


class _Ended(Unavailable):
    """A process that ended before it said anything."""


class ExecutorPool:
    """Keeps executors of `bundle` in `scheduler`."""

    def __init__(
        self,
        bundle: Bundle,
        settings: EngineSettings,
        arena: Arena,
        scheduler: Scheduler,
        metrics: ModelMetrics,
        *,
        max_rows: int,
    ) -> None:
        self._bundle = bundle
        self._settings = settings
        self._arena = arena
        self._scheduler = scheduler
        self._metrics = metrics
        self._max_rows = max_rows
        self._processes: set[ExecutorProcess] = set()
        self._started: dict[ExecutorProcess, asyncio.Future[Ready]] = {}
        self._born: dict[ExecutorProcess, float] = {}
        self._failures = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._replays = 0
        self._closing = False
        self.counted = False
        """Whether the metrics are told how many answer: before and after, another bundle of the same version
        may be the one that is counted."""

    async def open(self, *, complete: bool) -> Ready:
        """Start all; what the first says, which checks digests and replays the golden cases.

        Args:
            complete: return when all of them answer, not when the first does.

        Raises:
            ModelportError: it does not load, or answers differently here.
        """
        count = self._settings.executors or usable_cores()
        # Beside a version that answers, half of the cores load and the others have no such neighbour.
        abreast = asyncio.Semaphore(max(1, usable_cores() // 2) if complete else count)

        async def start(number: int) -> Ready:
            async with abreast:
                return await self._first(check=number == 0, nice=_NICE if complete else 0)

        starting = [asyncio.ensure_future(start(number)) for number in range(count)]
        try:
            ready = await starting[0]
            if complete:
                await asyncio.gather(*starting)
        except BaseException:
            await self.close()
            await asyncio.gather(*starting, return_exceptions=True)
            raise
        for each in starting[1:]:
            self._keep(self._until_there(each))
        self.counted = True
        self._count()
        if warned := warning(ready.costs, self._settings.slo):
            manifest = self._bundle.manifest
            log.warning("model %s version %s: %s", manifest.name, manifest.version, warned)
        self._keep(self._watch())
        self._keep(self._replay())
        return ready

    async def close(self) -> None:
        """End them; their memory is the system's again."""
        self._closing = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*(each.close() for each in list(self._processes)))

    async def back(self) -> bool:
        """Whether an executor answers; where requests wait for one to come back, waits for it a while."""
        end = time.monotonic() + _BACK_SECONDS
        while not any(each.ready for each in self._scheduler.executors):
            if not self._scheduler.in_flight() or time.monotonic() > end:
                return False
            await asyncio.sleep(0.02)
        return True

    def pids(self) -> list[int]:
        """Their process ids."""
        return [each.pid for each in self._processes]

    async def replay_golden(self, case: int) -> bool:
        """Replay one golden case on the executor that has the least to do; the finding goes to the metrics.

        A recording that cannot be read any more says nothing of the answers: that is told in the log alone.

        Returns:
            Whether the case was tried; not where no executor was there, or it ended before it was through.
        """
        ready = [each for each in self._scheduler.executors if each.ready]
        if not ready:
            return False
        executor = min(ready, key=lambda each: len(each.jobs))
        heard: asyncio.Future[Reply | None] = asyncio.get_running_loop().create_future()
        self._replays += 1
        executor.send(
            Job(-self._replays, "golden", (), [case], []),
            [],
            lambda reply: None if heard.done() else heard.set_result(reply),
        )
        self._scheduler.resume()
        reply = await heard
        if reply is None:
            return False
        (group,) = reply.groups
        if group.problem is None:
            self._metrics.golden(True, group.net)
            return True
        name = self._bundle.manifest.name
        if group.problem.kind == BundleError.__name__:
            log.warning("no golden case of %s was replayed: %s", name, group.problem.message)
            return True
        self._metrics.golden(False, math.inf)
        log.error("a golden case of %s no longer replays: %s", name, group.problem)
        return True

    async def _first(self, *, check: bool, nice: int) -> Ready:
        """Start one executor of a version that loads; again, a few times, where its process ends without a
        word: that says nothing of the bundle (the system may have had no memory for it just then).

        Raises:
            ModelportError: what it says instead, or its last end.
        """
        for pause in (*_LOADING_PAUSES, None):
            if self._closing:
                raise Unavailable("it is closed")
            try:
                return await self._start(check=check, nice=nice)
            except _Ended as problem:
                if self._closing or pause is None:
                    raise
                name = self._bundle.manifest.name
                log.warning("model %s: %s; another is started in %g s", name, problem.message, pause)
                await asyncio.sleep(pause)
        raise AssertionError("the last one is returned or raised")

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
        cores = usable_cores()
        process.wide = self._settings.wide and cores > 1 and not any(each.wide for each in self._processes)
        self._processes.add(process)
        try:
            await process.start(
                self._bundle,
                self._arena,
                runtime=self._settings.runtime,
                wide=cores if process.wide else 0,
                max_rows=self._max_rows,
                check=check,
                nice=nice,
            )
            return await heard
        except OSError:
            # No process came about, so that none is lost.
            self._processes.discard(process)
            raise
        finally:
            self._started.pop(process, None)

    def _on_ready(self, process: ExecutorProcess, ready: Ready) -> None:
        heard = self._started[process]
        if ready.problem is not None:
            if not heard.done():
                heard.set_exception(ready.problem.error())
            return
        self._born[process] = time.monotonic()
        # The one with the wide session is asked first: a lone request then finds it.
        self._scheduler.executors.insert(0 if process.wide else len(self._scheduler.executors), process)
        self._count()
        if not heard.done():
            heard.set_result(ready)
        self._scheduler.resume()

    def _on_lost(self, process: ExecutorProcess) -> None:
        self._processes.discard(process)
        heard = self._started.get(process)
        if heard is not None and not heard.done():
            heard.set_exception(_Ended("an executor ended before it was ready"))
        born = self._born.pop(process, None)
        self._scheduler.on_lost(process)
        self._count()
        if born is None or self._closing:
            return
        if time.monotonic() - born > _HEALTHY_SECONDS:
            self._failures = 0
        log.error("an executor of model %s ended (pid %d)", self._bundle.manifest.name, process.pid)
        self._keep(self._restart())

    async def _until_there(self, starting: asyncio.Future[Ready]) -> None:
        """Where an executor beside the first does not start, go on trying."""
        try:
            await starting
        except (ModelportError, OSError) as problem:
            log.error("an executor of model %s did not start: %s", self._bundle.manifest.name, problem)
            await self._restart()

    async def _restart(self) -> None:
        while not self._closing:
            first, most = _BACK_OFF
            await asyncio.sleep(min(most, first * 2 ** min(self._failures, 16)))
            self._failures += 1
            try:
                await self._start(check=False)
            except (ModelportError, OSError) as problem:
                log.error(
                    "an executor of model %s did not come back: %s", self._bundle.manifest.name, problem
                )
            else:
                log.info("an executor of model %s is there again", self._bundle.manifest.name)
                return

    async def _watch(self) -> None:
        """Once a second: executors that hang are ended, on a golden case too."""
        while not self._closing:
            await asyncio.sleep(1.0)
            self._scheduler.end_hung()

    async def _replay(self) -> None:
        """Now and then a golden case, one after the other; soon again where it could not be tried."""
        golden = self._bundle.manifest.golden
        if golden is None or not golden.cases or not self._settings.golden_every:
            return
        case = 0
        wait = every = max(1.0, self._settings.golden_every)
        while not self._closing:
            await asyncio.sleep(wait)
            tried = await self.replay_golden(case % len(golden.cases))
            case += tried
            wait = every if tried else 1.0

    def _count(self) -> None:
        if self.counted and not self._closing:
            self._metrics.executors = len(self._scheduler.executors)

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(logged)
