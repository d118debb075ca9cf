"""Several server processes on one port: started, watched over, and ended together.

The kernel spreads connections over them (SO_REUSEPORT). Each has executors of its own; one that dies
takes its own connections with it and no others, and is started again.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from ..engine.cores import usable_cores
from ..engine.entry import Entry
from ..errors import ModelportError
from .guard.shared import SharedBuckets
from .logs import configure
from .server import grpc_parts, listen, serve, source_of
from .settings import ServeSettings
from .siblings import Siblings

log = logging.getLogger("modelport.serve")

_BACK_OFF = (0.2, 30.0)
"""Seconds before a worker that ended is started again: they double each time, up to the second."""
_DOUBLINGS = 16
_HEALTHY_SECONDS = 60.0


class State(msgspec.Struct, frozen=True):
    """A version of a model, as a worker says of itself when it is ready."""

    name: str
    version: str
    ready: bool
    reason: str = ""


class Spec(msgspec.Struct, frozen=True):
    """What a worker is told on its command line, as JSON."""

    path: str
    settings: ServeSettings
    folder: str
    number: int


def pause(failures: int) -> float:
    """Seconds before a worker is started again that ended so many times in a row, soon after its start."""
    least, most = _BACK_OFF
    return min(most, least * 2.0 ** min(failures, _DOUBLINGS))


def supervise(
    path: Path, sock: socket.socket, settings: ServeSettings, on_ready: Callable[[list[State]], None]
) -> int:
    """Run `settings.workers` servers until SIGINT or SIGTERM; the exit code.

    Args:
        sock: bound with SO_REUSEPORT and kept, so that the port stays taken; it never listens.

    Raises:
        Unsupported: gRPC is asked for and does not work here: said once, and not by every worker.
    """
    if settings.grpc_port is not None:
        grpc_parts()
    cores = usable_cores()
    engine = settings.engine
    if not engine.executors:
        engine = msgspec.structs.replace(engine, executors=max(1, cores // settings.workers))
    settings = msgspec.structs.replace(settings, engine=engine, port=sock.getsockname()[1])
    with tempfile.TemporaryDirectory(prefix="modelport-") as folder:
        rates = Path(folder) / "rates"
        SharedBuckets.create(rates)
        settings = msgspec.structs.replace(settings, shared_rates=rates)
        return asyncio.run(_Supervisor(path, settings, Path(folder), on_ready).run())


class _Supervisor:
    def __init__(
        self, path: Path, settings: ServeSettings, folder: Path, on_ready: Callable[[list[State]], None]
    ) -> None:
        self._path = path
        self._settings = settings
        self._folder = folder
        self._on_ready = on_ready
        self._processes: dict[int, asyncio.subprocess.Process] = {}
        self._stopping = asyncio.Event()
        self._failed = 0

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stopping.set)
        loop.add_signal_handler(signal.SIGHUP, self._pass_on, signal.SIGHUP)
        count = self._settings.workers
        log.info("port %d: %d workers load, and listen when they have", self._settings.port, count)
        first: list[asyncio.Future[list[State]]] = [loop.create_future() for _ in range(count)]
        keepers = [asyncio.ensure_future(self._keep(number, first[number])) for number in range(count)]
        ready = asyncio.gather(*first)
        stop = asyncio.ensure_future(self._stopping.wait())
        any_of: list[asyncio.Future[Any]] = [ready, stop, *keepers]
        await asyncio.wait(any_of, return_when=asyncio.FIRST_COMPLETED)
        if ready.done() and not self._stopping.is_set():
            self._on_ready(ready.result()[0])
        # A keeper ends only when all do, or by a fault of ours, which must not leave a server half alive.
        await asyncio.wait([stop, *keepers], return_when=asyncio.FIRST_COMPLETED)
        self._stopping.set()
        ready.cancel()
        await asyncio.gather(ready, return_exceptions=True)
        self._pass_on(signal.SIGTERM)
        await asyncio.gather(*keepers)
        return self._failed

    async def _keep(self, number: int, first: asyncio.Future[list[State]]) -> None:
        """Keep one worker running."""
        failures = 0
        while not self._stopping.is_set():
            began = time.monotonic()
            code = await self._once(number, first)
            if self._stopping.is_set():
                return
            if not first.done():
                # It never answered: another try would end the same way.
                self._failed = code or 1
                self._stopping.set()
                return
            failures = 0 if time.monotonic() - began > _HEALTHY_SECONDS else failures + 1
            wait = pause(failures)
            log.error("worker %d ended with %d; it is started again in %.1f s", number, code, wait)
            try:
                await asyncio.wait_for(self._stopping.wait(), wait)
            except TimeoutError:
                continue

    async def _once(self, number: int, first: asyncio.Future[list[State]]) -> int:
        spec = Spec(str(self._path), self._settings, str(self._folder), number)
        process = await asyncio.create_subprocess_exec(
            *(
                sys.executable,
                "-P",
                "-m",
                "modelport.serve.workers",
                msgspec.json.encode(spec, enc_hook=str).decode(),
            ),
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C comes to the supervisor, which passes it on once
        )
        self._processes[number] = process
        if self._stopping.is_set():
            process.terminate()
        assert process.stdout is not None
        line = await process.stdout.readline()
        if line and not first.done():
            first.set_result(msgspec.json.decode(line, type=list[State]))
        code = await process.wait()
        del self._processes[number]
        return code

    def _pass_on(self, number: signal.Signals) -> None:
        for process in self._processes.values():
            if process.returncode is None:
                process.send_signal(number)


def main() -> int:
    """One worker; its parent reads the first line of its output."""
    spec = msgspec.json.decode(sys.argv[1], type=Spec, dec_hook=lambda kind, value: kind(value))
    settings = spec.settings
    configure("json" if settings.log_format == "json" else "text")
    siblings = Siblings(Path(spec.folder), spec.number, settings.workers)

    def ready(entries: list[Entry], grpc: int | None) -> None:
        states = [State(each.name, each.version, each.model is not None, each.reason) for each in entries]
        sys.stdout.write(msgspec.json.encode(states).decode() + "\n")
        sys.stdout.flush()

    try:
        sock = listen(settings.host, settings.port, shared=True)
        serve(source_of(Path(spec.path)), sock, settings, on_ready=ready, siblings=siblings)
    except ModelportError as problem:
        log.error("%s", problem)
        return problem.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
