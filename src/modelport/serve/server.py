"""Runs a server until it is told to stop; what was taken by then is finished."""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import signal
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from ..bundle.layout import find_bundles
from ..bundle.store import Bundle
from ..engine.entry import Entry
from ..engine.repository import Repository
from ..engine.traffic import RepositoryVersions, Traffic
from ..errors import BundleError, NotFound, Unsupported, UsageError
from ..monitor.metrics import Metrics
from ..monitor.process import Processes
from .app import create_admin_app, create_app, open_guard
from .front import Finished, Front
from .guard.tls import Certificate
from .http1 import Connection
from .limits import Limits
from .listener import Server
from .logs import AccessLog
from .memory import BodyMemory
from .refused import Refusals
from .settings import ServeSettings
from .siblings import Siblings
from .steer import Steering
from .trace import Tracer
from .upkeep import Upkeep

log = logging.getLogger("modelport.serve")

OnReady = Callable[[list[Entry], int | None], None] | None
"""Called with every model's state, and the port of gRPC if there is one."""
BACKLOG = 4096
_SPARE_FILES = 128


def listen(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A socket bound to the address; port 0 takes a free one.

    Args:
        shared: whether other processes may bind the same port (SO_REUSEPORT).

    Raises:
        UsageError: the address cannot be bound, with what to do.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        sock.bind((host, port))
    except (OSError, OverflowError) as problem:
        sock.close()
        raise UsageError(
            f"cannot listen on {host}:{port}: {problem}",
            hint="choose another with --port"
            if isinstance(problem, OSError) and problem.errno in (errno.EADDRINUSE, errno.EACCES)
            else "choose an address of this machine with --host",
        ) from problem
    return sock


def source_of(path: Path) -> Path | list[Bundle]:
    """A repository's folder as it is, to be looked at again; anything else as the one bundle that it means.

    Raises:
        NotFound, BundleError, UsageError: there is nothing to serve.
    """
    try:
        find_bundles(path)
    except NotFound:
        return [Bundle.open(path)]
    return path


def serve(
    source: Path | Sequence[Bundle],
    sock: socket.socket,
    settings: ServeSettings,
    *,
    on_ready: OnReady = None,
    siblings: Siblings | None = None,
) -> None:
    """Serve on `sock` until SIGINT or SIGTERM, then finish the requests that were taken.

    Args:
        siblings: the processes beside this one that answer on the same port.
        on_ready: called once with every model's state, when they are loaded. A server that is alone on its
            port listens before that, and refuses what is asked of a model that is not there yet (503).

    Raises:
        BundleError: not one model could be loaded.
    """
    serving = Serving(source, settings, siblings)
    _run(serving.run(sock, on_ready))


def _within_descriptors(limits: Limits) -> Limits:
    """As many connections as the system lets this process have files open, a few kept for itself."""
    try:
        import resource
    except ImportError:
        return limits
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    if soft == resource.RLIM_INFINITY or limits.max_connections <= soft - _SPARE_FILES:
        return limits
    log.warning("at most %d connections: the system allows %d open files", soft - _SPARE_FILES, soft)
    return msgspec.structs.replace(limits, max_connections=max(1, soft - _SPARE_FILES))


def grpc_parts() -> tuple[Any, Any]:
    """What starts gRPC, and its certificates; asked for before models are loaded, which takes long.

    Raises:
        Unsupported: grpcio is not there, or does not go with the protobuf that is.
    """
    try:
        from .grpc.server import start_grpc
        from .grpc.tls import TlsFiles
    except Exception as problem:
        # grpcio's packages refuse a protobuf that another package has put in the place of theirs,
        # with an error of protobuf's own.
        words = " ".join(str(problem).split())[:300]
        upgrade = "" if isinstance(problem, ModuleNotFoundError) else "--upgrade "
        install = f"pip install {upgrade}'modelport[grpc]', or '.[grpc]' in a checkout"
        raise Unsupported(
            f"gRPC does not work here ({type(problem).__name__}: {words})", hint=install
        ) from problem
    return start_grpc, TlsFiles


def _quiet_collector() -> None:
    """What was made until now stays; and requests leave no cycles, so that there is little to look for."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 50)


def _run(work: Awaitable[None]) -> None:
    """On uvloop, where there is one (not on Windows)."""
    try:
        import uvloop
    except ImportError:
        factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    else:
        factory = uvloop.new_event_loop

    async def main() -> None:
        await work

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())


class Serving:
    """One server process: its models, its listeners, and its end."""

    def __init__(
        self,
        source: Path | Sequence[Bundle],
        settings: ServeSettings,
        siblings: Siblings | None = None,
    ) -> None:
        self._source = source
        self._siblings = siblings
        self.settings = settings.checked()
        self.guard = open_guard(settings)
        self.certificate = (
            Certificate(settings.tls_cert, settings.tls_key, client_ca=settings.tls_client_ca)
            if settings.tls_cert
            else None
        )
        self.metrics = Metrics()
        self.guard.refused = self.metrics.refused
        self.stopping = asyncio.Event()
        self._limits = _within_descriptors(self.settings.limits)
        self._memory = BodyMemory(self._limits.max_buffered)
        self._memory.refused = self.metrics.refused
        self._servers: list[Server] = []
        self._listeners: list[Any] = []
        self._grpc_server: Any = None
        self._fronts: list[Front] = []
        self._collected = 0

    async def run(self, sock: socket.socket, on_ready: OnReady) -> None:
        """Load, listen, answer, and stop when told."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.stopping.set)
        loop.add_signal_handler(signal.SIGHUP, self._renew)
        settings = self.settings
        if settings.grpc_port is not None:
            grpc_parts()
        repository = Repository(self._source, settings.engine, metrics=self.metrics, keep=settings.keep)
        traffic = Traffic(
            RepositoryVersions(repository), metrics=self.metrics.model, judges=self.settings.workers
        )
        steering = Steering(repository, traffic)
        upkeep = Upkeep(repository, traffic, sweep=self._sweep, every=settings.watch)
        try:
            async with AsyncExitStack() as listening:
                # What there is: who asks too early is told that it is loading, and not unknown; and what the
                # workers beside this one were told is of models that are known.
                await repository.look()
                if self._siblings is not None:
                    self._siblings.look = traffic.look
                    await self._siblings.open(repository)
                else:
                    await listening.enter_async_context(self._listening(sock, repository, traffic, upkeep))
                    names = repository.names()
                    what = f"model {names[0]}" if len(names) == 1 else f"{len(names)} models"
                    log.info("%s listens and loads %s", self._url(sock), what)
                if await self._opened(repository):
                    _quiet_collector()
                    traffic.tick(time.time())
                    if self._siblings is not None:
                        await self._siblings.catch_up()
                        # Not before it answers: the workers beside it do, and get the callers meanwhile.
                        await listening.enter_async_context(
                            self._listening(sock, repository, traffic, upkeep)
                        )
                    upkeep.loaded.set()
                    if on_ready and not self.stopping.is_set():
                        on_ready(repository.entries(), self._grpc_server.port if self._grpc_server else None)
                    await self.stopping.wait()
                await self._stop()
        finally:
            del steering
            if self._siblings is not None:
                self._siblings.close()
            await repository.close()

    def _url(self, sock: socket.socket) -> str:
        host, port = sock.getsockname()[:2]
        return f"{'https' if self.certificate else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"

    async def _opened(self, repository: Repository) -> bool:
        """Load the models; false where the server is told to stop before they are: that is not waited for.

        Raises:
            BundleError: not one of them loads.
        """
        opening = asyncio.ensure_future(repository.open())
        stopping = asyncio.ensure_future(self.stopping.wait())
        await asyncio.wait([opening, stopping], return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not opening.done():
            opening.cancel()
            await asyncio.gather(opening, return_exceptions=True)
            return False
        await opening
        # What is not wanted was unloaded by name, of the workers beside this one.
        if not any(entry.model or entry.wanted is False for entry in repository.entries()):
            raise BundleError(
                "no model could be loaded", hint="the lines above say why; modelport verify says more"
            )
        return True

    @asynccontextmanager
    async def _listening(
        self, sock: socket.socket, repository: Repository, traffic: Traffic, upkeep: Upkeep
    ) -> AsyncIterator[None]:
        """Every listener that was asked for, and what is done once a second; where one fails, none stays."""
        settings = self.settings
        tracer = Tracer.open()
        access = (
            AccessLog("json" if settings.log_format == "json" else "text") if settings.access_log else None
        )
        app = create_app(repository, settings, guard=self.guard)
        self._fill(app.state, repository, traffic)
        front = Front(app, sock.getsockname()[:2], settings, repository=repository, guard=self.guard)
        if front.short is not None:
            repository.on_retired = front.short.forget
        finished = Finished(access, tracer) if access or tracer else None
        try:
            await self._listen(sock, front, repository, finished)
            if settings.admin_port is not None:
                admin = create_admin_app(repository, settings, self.guard)
                self._fill(admin.state, repository, traffic)
                other = listen(settings.host, settings.admin_port, shared=settings.workers > 1)
                await self._listen(
                    other, Front(admin, other.getsockname()[:2], settings, guard=self.guard), repository
                )
            if settings.grpc_port is not None:
                self._grpc_server = await self._grpc(app.state, finished)
            async with upkeep.running():
                yield
        finally:
            for listener in self._listeners:
                listener.close()
            if access is not None:
                access.close()
            if tracer is not None:
                tracer.close()

    async def _listen(
        self, sock: socket.socket, front: Front, repository: Repository, finished: Finished | None = None
    ) -> None:
        server = Server(front, self._limits, repository.arena, self._memory)
        server.admits, server.finished = front.admits, finished
        self._fronts.append(front)
        server.refused = self.metrics.refused
        server.erred = Refusals(repository).replied
        context = self.certificate.context if self.certificate else None
        listener = await asyncio.get_running_loop().create_server(
            lambda: Connection(server),
            sock=sock,
            ssl=context,
            backlog=BACKLOG,
            ssl_handshake_timeout=self.settings.limits.head_seconds if context else None,
        )
        self._servers.append(server)
        self._listeners.append(listener)

    async def _grpc(self, state: Any, finished: Finished | None) -> Any:
        start_grpc, tls_files = grpc_parts()
        settings = self.settings
        files = (settings.tls_cert, settings.tls_key, settings.tls_client_ca)
        tls = tls_files(*files) if settings.tls_cert else None
        return await start_grpc(
            state,
            settings.host,
            settings.grpc_port or 0,
            tls=tls,
            guard=self.guard,
            max_message=settings.limits.max_body,
            max_connections=self._limits.max_connections,
            memory=self._memory,
            reuse_port=settings.workers > 1,
            finished=(
                lambda caller, path, status, seconds: finished.record(
                    caller, "POST", path, path, status, seconds, caller.told, caller.address
                )
            )
            if finished is not None
            else None,
        )

    def _renew(self) -> None:
        """SIGHUP: the certificate's files are read again now, not when the clock gets to it."""
        if self.certificate is not None:
            self.certificate.refresh(time.monotonic(), at_once=True)

    def _fill(self, state: Any, repository: Repository, traffic: Traffic) -> None:
        """What endpoints find in `request.app.state` of a running server."""
        state.traffic = traffic
        state.management = self.settings.admin_port is not None
        state.stopping = self.stopping.is_set
        state.processes = Processes(lambda: {"executor": repository.pids()})
        state.rollout = lambda: {name: traffic.report(name) for name in repository.names() if name in traffic}
        if self._siblings is not None:
            state.collect, state.processes = self._siblings.collect, self._siblings.processes
            state.follow = self._siblings.follow

    def _sweep(self) -> None:
        taken = sum(front.bridge.taken for front in self._fronts)
        if taken != self._collected:
            # An exception and its frames hold each other, and with them the body that was refused.
            gc.collect()
            self._collected = taken
        for server in self._servers:
            server.sweep()
        if self.certificate is not None:
            self.certificate.refresh(time.monotonic())

    async def _stop(self) -> None:
        """Take no more, finish what was taken, however it came."""
        both = [self._stop_http()]
        if self._grpc_server is not None:
            both.append(self._grpc_server.stop(grace=self.settings.stop_seconds))
        await asyncio.gather(*both)

    async def _stop_http(self) -> None:
        for listener in self._listeners:
            listener.close()
        end = time.monotonic() + self.settings.stop_seconds
        while time.monotonic() < end:
            for server in self._servers:
                server.close_idle()
            if not any(server.connections for server in self._servers):
                return
            await asyncio.sleep(0.02)
        log.warning("requests were cut off after %g s", self.settings.stop_seconds)
