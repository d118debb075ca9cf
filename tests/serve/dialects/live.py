"""An application with some dialect's routes, on a port of the loopback, for clients that need a real one."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute

from modelport.engine.repository import Repository
from modelport.engine.settings import EngineSettings
from modelport.errors import ModelportError
from modelport.serve import app as served
from modelport.serve import pages, v2
from modelport.serve.replies import CompressReplies


@contextmanager
def live(repo: Path, routes: Sequence[BaseRoute], **state: Any) -> Iterator[str]:
    """The URL of a server with every version in `repo`, these routes and the pages, `app.state` so set."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        app.state.repository = Repository(repo, EngineSettings(executors=1), keep=0)
        await app.state.repository.open()
        yield
        await app.state.repository.close()

    app = Starlette(
        routes=[*routes, *v2.ROUTES, *pages.ROUTES],
        exception_handlers={
            ModelportError: served._refused,
            HTTPException: served._http_error,
            Exception: served._failed,
        },
        lifespan=lifespan,
    )
    app.add_middleware(CompressReplies)
    app.state.max_body, app.state.home = 64 << 20, None
    for name, value in state.items():
        setattr(app.state, name, value)
    config = uvicorn.Config(app, log_level="warning", access_log=False, lifespan="on", server_header=False)
    server = uvicorn.Server(config)
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, daemon=True)
        thread.start()
        try:
            for _ in range(600):
                if server.started or not thread.is_alive():
                    break
                time.sleep(0.05)
            assert server.started
            yield f"http://127.0.0.1:{sock.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(60)
            assert not thread.is_alive()
