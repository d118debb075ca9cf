"""A8, slowness: who sends a byte now and then holds a connection for a while, and not for ever."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from ...colours import picture, served
from .conftest import check_health
from .wire import Target, closes, get, head, read

PREDICT = "/predict/colours"
CONNECTIONS = 40


@pytest.fixture(scope="module")
def target(repo: Path) -> Iterator[Target]:
    limits = ("--header-timeout", "1s", "--body-timeout", "2s", "--max-connections", str(CONNECTIONS))
    with served(repo, *limits) as (url, process):
        yield Target(url, process.pid)


def drip(sock: socket.socket, data: bytes, *, every: float, seconds: float) -> bool:
    """Send a byte at a time; whether the server ended the connection within `seconds`."""
    until = time.monotonic() + seconds
    for byte in data * 1000:
        try:
            sock.sendall(bytes([byte]))
        except (BrokenPipeError, ConnectionResetError):
            return True
        if closes(sock, seconds=every):
            return True
        if time.monotonic() > until:
            break
    return False


@pytest.mark.parametrize("start", [b"", b"G", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nX-Y: "])
def test_a_head_that_does_not_end_is_not_waited_for(target: Target, start: bytes) -> None:
    with target.connect() as sock:
        sock.sendall(start)
        assert closes(sock, seconds=15)
    with target.connect() as sock:
        sock.sendall(start)
        assert drip(sock, b"x", every=0.2, seconds=15)


def test_the_head_of_a_second_request_is_not_waited_for_either(target: Target) -> None:
    with target.connect() as sock:
        sock.sendall(get("/v2/health/live"))
        assert [reply.status for reply in read(sock, ["GET"])] == [200]
        sock.sendall(b"GET /v2/health")
        assert drip(sock, b"x", every=0.2, seconds=15)


def test_a_body_that_stops_or_drips_is_not_waited_for(target: Target) -> None:
    for framing in ({"content_length": 100_000}, {"transfer_encoding": "chunked"}):
        with target.connect() as sock:
            sock.sendall(head("POST", PREDICT, **framing))
            assert closes(sock, seconds=20)
        with target.connect() as sock:
            sock.sendall(head("POST", PREDICT, **framing))
            assert drip(sock, b"1\r\nx\r\n", every=0.2, seconds=30)


def test_a_body_that_comes_fast_and_then_drips_is_not_waited_for_either(target: Target) -> None:
    """Sixty megabytes sent at once are no right to hold them for hours."""
    with target.connect() as sock:
        sock.sendall(head("POST", PREDICT, content_length=5 << 20) + bytes(4 << 20))
        assert drip(sock, b"x", every=0.2, seconds=30)


def test_a_slow_upload_that_comes_along_is_taken(target: Target) -> None:
    """Longer than the time-out, and never silent for that long: a telephone on a train."""
    data = picture("green", (900, 900), "BMP")
    step = len(data) // 10
    with target.connect() as sock:
        sock.sendall(head("POST", PREDICT, content_length=len(data)))
        for place in range(0, len(data), step):
            sock.sendall(data[place : place + step])
            time.sleep(0.3)
        (reply,) = read(sock)
        assert reply.status == 200 and b'"green"' in reply.body[:90]


def test_connections_are_counted_and_those_who_only_hold_one_lose_it(target: Target) -> None:
    process = psutil.Process(target.pid)
    before = process.num_fds()
    with ExitStack() as opened:
        for _ in range(5 * CONNECTIONS):
            try:
                opened.enter_context(target.connect())
            except OSError:
                continue
        assert process.num_fds() <= before + CONNECTIONS + 5
        # All are silent, so that after the time-out for heads there is room again.
        until = time.monotonic() + 20
        while True:
            try:
                check_health(target)
                break
            except (AssertionError, OSError):
                assert time.monotonic() < until
                time.sleep(0.3)
    check_health(target)


def test_a_reader_that_stops_reading_loses_its_connection_or_waits_alone(target: Target) -> None:
    with target.connect() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.sendall(get("/static/style.css") * 50)
        for _ in range(5):
            check_health(target)
