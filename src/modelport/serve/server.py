"""Runs the application until it is told to stop; what was taken by then is finished."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence

import uvicorn

from ..bundle.store import Bundle
from ..errors import UsageError
from .app import MAX_BODY, create_app


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
            f"cannot listen on {host}:{port}: {problem}", hint="choose another with --port"
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
    on_ready: Callable[[], None] | None = None,
) -> None:
    """Serve `bundles` on `sock` until SIGINT or SIGTERM, then finish the requests that were taken.

    Args:
        home: the model whose page is at /; by default the list of all models is.
        on_ready: called once, when the models are loaded and the socket accepts.
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
    _Server(config, on_ready).run(sockets=[sock])


class _Server(uvicorn.Server):
    """uvicorn, telling when it has started."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None] | None) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        if self.started and self._on_ready:
            self._on_ready()
