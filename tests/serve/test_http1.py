"""One HTTP connection on a real socket, at the worst moments: halves, pipelines, slow readers and writers.

Whoever answers is the test, so that what comes first is decided and not left to chance.
"""

from __future__ import annotations

import asyncio
import random
from itertools import pairwise

import pytest

from modelport.engine.arena import MIN_SLOT
from modelport.serve import http1
from modelport.serve.limits import Limits

from .port import PATIENCE, Port, Run, bodies, post, turns

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LARGE = bytes(range(256)) * (8 << 10)
"""More than the sockets' buffers of a connection hold."""


def test_all_that_was_asked_before_half_was_closed_is_answered(run: Run) -> None:
    async def test(port: Port) -> None:
        caller = await port.connect()
        await caller.send(post(b"1") + post(b"2") + post(b"3") + post(b"cut off")[:-3])
        caller.end()
        for number in b"123":
            exchange = await port.take()
            await turns(3)
            assert bytes(exchange.body) == bytes([number])
            exchange.reply(200, bytes(exchange.body))
        replies = await caller.read(1 << 20)
        assert bodies(replies) == [b"1", b"2", b"3"]
        assert replies.count(b"Connection: close") == 1 and port.asked.empty()
        caller.close()

    run(test)


@pytest.mark.parametrize("end", ["half closed", "another protocol", "nonsense"])
def test_the_last_reply_is_sent_whole_to_a_slow_reader(
    run: Run, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    monkeypatch.setattr(http1, "_LINGER_SECONDS", 0.01)

    async def test(port: Port) -> None:
        caller = await port.connect(small=True)
        asks = ("Connection: Upgrade", "Upgrade: websocket") if end == "another protocol" else ()
        await caller.send(post(b"", "/", *asks))
        if end == "half closed":
            caller.end()
        exchange = await port.take()
        if end == "nonsense":
            await caller.send(b"\0\r\n\r\n")
        await turns()
        exchange.reply(200, LARGE)
        await asyncio.sleep(0.1)
        assert bodies(await caller.read(1 << 30)) == [LARGE]
        caller.close()

    run(test)


def test_a_slow_reader_is_left_alone_as_long_as_it_reads(run: Run) -> None:
    async def test(port: Port) -> None:
        clock = 1000.0
        port.server.clock = lambda: clock
        port.server.sweep()
        steady, idle = await port.connect(small=True), await port.connect(small=True)
        for caller in (steady, idle):
            await caller.send(post())
            (await port.take()).reply(200, LARGE)
        part = len(LARGE) // 8
        for _ in range(5):
            await steady.read(part)
            await turns()
            clock += 11
            port.server.sweep()
            await turns(3)
        assert len(await steady.read(2 * part)) == 2 * part
        assert len(await idle.read(1 << 30)) < len(LARGE)
        clock += 11
        port.server.sweep()
        steady.close()
        idle.close()

    run(test, Limits(write_seconds=10))


def test_nothing_is_answered_after_the_last_reply(run: Run) -> None:
    """The server stops while requests wait behind a reply that its caller does not read yet."""

    async def test(port: Port) -> None:
        caller = await port.connect(small=True)
        await caller.send(post() * 3)
        exchange = await port.take()
        port.server.close_idle()
        exchange.reply(200, LARGE)
        await turns()
        assert bodies(await caller.read(1 << 30)) == [LARGE]
        assert port.asked.empty() and port.server.busy == 0
        caller.close()

    run(test)


def test_a_body_that_is_held_back_is_asked_for_in_its_turn(run: Run) -> None:
    """A 100 within the chunks of the reply before it would be read as one of them."""

    async def test(port: Port) -> None:
        caller = await port.connect()
        large = bytes(MIN_SLOT)
        await caller.send(post() + post(large, "/", "Expect: 100-continue")[: -len(large)])
        first = await port.take()
        first.start_stream(200, b"Transfer-Encoding: chunked\r\n")
        await turns()
        first.stream(b"1\r\na\r\n")
        first.stream(b"0\r\n\r\n")
        first.end_stream()
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"
        assert await caller.read(len(head + CONTINUE)) == head + CONTINUE
        await caller.send(large)
        second = await port.take()
        assert bytes(second.body) == large
        second.reply(200, b"b")
        assert (await caller.read(15)) == b"HTTP/1.1 200 OK"
        # Who does not wait for it is not told.
        await caller.send(post(b"c", "/", "Expect: 100-continue") + post(b"d", "/", "Expect: 100-continue"))
        for _ in range(2):
            exchange = await port.take()
            exchange.reply(200, bytes(exchange.body))
        await turns()
        assert caller.waiting().count(CONTINUE) <= 1
        caller.close()

    run(test)


@pytest.mark.parametrize("size", [1, MIN_SLOT])
def test_http_1_0_is_told_nothing_between(run: Run, size: int) -> None:
    async def test(port: Port) -> None:
        caller = await port.connect()
        head = f"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: {size}\r\n\r\n"
        await caller.send(head.encode() + bytes(size))
        caller.end()
        exchange = await port.take()
        await turns()
        exchange.reply(200, b"x")
        reply = await caller.read(1 << 20)
        assert reply.startswith(b"HTTP/1.1 200 ") and bodies(reply) == [b"x"]
        caller.close()

    run(test)


def test_who_hung_up_is_dropped_and_who_waits_is_told_nothing(run: Run) -> None:
    """The look at who is still there is for those whose end has come, and for no others."""

    async def test(port: Port) -> None:
        gone: list[str] = []
        callers = {name: await port.connect() for name in ("patient", "gone", "gone in a body")}
        for name, caller in callers.items():
            await caller.send(post(b"x"))
            (await port.take()).gone = lambda name=name: gone.append(name)
        await callers["gone in a body"].send(post(bytes(MIN_SLOT))[:-1])
        await turns()
        for name in ("gone", "gone in a body"):
            callers[name].close()
        async with asyncio.timeout(PATIENCE):
            while len(gone) < 2:
                await asyncio.sleep(0.002)
        await turns()
        assert sorted(gone) == ["gone", "gone in a body"] and callers["patient"].waiting() == b""
        callers["patient"].close()

    run(test)


def test_a_body_that_nobody_could_read_for_a_while_did_not_come_slowly(run: Run) -> None:
    async def test(port: Port) -> None:
        clock = 1000.0
        port.server.clock = lambda: clock
        port.server.sweep()
        caller = await port.connect(small=True)
        large = bytes(4 << 20)
        await caller.send(post() + post(large)[: -len(large)])
        sending = asyncio.ensure_future(caller.send(large))
        (await port.take()).reply(200, LARGE)
        await turns()
        clock += 50  # the reply was left unread for so long, and the body with it
        port.server.sweep()
        reading = asyncio.ensure_future(caller.read(len(LARGE)))
        clock += 1
        port.server.sweep()
        await reading
        await sending
        exchange = await port.take()
        assert len(exchange.body) == len(large)
        exchange.reply(200, b"x")
        await turns()
        caller.close()

    run(test)


def test_requests_mean_the_same_however_they_are_cut(run: Run) -> None:
    """Heads that are known by their bytes, those that are not, bodies in slots and outside, and chunks."""
    slot = random.Random(0).randbytes(MIN_SLOT + 1)
    wanted = [b"a", b"a", slot, b"", b"chunks", b"a", slot, b"b"]
    chunked = (
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nchun\r\n2\r\nks\r\n0\r\n\r\n"
    )
    stream = [post(body) for body in wanted]
    stream[3] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    stream[4] = chunked
    stream[7] = post(b"b", "/", "X-Other: 1")
    data = b"".join(stream)

    async def test(port: Port) -> None:
        seed = random.Random(7)
        starts = [sum(map(len, stream[:count])) for count in range(len(stream))]
        for _ in range(60):
            cuts = {seed.choice(starts) + seed.randrange(130) for _ in range(seed.randrange(1, 7))}
            places = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
            caller = await port.connect()
            for begin, end in pairwise(places):
                await caller.send(data[begin:end])
                await asyncio.sleep(0)
            got = []
            for _ in wanted:
                exchange = await port.take()
                got.append(bytes(exchange.body))
                exchange.reply(200, b"%d" % len(got))
            assert got == wanted, places
            caller.end()
            assert len(bodies(await caller.read(1 << 20))) == len(wanted)
            caller.close()

    run(test)
