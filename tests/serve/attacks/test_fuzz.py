"""Damaged requests, at random and by a seed: `scripts/fuzz_server.py`, and that it would see a fault."""

from __future__ import annotations

import json
import re
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from .wire import Target

SCRIPT = Path(__file__).resolve().parents[3] / "scripts" / "fuzz_server.py"


def fuzz(url: str, *options: str) -> tuple[int, dict[str, object]]:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), url, *options], capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode in (0, 1) and done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


@pytest.mark.parametrize("seed", ["7", "8"])
def test_a_server_is_well_after_thousands_of_damaged_requests(target: Target, seed: str) -> None:
    limits = ("--requests", "3000", "--seconds", "60", "--connections", "6", "--growth", "200")
    code, found = fuzz(target.url, "--pid", str(target.pid), "--seed", seed, *limits)
    assert code == 0 and found["well"], found
    assert isinstance(found["corpus"], int) and found["corpus"] > 15
    replies = found["replies"]
    assert isinstance(replies, dict) and replies["400"] > 100 and replies["200"] > 10, replies


RIGHT = re.compile(
    rb"(GET|POST) (/|/v2|/v2/health/ready|/metrics|/api/models|/v2/repository/index) HTTP/1\.1\r\n"
)
MALFORMED = b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"


class Faulty(socketserver.BaseRequestHandler):
    """Answers right requests rightly, and others as its server's `fault` says; closes each connection."""

    def handle(self) -> None:
        server = self.server
        assert isinstance(server, FaultyServer)
        self.request.settimeout(1)
        data = b""
        with suppress(OSError):
            while b"\r\n\r\n" not in data and (part := self.request.recv(1 << 16)):
                data += part
            right = RIGHT.match(data) is not None
            server.seen += 1
            if server.fault == "forgets":
                right = right and server.seen < 60
            if not right and server.fault == "malformed":
                self.request.sendall(MALFORMED)
                return
            status = 200 if right else 500 if server.fault == "500" else 404
            head = b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\nConnection: close\r\n" % status
            body = b"" if data.startswith(b"HEAD ") else b'{"models": []}'
            self.request.sendall(head + b"Content-Length: 14\r\n\r\n" + body)


class FaultyServer(socketserver.ThreadingTCPServer):
    """One that has a fault."""

    daemon_threads = True
    fault = "none"
    seen = 0


@contextmanager
def faulty(fault: str) -> Iterator[str]:
    server = FaultyServer(("127.0.0.1", 0), Faulty)
    server.fault = fault
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join(30)
        server.server_close()


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("500", "500"),
        ("malformed", "malformed reply"),
        ("forgets", "a right request is not answered any more"),
    ],
)
def test_faults_are_seen(fault: str, said: str) -> None:
    with faulty(fault) as url:
        code, found = fuzz(url, "--requests", "200", "--seconds", "60", "--connections", "2")
    assert code == 1 and not found["well"]
    faults = found["faults"]
    assert isinstance(faults, list) and faults and str(faults[-1]).startswith(said), faults


def test_a_server_without_faults_passes() -> None:
    with faulty("none") as url:
        code, found = fuzz(url, "--requests", "200", "--seconds", "60", "--connections", "2")
    assert code == 0, found
