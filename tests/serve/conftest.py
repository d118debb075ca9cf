"""What more than one file of tests here uses."""

from __future__ import annotations

import asyncio
import socket

import pytest

from modelport.serve.http1 import Connection
from modelport.serve.limits import Limits

from .port import PATIENCE, Port, Run, Test


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a test on an event loop, and looks whether it left anything."""
    factory = None
    if request.param == "uvloop":
        factory = pytest.importorskip("uvloop").new_event_loop

    async def main(test: Test, limits: Limits) -> None:
        port = Port(limits)
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, problem: port.problems.append(problem))
        sock = socket.create_server(("127.0.0.1", 0))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32 << 10)
        port.address = sock.getsockname()
        listener = await loop.create_server(lambda: Connection(port.server), sock=sock)
        async with asyncio.timeout(3 * PATIENCE):
            await test(port)
            await port.quiet()
        listener.close()
        port.arena.close()

    def run(test: Test, limits: Limits | None = None) -> None:
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(main(test, limits or Limits()))

    return run
