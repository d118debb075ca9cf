"""A server that runs: started, asked until its answer is right, and stopped with all its processes."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from .machine import MARK, alive, family
from .places import made
from .wires import Request

PATIENCE = 120.0
"""Seconds that a server may take to its first right answer."""


@dataclass(frozen=True)
class Server:
    """How a server is started for one model; `{port}` in the command is filled in."""

    name: str
    command: tuple[str, ...]
    request: Request
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None
    """Where it is started; by default here."""
    note: str = ""
    """A sentence that belongs below the table."""


class Failed(RuntimeError):
    """A server that does not start, or answers wrong."""

    def __init__(self, message: str, log: Path | None = None) -> None:
        super().__init__(message)
        self.log = log


@dataclass
class Running:
    """One that answers right."""

    url: str
    root: int
    mark: str
    started: float
    """Seconds from its start to its first right answer."""
    known: set[int] = field(default_factory=set)

    def processes(self) -> set[int]:
        """Its processes by now, those that ended included."""
        return family(self.root, self.mark, self.known)


@contextmanager
def running(server: Server) -> Iterator[Running]:
    """Start it, wait for the right answer to every body, and in the end stop it.

    Raises:
        Failed: it ended, took too long, or gave a wrong answer.
    """
    port = _free_port()
    mark = f"{os.getpid()}-{port}-{time.time_ns()}"
    log = made("logs", re.sub(r"[^\w.-]+", "-", f"{server.name}{server.request.path}") + ".log")
    environment = os.environ | dict(server.environment) | {MARK: mark, "PORT": str(port)}
    command = [part.replace("{port}", str(port)) for part in server.command]
    start = time.monotonic()
    with log.open("wb") as sink:
        process = subprocess.Popen(
            command, stdout=sink, stderr=sink, env=environment, cwd=server.folder, start_new_session=True
        )
        found = Running(f"http://127.0.0.1:{port}{server.request.path}", process.pid, mark, 0.0)
        try:
            wrong = _wait_for_answer(process, port, server.request, start + PATIENCE)
            if wrong:
                raise Failed(f"{server.name}: {wrong}", log)
            found.started = time.monotonic() - start
            for turn in range(1, len(server.request.bodies)):
                status, reply, headers = _post(port, server.request, turn)
                if status != 200 or (wrong := server.request.judge(turn, reply, headers)):
                    raise Failed(f"{server.name}: {status} {wrong}", log)
            found.processes()
            yield found
        finally:
            _stop(process, found)


def _wait_for_answer(
    process: subprocess.Popen[bytes], port: int, request: Request, deadline: float
) -> str | None:
    """None once the first body is answered right; else what went wrong."""
    last = "it did not listen"
    while time.monotonic() < deadline:
        if process.poll() is not None:
            return f"it ended with {process.returncode}; {last}"
        try:
            status, reply, headers = _post(port, request)
        except (OSError, http.client.HTTPException) as problem:
            if not isinstance(problem, ConnectionRefusedError):
                last = repr(problem)
            time.sleep(0.02)
            continue
        if status == 200:
            # A wrong answer does not become right by waiting.
            return request.judge(0, reply, headers)
        last = f"it answered {status}: {reply[:200]!r}"
        time.sleep(0.1)
    return last


def _post(port: int, request: Request, turn: int = 0) -> tuple[int, bytes, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("POST", request.path, request.bodies[turn], request.headers)
        response = connection.getresponse()
        return response.status, response.read(), {n.lower(): v for n, v in response.getheaders()}
    finally:
        connection.close()


def _stop(process: subprocess.Popen[bytes], found: Running) -> None:
    """Ask every process to end, then make those that stay."""
    for number, patience in ((signal.SIGTERM, 8.0), (signal.SIGKILL, 5.0)):
        for pid in alive(found.processes()):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue
        end = time.monotonic() + patience
        while time.monotonic() < end and (process.poll() is None or alive(found.known)):
            time.sleep(0.05)


def _free_port() -> int:
    """A port with the three after it free as well: Triton and TorchServe take several."""
    for base in range(18100, 18900, 10):
        try:
            for port in range(base, base + 5):
                with socket.socket() as sock:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    sock.bind(("127.0.0.1", port))
        except OSError:
            continue
        return base
    raise Failed("no free port between 18100 and 18900")
