"""What a server does beside answering: once a second, and when its repository changes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from ..engine.repository import Repository
from ..engine.traffic import Traffic
from ..engine.watch import watch
from ..errors import ModelportError

log = logging.getLogger("modelport.serve")


class Upkeep:
    """One server's.

    Args:
        sweep: called once a second, from the first connection on: limits of connections, certificates.
        every: seconds between looks at the repository's folder; 0 for none.
    """

    def __init__(
        self, repository: Repository, traffic: Traffic, *, sweep: Callable[[], None], every: float
    ) -> None:
        self.loaded = asyncio.Event()
        """To be set when the models are loaded: rollouts and the folder are looked at from then on."""
        self._repository = repository
        self._traffic = traffic
        self._sweep = sweep
        self._every = every
        self._wanted = asyncio.Event()
        self._named: dict[str, list[str]] = {}
        """The versions that rollouts named when they were last looked at."""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """All of it, until the block ends."""
        work = [self._tick(), self._load(), self._watch()]
        tasks = [asyncio.ensure_future(each) for each in work]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            try:
                self._sweep()
                if self.loaded.is_set():
                    self._turn()
            except ModelportError as problem:
                log.error("%s", problem)
            except Exception:
                log.exception("once a second")

    def _turn(self) -> None:
        """Rollouts: what changed on the disk, what their policies say, and which versions they need now."""
        traffic = self._traffic
        traffic.tick(time.time())
        named = {name: found for name in self._repository.names() if (found := traffic.wanted(name))}
        # Since the last turn, and not only in this one: a change by the admin port is known at once.
        if named != self._named:
            self._named = named
            self._wanted.set()

    async def _load(self) -> None:
        """Load what rollouts need. Beside the ticks: connections are looked after however long it takes."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            try:
                await self._repository.rescan()
            except ModelportError as problem:
                log.error("%s", problem)
            except Exception:
                log.exception("while versions of a rollout were loaded")

    async def _watch(self) -> None:
        await self.loaded.wait()
        if self._every:
            await watch(self._repository, self._every)
