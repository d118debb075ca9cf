"""Requests that offer another protocol with their first words."""

from __future__ import annotations

import asyncio
import random

import pytest

from modelport.engine.arena import MIN_SLOT

from .port import Port, Run, post, turns


@pytest.mark.parametrize("size", [0, 3, MIN_SLOT, 2 * MIN_SLOT + 1])
def test_an_offer_of_http_2_is_passed_over_and_the_body_is_read(run: Run, size: int) -> None:
    """`curl --http2` and Java's HttpClient send it with their first request, a POST as well."""
    offer = (
        "Connection: Upgrade, HTTP2-Settings",
        "Upgrade: h2c",
        "HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA",
    )
    body = random.Random(1).randbytes(size)
    chunked = "\r\n".join(["POST /c HTTP/1.1", "Host: x", "Transfer-Encoding: chunked", *offer, "", ""])
    data = post(body, "/a", *offer) * 2 + chunked.encode() + b"2\r\nab\r\n0\r\n\r\n" + post(b"z", "/b")
    wanted = [(b"/a", body), (b"/a", body), (b"/c", b"ab"), (b"/b", b"z")]

    async def test(port: Port) -> None:
        for cut in (len(data), 9, 130, 200, 260, len(data) - 60):
            caller = await port.connect()
            await caller.send(data[:cut])
            await turns(2)
            await caller.send(data[cut:])
            for path, whole in wanted:
                exchange = await port.take()
                assert (exchange.path, bytes(exchange.body)) == (path, whole)
                assert exchange.keep_alive and b"upgrade" not in exchange.headers
                exchange.reply(200, b"x")
            assert len(await caller.read(4)) == 4
            caller.close()
        caller = await port.connect()
        await caller.send(post(b"y", "/", "Connection: Upgrade, close", "Upgrade: h2c"))
        (await port.take()).reply(200, b"x")
        assert b"Connection: close" in await caller.read(1 << 20)
        await caller.send(b"")
        caller.close()

    run(test)


def test_a_flood_of_offers_is_read_and_not_deep(run: Run) -> None:
    async def test(port: Port) -> None:
        caller = await port.connect()
        count = 3000
        head = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"
        reading = asyncio.ensure_future(caller.read(1 << 30))
        sending = asyncio.ensure_future(caller.send(head * count))
        for _ in range(count):
            (await port.take()).reply(200, b"x")
        await sending
        caller.end()
        assert (await reading).count(b"HTTP/1.1 200 ") == count
        caller.close()

    run(test)
