"""An application with some dialect's routes, on a port of the loopback, for clients that need a real one."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from starlette.routing import BaseRoute

from modelport.bundle.layout import find_bundles
from modelport.bundle.store import Bundle
from modelport.serve.app import create_app
from modelport.serve.replies import CompressReplies


@contextmanager
def live(repo: Path, routes: Sequence[BaseRoute], **state: Any) -> Iterator[str]:
    """The URL of a server with the bundles of `repo`, its usual routes and these, and `app.state` so set."""
    app = create_app([Bundle.open(path) for path in find_bundles(repo)])
    app.router.routes.extend(routes)
    app.add_middleware(CompressReplies)
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
