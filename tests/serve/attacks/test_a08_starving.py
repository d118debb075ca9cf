"""A8, starving others: who announces, sends or unpacks a lot takes no room that somebody else needs."""

from __future__ import annotations

import asyncio
import gzip
import threading
import time

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from modelport.engine.arena import MIN_SLOT
from modelport.serve import body
from modelport.serve.bridge import Bridge
from modelport.serve.limits import Limits

from ..port import PATIENCE, Caller, Port, Run, bodies, post, turns
from .conftest import Guarded
from .wire import closes, head, read

LARGE = 1 << 20
LIMITS = Limits(max_body=LARGE, max_buffered=4 * LARGE)
BUSY = b'{"error":"too many large bodies at once"}'


def announced(size: int = LARGE) -> bytes:
    return f"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n".encode()


async def said(caller: Caller) -> bytes:
    """The body of the next reply."""
    start = b""
    while b"\r\n\r\n" not in start:
        start += await caller.read(1)
    assert start.startswith(b"HTTP/1.1 200 "), start
    return await caller.read(int(start.partition(b"Content-Length: ")[2].partition(b"\r\n")[0]))


async def answered(port: Port, data: bytes = b"") -> None:
    """Somebody else's request, large or not, gets its answer."""
    for size in (len(data) or 10, MIN_SLOT + 1):
        caller = await port.connect()
        await caller.send(post(bytes(size)))
        exchange = await port.take()
        assert len(exchange.body) == size
        exchange.reply(200, b"well")
        assert await said(caller) == b"well"
        caller.close()


async def refused(caller: Caller) -> None:
    reply = await asyncio.wait_for(caller.read(1 << 20), PATIENCE)
    assert reply.startswith(b"HTTP/1.1 503 ") and b"\r\nRetry-After: 1\r\n" in reply
    assert b"\r\nConnection: close\r\n" in reply and reply.endswith(BUSY)
    caller.close()


def test_what_is_announced_and_does_not_come_takes_nothing(run: Run) -> None:
    async def test(port: Port) -> None:
        # As a head that is new, and as one that is known by its bytes: large bodies go past the parser then.
        known = await port.connect()
        await known.send(post(bytes(LARGE)))
        (await port.take()).reply(200, b"")
        known.close()
        callers = [await port.connect() for _ in range(40)]
        for caller in callers:
            await caller.send(announced() + b"x")
        await turns()
        assert port.server.memory.held == len(port.server.memory.coming) == 40
        await answered(port)
        for caller in callers:
            assert not caller.waiting()
            caller.close()

    run(test, LIMITS)


@pytest.mark.parametrize("kind", ["length", "chunked"])
def test_the_body_that_has_been_on_its_way_longest_gives_way(run: Run, kind: str) -> None:
    async def test(port: Port) -> None:
        start = announced() + bytes(LARGE - 1)
        if kind == "chunked":
            start = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nfffff\r\n" + bytes(
                LARGE - 1
            )
        slow = []
        for number in range(4):
            slow.append(await port.connect())
            await slow[-1].send(start)
            async with asyncio.timeout(PATIENCE):
                while port.server.memory.held < (number + 1) * (LARGE - 1):
                    await asyncio.sleep(0.001)
        assert not any(caller.waiting() for caller in slow)
        await answered(port)
        await refused(slow[0])
        assert not any(caller.waiting() for caller in slow[1:])
        refusals: list[str] = []
        port.server.refused = refusals.append
        port.server.memory.limit = 3 * LARGE
        await answered(port, bytes(LARGE))
        await refused(slow[1])
        assert refusals == ["queue_full"]
        # Who is left ends as ever.
        await slow[3].send(b"\0" if kind == "length" else b"\r\n0\r\n\r\n")
        exchange = await port.take()
        exchange.reply(200, b"%d" % len(exchange.body))
        assert await said(slow[3]) == b"%d" % (LARGE if kind == "length" else LARGE - 1)
        for caller in slow[2:]:
            caller.close()

    run(test, LIMITS)


def test_where_everything_is_being_answered_the_next_one_is_refused(run: Run) -> None:
    async def test(port: Port) -> None:
        callers = [await port.connect() for _ in range(4)]
        for caller in callers:
            await caller.send(post(bytes(LARGE)))
        exchanges = [await port.take() for _ in callers]
        assert port.server.memory.held == 4 * LARGE
        for size in (10, MIN_SLOT - 1, LARGE):
            late = await port.connect()
            await late.send(post(bytes(size))[:MIN_SLOT])
            await refused(late)
        for caller, exchange in zip(callers, exchanges, strict=True):
            exchange.reply(200, b"done")
            assert await said(caller) == b"done"
        await answered(port)
        for caller in callers:
            caller.close()

    run(test, LIMITS)


def test_requests_behind_a_reply_that_nobody_reads_give_way(run: Run) -> None:
    """Sixteen whole bodies on a connection wait for its caller to read; nobody else waits for him."""

    async def test(port: Port) -> None:
        lazy = await port.connect(small=True)
        await lazy.send(post())
        (await port.take()).reply(200, bytes(8 << 20))  # more than the sockets hold
        await lazy.send(post(b"first") + post(bytes(100_000)) + post(bytes(100_000)))
        async with asyncio.timeout(PATIENCE):
            first = await port.connect()
            await first.send(post(b"x"))
            (await port.take()).reply(200, b"")
            first.close()
        port.server.memory.limit = 200_000
        await answered(port)
        lazy.close()

    run(test, LIMITS)


def test_pipelined_requests_give_way_and_the_one_at_hand_is_answered(run: Run) -> None:
    async def test(port: Port) -> None:
        caller = await port.connect()
        await caller.send(post(b"1") + post(bytes(3 * LARGE // 4)) * 5)
        exchange = await port.take()
        async with asyncio.timeout(PATIENCE):
            while port.server.memory.held < 15 * LARGE // 4:
                await asyncio.sleep(0.001)
        await answered(port, bytes(LARGE))
        exchange.reply(200, b"first")
        reply = await caller.read(1 << 20)
        assert bodies(reply) == [b"first"] and b"Connection: close" in reply and port.asked.empty()
        caller.close()

    run(test, LIMITS)


def test_who_alone_sends_more_than_all_may_gives_way_himself(run: Run) -> None:
    async def test(port: Port) -> None:
        caller = await port.connect()
        for _ in range(2):  # the head is known by its bytes then
            await caller.send(post(bytes(MIN_SLOT - 1)))
            (await port.take()).reply(200, b"known")
            assert await said(caller) == b"known"
        port.server.memory.limit = 3 * MIN_SLOT
        await caller.send(post(bytes(MIN_SLOT - 1)) * 5)
        exchange = await port.take()
        async with asyncio.timeout(PATIENCE):
            while port.server.memory.coming or exchange.keep_alive:
                await asyncio.sleep(0.001)
        exchange.reply(200, b"first")
        reply = await caller.read(1 << 20)
        assert bodies(reply) == [b"first"] and b"Connection: close" in reply and port.asked.empty()
        caller.close()

    run(test, LIMITS)


# -- unpacked ------------------------------------------------------------------------------------------------


def reading(port: Port, release: asyncio.Event) -> None:
    """Have `port` answer as the application does: bodies are unpacked, and held until `release`."""

    async def endpoint(request: Request) -> Response:
        data = await body.read_body(request, LARGE)
        if len(data) > 100:
            await release.wait()
        return Response(b"%d" % len(data))

    async def problems(request: Request, problem: Exception) -> Response:
        return Response(b"busy", getattr(problem, "http_status", 500))

    app = Starlette(
        routes=[Route("/", endpoint, methods=["POST"])],
        exception_handlers={body.QueueFull: problems, body.TooLarge: problems},
    )
    port.server.handle = Bridge(app, ("127.0.0.1", 0))


@pytest.mark.parametrize("size", [LARGE, 900_000], ids=["in threads", "on the loop"])
def test_many_bombs_at_once_are_no_more_than_the_limit(
    run: Run, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kilobyte each on the wire, a megabyte each in memory."""
    monkeypatch.setattr(body, "UNPACK_INLINE", 1 << 10 if size == 900_000 else 100)
    bomb = post(gzip.compress(bytes(size)), "/", "Content-Encoding: gzip")

    async def test(port: Port) -> None:
        release = asyncio.Event()
        reading(port, release)
        memory = port.server.memory
        callers = [await port.connect() for _ in range(30)]
        for caller in callers:
            await caller.send(bomb)

        async def refusals() -> int:
            return sum(caller.waiting().startswith(b"HTTP/1.1 503 ") for caller in callers)

        async with asyncio.timeout(PATIENCE):
            while await refusals() < 26:
                assert memory.held <= memory.limit
                await asyncio.sleep(0.002)
        assert memory.held > 3 * size
        # A body that is as large as it looks still has room.
        other = await port.connect()
        await other.send(post(b"x"))
        assert await said(other) == b"1"
        release.set()
        async with asyncio.timeout(PATIENCE):
            while memory.held:
                await asyncio.sleep(0.002)
        replies = [caller.waiting() for caller in callers]
        assert sum(reply.startswith(b"HTTP/1.1 200 ") for reply in replies) >= 3
        await other.send(bomb)
        assert await said(other) == b"%d" % size
        for caller in (other, *callers):
            caller.close()

    run(test, LIMITS)


def test_who_hangs_up_while_a_thread_unpacks_still_counts(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()
    inside = threading.Semaphore(0)

    def slow(data: bytes, encoding: str, limit: int) -> bytes:
        inside.release()
        go.wait(PATIENCE)
        return b"x"

    monkeypatch.setattr(body, "decompress", slow)
    monkeypatch.setattr(body, "UNPACK_INLINE", 10)

    async def test(port: Port) -> None:
        reading(port, asyncio.Event())
        callers = [await port.connect() for _ in range(8)]
        packed = gzip.compress(bytes(LARGE))
        for caller in callers:
            await caller.send(post(packed, "/", "Content-Encoding: gzip"))
        try:
            assert await asyncio.to_thread(inside.acquire, True, PATIENCE)
            for caller in callers:
                caller.close()
            async with asyncio.timeout(PATIENCE):
                while port.server.connections:
                    await asyncio.sleep(0.002)
            assert port.server.memory.held >= min(LARGE, body.MAX_RATIO * len(packed))
        finally:
            go.set()
        async with asyncio.timeout(PATIENCE):
            while port.server.memory.held:
                await asyncio.sleep(0.002)

    run(test, LIMITS)


# -- who has no key ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [{}, {"authorization": "Bearer mpk_wrong"}], ids=["none", "wrong"])
@pytest.mark.parametrize(
    "more", [{"content_length": 60 << 20}, {"transfer_encoding": "chunked"}], ids=["length", "chunked"]
)
def test_a_stranger_s_large_body_is_not_read(
    guarded: Guarded, key: dict[str, str], more: dict[str, object]
) -> None:
    for target in (guarded.public, guarded.admin):
        with target.connect() as sock:
            sock.sendall(head("POST", "/v2/models/sum/infer", expect="100-continue", **more, **key))
            (reply,) = read(sock)
            assert reply.status == 401 and "key" in reply.error and "www-authenticate" in reply.headers
            assert closes(sock, seconds=15)


def test_a_caller_s_large_body_is_asked_for(guarded: Guarded) -> None:
    with guarded.public.connect() as sock:
        lines = {"content_length": 1 << 20, "expect": "100-continue", **guarded.bearer("ci")}
        sock.sendall(head("POST", "/v2/models/sum/infer", **lines))
        sock.settimeout(PATIENCE)
        assert sock.recv(100).startswith(b"HTTP/1.1 100 ")
        began = time.monotonic()
        sock.sendall(bytes(1 << 20))
        assert read(sock)[0].status == 400 and time.monotonic() - began < PATIENCE
