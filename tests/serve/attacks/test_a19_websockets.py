"""WebSockets against frames that break the protocol, floods, readers that do not read, and crowds."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import time
from collections.abc import Iterator

import psutil
import pytest

from modelport.serve.exchange import Exchange
from modelport.serve.http1 import Connection
from modelport.serve.limits import Limits
from modelport.serve.listener import Server
from modelport.serve.track import MAX_SESSIONS
from modelport.serve.websocket import CLOSE_SECONDS, PING_SECONDS, WebSocket, open_websocket

from ...boxes import pack_boxes, picture_with
from ...colours import served
from ..port import PATIENCE, Caller, Port, Run
from .wire import Target

HANDSHAKE = (
    b"GET /track/boxes HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
PICTURE = picture_with([("red", 40, 30, 120, 90)])
TEXT, BINARY, PING = 1, 2, 9
SIZE = 300 << 10
HEAD = 14


@pytest.fixture(scope="module")
def sockets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    repo = pack_boxes(tmp_path_factory.mktemp("sockets"))
    with served(repo, "--executors", "1") as (url, process):
        yield Target(url, process.pid)


class Raw:
    """A WebSocket's client that sends whatever it is told to."""

    def __init__(self, sockets: Target) -> None:
        self.sock = sockets.connect()
        self.sock.settimeout(20)
        self.sock.sendall(HANDSHAKE)
        self._read = b""
        while b"\r\n\r\n" not in self._read:
            self._read += self.sock.recv(65536) or b"\r\n\r\n"
        head, _, self._read = self._read.partition(b"\r\n\r\n")
        self.status = int((head.split() or [b"", b"0"])[1])

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, kind: int, data: bytes, *, fin: bool = True, mask: bool = True, bits: int = 0) -> None:
        self.sock.sendall(frame(kind, data, fin=fin, mask=mask, bits=bits))

    def take(self, count: int) -> bytes:
        while len(self._read) < count:
            more = self.sock.recv(65536)
            if not more:
                raise EOFError
            self._read += more
        data, self._read = self._read[:count], self._read[count:]
        return data

    def message(self) -> tuple[int, bytes]:
        """Opcode and payload of the next frame."""
        first, size = self.take(2)
        if size == 126:
            (size,) = struct.unpack(">H", self.take(2))
        elif size == 127:
            (size,) = struct.unpack(">Q", self.take(8))
        return first & 15, self.take(size)

    def closed(self) -> int:
        """The code of the close that comes, after whatever was said before it."""
        for _ in range(10_000):
            opcode, data = self.message()
            if opcode == 8:
                return int.from_bytes(data[:2], "big")
        raise AssertionError("it is never closed")


def frame(kind: int, data: bytes, *, fin: bool = True, mask: bool = True, bits: int = 0) -> bytes:
    size = len(data)
    head = bytes([(fin << 7) | bits | kind])
    flag = mask << 7
    if size < 126:
        head += bytes([flag | size])
    elif size < 1 << 16:
        head += bytes([flag | 126]) + struct.pack(">H", size)
    else:
        head += bytes([flag | 127]) + struct.pack(">Q", size)
    return head + (bytes(4) + data if mask else data)  # a mask of zeros changes nothing


def answers(sockets: Target) -> None:
    """A new session is answered."""
    with Raw(sockets) as raw:
        assert raw.status == 101
        assert json.loads(raw.message()[1])["type"] == "ready"
        raw.send(BINARY, PICTURE)
        assert json.loads(raw.message()[1])["type"] == "tracks"


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        pytest.param(frame(BINARY, b"x", mask=False), 1002, id="no mask"),
        pytest.param(frame(BINARY, b"x", bits=0x40), 1002, id="a reserved bit, as for compression"),
        pytest.param(frame(3, b"x"), 1002, id="an opcode that there is not"),
        pytest.param(frame(0, b"x"), 1002, id="a continuation of nothing"),
        pytest.param(frame(BINARY, b"x", fin=False) + frame(TEXT, b"{}"), 1002, id="a message in a message"),
        pytest.param(frame(PING, b"x" * 126), 1002, id="a ping that is too long"),
        pytest.param(frame(PING, b"x", fin=False), 1002, id="a ping in pieces"),
        pytest.param(frame(8, b"x"), 1002, id="a close with half a code"),
        pytest.param(frame(8, struct.pack(">H", 1005)), 1002, id="a close with a code that is never sent"),
        pytest.param(frame(TEXT, b"\xff\xfe"), 1007, id="no UTF-8"),
        pytest.param(bytes([0x82, 0xFF]) + struct.pack(">Q", 1 << 40) + bytes(4), 1009, id="a terabyte"),
        pytest.param(bytes([0x82, 0xFF]) + struct.pack(">Q", 1 << 63) + bytes(4), 1009, id="over 2**63"),
        pytest.param(frame(TEXT, b" " * (300 << 10)), 1009, id="a text that is too long"),
    ],
)
def test_frames_that_break_the_rules_end_the_session(sockets: Target, sent: bytes, code: int) -> None:
    with Raw(sockets) as raw:
        raw.sock.sendall(sent)
        assert raw.closed() == code
        with pytest.raises((EOFError, ConnectionError)):
            raw.take(1)
    answers(sockets)


def test_pieces_without_end_take_no_memory(sockets: Target) -> None:
    process = psutil.Process(sockets.pid)
    with Raw(sockets) as raw:
        raw.send(BINARY, b"", fin=False)
        before = process.memory_info().rss
        many = frame(0, b"", fin=False) * 20_000
        for _ in range(10):
            raw.sock.sendall(many)
        raw.send(PING, b"there")
        while raw.message() != (10, b"there"):
            pass
        assert process.memory_info().rss - before < 32 << 20
        piece = frame(0, b"x" * (1 << 20), fin=False)
        try:
            for _ in range(40):
                raw.sock.sendall(piece)
            code = raw.closed()
        except ConnectionError:
            code = 1009  # it hung up while we were still sending
        assert code == 1009
    answers(sockets)


def test_a_reader_that_does_not_read_waits_and_nobody_else(sockets: Target) -> None:
    process = psutil.Process(sockets.pid)
    before = process.memory_info().rss
    with Raw(sockets) as slow:
        slow.send(TEXT, b'{"order": "all", "trails": true}')
        slow.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.sock.settimeout(2)
        sent = 0
        some = (frame(BINARY, PICTURE) + frame(PING, b"x" * 100)) * 200
        try:
            while sent < 512 << 20:
                sent += slow.sock.send(some)
        except TimeoutError:
            pass
        assert sent < 64 << 20, "the server read everything"
        answers(sockets)
        assert process.memory_info().rss - before < 96 << 20


def test_there_are_so_many_sessions_and_no_more(sockets: Target) -> None:
    many: list[Raw] = []
    try:
        many += [Raw(sockets) for _ in range(MAX_SESSIONS + 100)]
        assert [raw.status for raw in many].count(101) == MAX_SESSIONS
        assert {raw.status for raw in many} == {101, 503}
    finally:
        for raw in many:
            raw.sock.close()
    until = time.monotonic() + 20
    while time.monotonic() < until:
        with Raw(sockets) as raw:
            if raw.status == 101:
                break
        time.sleep(0.05)
    answers(sockets)


def test_thousands_come_and_go(sockets: Target) -> None:
    process = psutil.Process(sockets.pid)
    before, files = process.memory_info().rss, process.num_fds()
    for round_ in range(1000):
        with Raw(sockets) as raw:
            if round_ % 3 == 0:
                raw.sock.sendall(frame(BINARY, PICTURE)[:-7])
            elif round_ % 3 == 1:
                raw.send(BINARY, PICTURE)
    until = time.monotonic() + 20
    while process.num_fds() > files + 2 and time.monotonic() < until:
        time.sleep(0.05)
    assert process.num_fds() <= files + 2
    assert process.memory_info().rss - before < 64 << 20
    answers(sockets)


@pytest.mark.parametrize(
    "smuggled", [b"GET /v2/health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", frame(TEXT, b"{}")]
)
def test_what_follows_the_handshake_too_early_is_not_read(sockets: Target, smuggled: bytes) -> None:
    """Whether it is HTTP or frames only the answer decides: before it, nobody could know."""
    with sockets.connect() as sock:
        sock.settimeout(20)
        sock.sendall(HANDSHAKE + smuggled)
        found = b""
        while more := sock.recv(65536):
            found += more
        assert found.startswith(b"HTTP/1.1 400 ") and found.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize("upgrade", [b"h2c", b"websocket, h2c", b"TLS/1.0", b""])
def test_other_protocols_are_not_spoken(sockets: Target, upgrade: bytes) -> None:
    """RFC 9110, 7.8: an upgrade that is not wanted is passed over; the request is answered as it is."""
    with sockets.connect() as sock:
        sock.settimeout(20)
        head = (
            b"GET /v2/health/live HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n"
        )
        sock.sendall(head % upgrade)
        assert sock.recv(65536).startswith(b"HTTP/1.1 200 ")


async def test_who_is_silent_is_asked_and_then_let_go() -> None:
    """By the clock of the listener, which is moved on here."""
    opened: list[WebSocket] = []

    def handle(exchange: Exchange) -> None:
        opened.append(open_websocket(exchange, origins=(), max_message=1000, idle_seconds=100))

    server = Server(handle, Limits())
    clock = [1000.0]
    server.clock = lambda: clock[0]
    server.sweep()
    listener = await asyncio.get_running_loop().create_server(lambda: Connection(server), "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]

    async def connect() -> asyncio.StreamReader:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writers.append(writer)
        writer.write(HANDSHAKE)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        return reader

    writers: list[asyncio.StreamWriter] = []
    try:
        silent, idle = await connect(), await connect()
        for _ in range(7):
            clock[0] += PING_SECONDS * 0.8
            server.sweep()
            writers[1].write(frame(10, b"there?"))  # it is there, and says nothing else
            await asyncio.sleep(0.05)
        clock[0] += CLOSE_SECONDS + 1
        server.sweep()
        pings = await silent.read()
        assert pings == b"\x89\x06there?"  # asked once, and then the connection is over
        said = await idle.read()
        assert b"nothing came for 100 s" in said
        assert int.from_bytes(said[said.index(b"nothing") - 2 :][:2], "big") == 1008
    finally:
        listener.close()
        for writer in writers:
            writer.close()
        for connection in list(server.connections):
            connection.close_if_idle()
        await asyncio.sleep(0.05)


async def opened_on(port: Port, caller: Caller, largest: int = 1 << 20) -> WebSocket:
    """A WebSocket in the test's own process."""
    await caller.send(HANDSHAKE)
    opened = open_websocket(await port.take(), origins=(), max_message=largest, idle_seconds=100)
    assert b"101 Switching" in await caller.read(129)
    return opened


async def counted(port: Port, size: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while port.server.memory.held != size:
            await asyncio.sleep(0.002)


def test_messages_that_do_not_come_whole_count_among_all_bodies(run: Run) -> None:
    async def test(port: Port) -> None:
        callers = [await port.connect() for _ in range(3)]
        refused: list[str] = []
        port.server.refused = refused.append
        whole: list[bytes | str] = []
        for caller in callers[:2]:
            (await opened_on(port, caller)).on_message = whole.append
        # One in a frame that goes on for long, the other in many.
        await callers[0].send(frame(BINARY, bytes(SIZE + 1))[:-1])
        await counted(port, SIZE + HEAD)
        await callers[1].send(frame(BINARY, bytes(SIZE), fin=False))
        await counted(port, 2 * SIZE + HEAD)
        # A whole message is its receiver's affair.
        await callers[1].send(frame(0, b"x"))
        await counted(port, SIZE + HEAD)
        assert whole == [bytes(SIZE) + b"x"]
        await opened_on(port, callers[2])
        await callers[2].send(frame(BINARY, bytes(2 * SIZE), fin=False))
        said = await callers[0].read(200)
        assert b"too many large bodies" in said and refused == ["queue_full"]
        await counted(port, 2 * SIZE)
        for caller in callers:
            caller.close()

    run(test, Limits(max_buffered=3 * SIZE - 100))


@pytest.mark.parametrize("reads", [True, False])
def test_who_waits_for_this_side_gives_no_way(run: Run, reads: bool) -> None:
    """Its next message has begun and is not read on: that is not the caller's slowness, if it reads."""

    async def test(port: Port) -> None:
        callers = [await port.connect() for _ in range(3)]
        whole: list[bytes | str] = []
        opened = await opened_on(port, callers[0])

        def came(message: bytes | str) -> None:
            whole.append(message)
            opened.hold(True)

        opened.on_message = came
        # In one piece, so that the second has begun before the first is taken.
        await callers[0].send(frame(BINARY, b"one") + frame(BINARY, b"two", fin=False))
        await counted(port, 3)
        if not reads:
            opened.pause_writing()
        for caller in callers[1:]:
            await opened_on(port, caller)
        await callers[1].send(frame(BINARY, bytes(SIZE), fin=False))
        await counted(port, 3 + SIZE)
        await callers[2].send(frame(BINARY, bytes(SIZE), fin=False))
        async with asyncio.timeout(PATIENCE):
            while b"too many large bodies" not in callers[1 if reads else 0].waiting():
                await asyncio.sleep(0.002)
        if reads:
            opened.hold(False)
            assert list(port.server.memory.coming)[-1] is opened, "read on, it is one of many again"
            await callers[0].send(frame(0, b""))
            await counted(port, SIZE)
            assert whole == [b"one", b"two"]
        opened.resume_writing()
        opened.hold(False)
        for caller in callers:
            caller.close()

    run(test, Limits(max_buffered=2 * SIZE))


def test_what_comes_behind_our_close_is_not_kept(run: Run) -> None:
    async def test(port: Port) -> None:
        caller = await port.connect()
        opened = await opened_on(port, caller)
        opened.close(1000)
        for _ in range(20):
            await caller.send(frame(BINARY, bytes(SIZE)))
        await caller.send(frame(PING, b"there"))
        async with asyncio.timeout(PATIENCE):
            while b"there" not in caller.waiting():
                await asyncio.sleep(0.002)
        assert not opened._parts and port.server.memory.held == 0
        caller.close()

    run(test)
