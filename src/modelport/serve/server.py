"""Runs the application until it is told to stop; what was taken by then is finished."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable, Sequence

import uvicorn

from ..bundle.store import Bundle
from ..engine.repository import Entry
from ..errors import BundleError, UsageError
from .app import MAX_BODY, create_app

OnReady = Callable[[list[Entry]], None] | None


def listen(host: str, port: int) -> socket.socket:
    """A socket bound to the address; port 0 takes a free one.

    Raises:
        UsageError: the address cannot be bound, with what to do.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
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
    sock.set_inheritable(True)
    return sock


def serve(
    bundles: Sequence[Bundle],
    sock: socket.socket,
    *,
    max_rows: int = 32,
    max_body: int = MAX_BODY,
    home: str | None = None,
    on_ready: OnReady = None,
) -> None:
    """Serve `bundles` on `sock` until SIGINT or SIGTERM, then finish the requests that were taken.

    Args:
        home: the model whose page is at /; by default the list of all models is.
        on_ready: called once with every model's state, when they are loaded and the socket accepts.

    Raises:
        BundleError: not one model could be loaded.
    """
    app = create_app(bundles, max_rows=max_rows, max_body=max_body, home=home)
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        lifespan="on",
        server_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=30,
        backlog=2048,
    )
    server = _Server(config, lambda: app.state.repository.entries(), on_ready)
    server.run(sockets=[sock])
    if not server.answers:
        raise BundleError(
            "no model could be loaded", hint="the lines above say why; modelport verify says more"
        )


class _Server(uvicorn.Server):
    """uvicorn, telling when it has started, and not starting when there is nothing to serve."""

    answers = False

    def __init__(self, config: uvicorn.Config, entries: Callable[[], list[Entry]], on_ready: OnReady) -> None:
        super().__init__(config)
        self._entries = entries
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        if not self.started:
            return
        entries = self._entries()
        self.answers = any(entry.model for entry in entries)
        if not self.answers:
            self.should_exit = True
        elif self._on_ready:
            self._on_ready(entries)
