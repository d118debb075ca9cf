"""Connections, retries and time, over many calls of one client: what is shared, and what never is."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import threading
import time
import zlib
from typing import Any

import numpy as np
import pytest

from modelport.client import AsyncClient, Client, Retries
from modelport.errors import DeadlineExceeded, Unauthorized, Unavailable, UsageError

from .faults import Act, Request, faulty, good, in_turn, metadata, reply

QUICK = Retries(base=0.001)


def test_retries_of_many_calls_stay_within_the_budget() -> None:
    rules = Retries(most=3, base=0.0, budget=0.2, reserve=5, per_second=0)
    with (
        faulty(in_turn(Act(reply(503, {"error": "down"})))) as server,
        Client(server.url, retries=rules) as client,
    ):
        for number in range(100):
            with pytest.raises(Unavailable, match="down") as refused:
                client.server()
            if number == 99:
                assert "budget" in refused.value.__notes__[0]
    assert 100 + 20 <= len(server.requests) <= 100 + 20 + 5


def test_the_budget_is_one_for_all_threads() -> None:
    rules = Retries(most=3, base=0.0, budget=0.1, reserve=3, per_second=0)
    with (
        faulty(in_turn(Act(reply(503, {"error": "down"})))) as server,
        Client(server.url, retries=rules) as client,
    ):

        def many() -> None:
            for _ in range(25):
                with pytest.raises(Unavailable):
                    client.server()

        threads = [threading.Thread(target=many) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert 200 < len(server.requests) <= 200 + 20 + 3


def test_when_all_connections_are_busy_a_call_waits_no_longer_than_its_time() -> None:
    with (
        faulty(lambda r: Act(b"", "hang") if r.number == 0 else Act(metadata())) as server,
        Client(server.url, connections=1) as client,
    ):

        def hold() -> None:
            with pytest.raises(DeadlineExceeded):
                client.predict("d", b"", timeout=1.5)

        holder = threading.Thread(target=hold)
        holder.start()
        while not server.requests:
            time.sleep(0.01)
        with pytest.raises(DeadlineExceeded, match="all 1 connections were busy"):
            client.predict("d", b"", timeout=0.2)
        assert client.server().name == "stand-in"  # waits until the holder has given up
        holder.join(20)
    assert server.connections == 2


def test_ready_and_live_say_no_and_do_not_raise() -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    with Client(f"http://127.0.0.1:{port}") as client:
        assert not client.live() and not client.ready() and not client.ready("m")
        with pytest.raises(Unavailable, match=r"not ready within 0\.2 s: cannot connect"):
            client.wait_until_ready(timeout=0.2)
    no_key = Act(reply(401, {"error": "no key"}))
    with (
        faulty(in_turn(no_key)) as server,
        Client(server.url) as client,
        pytest.raises(Unauthorized, match="no key"),
    ):
        client.ready()


def test_waiting_for_a_server_that_gets_ready() -> None:
    starting = Act(reply(503, {"error": "loading"}, Retry_After="30"))
    unknown = Act(reply(404, {"error": "unknown model"}))
    with faulty(in_turn(starting, unknown, Act(reply(200)))) as server, Client(server.url) as client:
        client.wait_until_ready("m", timeout=20)
    assert [request.line.split()[1] for request in server.requests] == ["/v2/models/m/ready"] * 3


def test_a_closed_client_says_so() -> None:
    with faulty(in_turn(Act(metadata()))) as server:
        client = Client(server.url)
        client.server()
        client.close()
        client.close()
        with pytest.raises(UsageError, match="closed"):
            client.server()


async def test_a_cancelled_task_hangs_up_and_its_connection_is_not_used_again() -> None:
    def act(request: Request) -> Act:
        return Act(b"", "hang") if request.number == 0 else Act(good())

    with faulty(act) as server:
        async with AsyncClient(server.url) as client:
            task = asyncio.create_task(client.predict("digits", b"first"))
            while not server.requests:
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await asyncio.to_thread(server.hung_up.wait, 10)
            assert (await client.predict("digits", b"second")).top.label == "7"
    assert server.connections == 2


def test_an_async_client_belongs_to_one_event_loop() -> None:
    with faulty(in_turn(Act(metadata()))) as server:
        client = AsyncClient(server.url)

        async def once() -> str:
            return (await client.server()).name

        async def end() -> None:
            await client.server()
            await client.close()

        loop = asyncio.new_event_loop()
        assert loop.run_until_complete(once()) == "stand-in"
        with pytest.raises(UsageError, match="another event loop"):
            asyncio.run(once())
        loop.run_until_complete(end())
        loop.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_a_forked_child_does_not_use_its_parents_connection() -> None:
    with (
        faulty(lambda r: Act(reply(200, {"name": str(r.connection)}))) as server,
        Client(server.url) as client,
    ):
        assert client.server().name == "0"
        child = os.fork()
        if child == 0:
            code = 1
            try:
                code = 0 if client.server().name == "1" else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert client.server().name == "0"  # and the parent's is as it was


def test_headers_of_a_function_are_asked_for_each_attempt() -> None:
    made: list[int] = []

    def trace() -> dict[str, str]:
        made.append(1)
        return {"traceparent": f"00-{len(made)}"}

    acts = in_turn(Act(reply(503, {})), Act(metadata()))
    with faulty(acts) as server, Client(server.url, headers=trace, retries=QUICK) as client:
        client.server()
    assert [request.headers["traceparent"] for request in server.requests] == ["00-1", "00-2"]


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_compressed_bodies_both_ways(encoding: Any) -> None:
    window = 31 if encoding == "gzip" else 15
    seen: list[bytes] = []

    def act(request: Request) -> Act:
        seen.append(zlib.decompress(request.body, window))
        head = json.dumps(
            {
                "outputs": [
                    {"name": "y", "datatype": "FP32", "shape": [2], "parameters": {"binary_data_size": 8}}
                ]
            }
        ).encode()
        packer = zlib.compressobj(1, zlib.DEFLATED, window)
        body = packer.compress(head + np.array([1, 2], np.float32).tobytes()) + packer.flush()
        lines = (
            f"HTTP/1.1 200 OK\r\nContent-Encoding: {encoding}\r\nContent-Length: {len(body)}\r\n"
            f"Inference-Header-Content-Length: {len(head)}\r\n\r\n"
        )
        return Act(lines.encode() + body)

    with faulty(act) as server, Client(server.url, compression=encoding) as client:
        got = client.infer("m", {"x": np.zeros(1000, np.float32)})
    assert got["y"].tolist() == [1.0, 2.0] and got["y"].flags.writeable
    assert server.requests[0].headers["accept-encoding"] == encoding
    assert server.requests[0].headers["content-encoding"] == encoding
    end = int(server.requests[0].headers["inference-header-content-length"])
    assert seen[0][end:] == bytes(4000)


def echo(request: Request) -> Act:
    """The one input back, as output y."""
    end = int(request.headers["inference-header-content-length"])
    sent = json.loads(request.body[:end])
    (tensor,) = sent["inputs"]
    output = {name: tensor[name] for name in ("shape", "datatype", "parameters")} | {"name": "y"}
    head = json.dumps({"id": sent.get("id"), "outputs": [output]}).encode()
    size = len(head) + len(request.body) - end
    lines = (
        f"HTTP/1.1 200 OK\r\nInference-Header-Content-Length: {len(head)}\r\nContent-Length: {size}\r\n\r\n"
    )
    return Act(lines.encode() + head + request.body[end:])


@pytest.mark.parametrize("connections", [4, 100])
def test_32_threads_open_no_more_connections_than_they_may_and_mix_nothing_up(connections: int) -> None:
    wrong: list[Any] = []
    with faulty(echo) as server, Client(server.url, connections=connections) as client:

        def work(thread: int) -> None:
            for turn in range(20):
                sent = np.array([thread * 1000 + turn])
                got = client.infer("m", {"x": sent})["y"]
                if got.tolist() != sent.tolist():
                    wrong.append((sent, got))

        threads = [threading.Thread(target=work, args=(number,)) for number in range(32)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert not wrong and len(server.requests) == 32 * 20
    assert server.connections <= min(connections, 32)


async def test_200_tasks_share_8_connections_and_mix_nothing_up() -> None:
    with faulty(echo) as server:
        async with AsyncClient(server.url, connections=8) as client:

            async def one(number: int) -> bool:
                sent = np.full(1 + number * 50, number)
                return bool(np.array_equal((await client.infer("m", {"x": sent}))["y"], sent))

            assert all(await asyncio.gather(*(one(number) for number in range(200))))
    assert server.connections == 8


async def test_cancelling_at_any_moment_mixes_nothing_up() -> None:
    with faulty(echo) as server:
        async with AsyncClient(server.url, connections=4) as client:

            async def one(number: int) -> bool:
                sent = np.array([number])
                task = asyncio.create_task(client.infer("m", {"x": sent}))
                await asyncio.sleep(number % 7 * 0.0005)
                if number % 3 == 0:
                    task.cancel()
                try:
                    return bool((await task)["y"][0] == number)
                except asyncio.CancelledError:
                    return number % 3 == 0

            assert all(await asyncio.gather(*(one(number) for number in range(150))))


@pytest.mark.parametrize("size", [1 << 16, (1 << 16) + 1, 40_000_003])
def test_huge_arrays_there_and_back(size: int) -> None:
    sent = np.random.default_rng(size).integers(0, 256, size, np.uint8)

    async def run(url: str) -> Any:
        async with AsyncClient(url) as client:
            return (await client.infer("m", {"x": sent}))["y"]

    with faulty(echo) as server:
        with Client(server.url) as client:
            assert np.array_equal(client.infer("m", {"x": sent})["y"], sent)
        assert np.array_equal(asyncio.run(run(server.url)), sent)
