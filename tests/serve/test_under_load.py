"""The real server under load: swaps, crashes, overload. Nobody's request fails who did nothing wrong."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import numpy as np
import psutil
import pytest

from modelport import AsyncClient, Bundle
from modelport.errors import DeadlineExceeded, QueueFull, Unavailable

from ..colours import LABELS, pack_colours, picture, served

PICTURES = {colour: picture(colour) for colour in LABELS}


async def eventually(condition: Callable[[], Awaitable[bool]], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < end, "it did not come about"
        await asyncio.sleep(0.05)


async def test_versions_swapped_under_full_load_fail_nobody(tmp_path: Path) -> None:
    repo = pack_colours(tmp_path)
    with served(repo, "--watch", "100ms", "--executors", "1") as (url, _):
        seen: Counter[str] = Counter()
        stop = asyncio.Event()

        async def caller(number: int) -> None:
            # No retries: what fails once is a failure.
            async with AsyncClient(url, retries=0) as client:
                while not stop.is_set():
                    colour = LABELS[number % 3]
                    answer = await client.predict("colours", PICTURES[colour])
                    assert answer.top.label == colour
                    seen[str(answer.version)] += 1
                    rows = np.full((1 + number % 3, 3, 8, 8), number, np.float32)
                    result = await client.infer("colours.net", {"x": rows})
                    assert np.allclose(result["logits"], number * 20.0, rtol=1e-4)

        callers = [asyncio.ensure_future(caller(number)) for number in range(12)]
        for version in range(2, 6):
            Bundle.open(repo / "colours" / "1").derive(
                repo / "colours" / str(version), {}, version=str(version)
            )

            async def answers(version: int = version) -> bool:
                assert not any(each.done() for each in callers), [e.exception() for e in callers if e.done()]
                return seen[str(version)] > 20

            await eventually(answers)
        stop.set()
        await asyncio.gather(*callers)
        assert set(seen) == {"1", "2", "3", "4", "5"}


async def test_a_killed_executor_is_nobodys_error(tmp_path: Path) -> None:
    repo = pack_colours(tmp_path)
    with served(repo, "--executors", "2") as (url, server):
        stop = asyncio.Event()
        answered = 0

        async def caller(number: int) -> None:
            nonlocal answered
            async with AsyncClient(url, retries=0) as client:
                while not stop.is_set():
                    colour = LABELS[number % 3]
                    assert (await client.predict("colours", PICTURES[colour])).top.label == colour
                    answered += 1

        callers = [asyncio.ensure_future(caller(number)) for number in range(8)]
        for _ in range(4):
            before = answered

            async def more(before: int = before) -> bool:
                return answered > before + 20 or any(each.done() for each in callers)

            await eventually(more)
            for child in psutil.Process(server.pid).children()[:1]:
                os.kill(child.pid, signal.SIGKILL)
        stop.set()
        await asyncio.gather(*callers)


def workers_of(server: subprocess.Popen[bytes]) -> list[psutil.Process]:
    return [each for each in psutil.Process(server.pid).children() if each.is_running()]


def ports_at(worker: psutil.Process) -> set[int]:
    """The callers' ports of the connections that a worker has."""
    return {each.raddr.port for each in worker.net_connections("tcp") if each.raddr}


async def asked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, colour: str) -> bool:
    """Whether a picture of a colour is answered on this connection with that."""
    picture = PICTURES[colour]
    writer.write(
        b"POST /predict/colours HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(picture)
    )
    writer.write(picture)
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].partition(b"\r")[0])
    answer = json.loads(await reader.readexactly(length))
    return head.startswith(b"HTTP/1.1 200 ") and answer["answer"][0]["label"] == colour


class Callers:
    """Each with one connection at a time, and another where that is cut."""

    def __init__(self, url: str, count: int) -> None:
        self.ports: set[int] = set()
        """On this side, of every connection there was."""
        self.cut: Counter[int] = Counter()
        self._address = "127.0.0.1", urlsplit(url).port
        self._answered = 0
        self._stop = asyncio.Event()
        self._tasks = [asyncio.ensure_future(self._ask(LABELS[number % 3])) for number in range(count)]

    async def _ask(self, colour: str) -> None:
        while not self._stop.is_set():
            port = 0
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                reader, writer = await asyncio.open_connection(*self._address)
                with contextlib.closing(writer):
                    port = writer.get_extra_info("sockname")[1]
                    self.ports.add(port)
                    while not self._stop.is_set():
                        assert await asked(reader, writer, colour)
                        self._answered += 1
                    return
            self.cut[port] += 1

    async def more(self, count: int) -> None:
        """Wait for so many answers."""
        least = self._answered + count

        async def enough() -> bool:
            assert not any(each.done() for each in self._tasks)
            return self._answered > least

        await eventually(enough)

    async def end(self) -> None:
        self._stop.set()
        await asyncio.gather(*self._tasks)


async def test_a_killed_worker_takes_its_own_connections_and_comes_back(tmp_path: Path) -> None:
    repo = pack_colours(tmp_path)
    with served(repo, "--workers", "2", "--executors", "1") as (url, server):
        first = workers_of(server)
        assert len(first) == 2
        callers = Callers(url, 16)
        await callers.more(200)
        dead, spared = ports_at(first[0]), ports_at(first[1])
        assert dead and spared and dead | spared == callers.ports and not callers.cut
        first[0].kill()

        async def gone() -> bool:
            return first[0] not in workers_of(server)

        await eventually(gone)
        await callers.more(50)
        # Its connections, and those that came to it while it died.
        lost = callers.cut.total()
        assert all(callers.cut[port] == 1 for port in dead) and not callers.cut.keys() & spared

        async def back() -> bool:
            return len(workers_of(server)) == 2

        await eventually(back)
        await callers.more(200)
        assert spared <= ports_at(first[1])
        await callers.end()
        # Nobody else's, neither while a worker was missing nor when there was one in its place.
        assert callers.cut.total() == lost

        async def both_counted() -> bool:
            async with httpx.AsyncClient(base_url=url) as http:
                text = (await http.get("/metrics")).text
            return 'modelport_executors{model="colours",version="1"} 2.0' in text

        await eventually(both_counted)


async def test_workers_that_are_told_to_stop_answer_what_they_took(tmp_path: Path) -> None:
    repo = pack_colours(tmp_path)
    with served(repo, "--workers", "2", "--executors", "1") as (url, server), contextlib.ExitStack() as later:
        port = urlsplit(url).port
        connections = [await asyncio.open_connection("127.0.0.1", port) for _ in range(40)]
        colours = [LABELS[number % 3] for number in range(40)]
        assert all([await asked(*each, "red") for each in connections])
        workers = workers_of(server)
        assert all(ports_at(each) for each in workers)
        executors = [executor for worker in workers for executor in worker.children()]
        assert len(executors) == 2
        for each in executors:
            each.suspend()
            later.callback(each.resume)
        asking = [
            asyncio.ensure_future(asked(*each, colour))
            for each, colour in zip(connections, colours, strict=True)
        ]
        # Each worker says how many wait, after it has read what came before; others are with the executors.
        waiting: list[float] = []

        async def taken() -> bool:
            await asyncio.sleep(0.2)
            async with httpx.AsyncClient(base_url=url) as http:
                lines = (await http.get("/metrics")).text.splitlines()
            waiting.extend(
                float(line.split()[-1]) for line in lines if line.startswith("modelport_waiting_rows{")
            )
            return waiting[-1] > 0 and len(waiting) > 3 and len(set(waiting[-3:])) == 1

        await eventually(taken)
        server.send_signal(signal.SIGTERM)

        async def refused() -> bool:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionError:
                return True
            writer.close()
            return False

        await eventually(refused)
        assert server.poll() is None and not any(each.done() for each in asking)
        later.close()
        assert all(await asyncio.gather(*asking))
        for _, writer in connections:
            writer.close()
        assert await asyncio.to_thread(server.wait, 30) == 0


async def test_under_overload_some_are_answered_and_the_others_hear_why_not(tmp_path: Path) -> None:
    repo = pack_colours(tmp_path)
    with served(repo, "--slo", "80ms", "--executors", "1") as (url, _):
        rows = np.zeros((2000, 3, 8, 8), np.float32)
        counts: Counter[str] = Counter()

        async def caller() -> None:
            async with AsyncClient(url, retries=0) as client:
                for _ in range(8):
                    try:
                        result = await client.infer("colours.net", {"x": rows})
                        assert result["logits"].shape == (2000, 3)
                        counts["answered"] += 1
                    except QueueFull as problem:
                        counts["refused"] += problem.retry_after > 0
                    except (DeadlineExceeded, Unavailable):
                        counts["late"] += 1

        await asyncio.gather(*(caller() for _ in range(40)))
        assert sum(counts.values()) == 320
        assert counts["answered"] > 0 and counts["refused"] + counts["late"] > 0
        # And it is well afterwards.
        async with AsyncClient(url, retries=0) as client:
            assert (await client.predict("colours", PICTURES["red"])).top.label == "red"


@pytest.mark.parametrize("header", ["0", "-5", "soon", "1e9", "5;x"])
def test_a_deadline_that_is_none_is_refused(tmp_path: Path, header: str) -> None:
    with served(pack_colours(tmp_path), "--executors", "1") as (url, _):
        reply = httpx.post(
            f"{url}/predict/colours", content=PICTURES["red"], headers={"X-Request-Timeout-Ms": header}
        )
        assert reply.status_code == 400 and "X-Request-Timeout-Ms" in reply.json()["error"]


def test_where_the_time_went_is_in_every_answer(tmp_path: Path) -> None:
    with served(pack_colours(tmp_path), "--executors", "1") as (url, _), httpx.Client(base_url=url) as http:
        for content, headers in (
            (PICTURES["red"], {}),
            (PICTURES["red"], {"Content-Type": "multipart/form-data; boundary=x"}),
        ):
            if headers:
                content = (
                    b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + content
                )
                content += b"\r\n--x--\r\n"
            timing = http.post("/predict/colours", content=content, headers=headers).headers["server-timing"]
            assert {part.split(";")[0].strip() for part in timing.split(",")} >= {"decode", "queue", "net"}
        pictures = [base64.b64encode(each).decode() for each in PICTURES.values()]
        pixels = {"name": "image", "datatype": "UINT8", "shape": [1, 1, 3], "data": [1, 2, 3]}
        one = {"instances": [{"b64": pictures[0]}]}
        for path, asked in (
            ("/v2/models/colours/infer", {"inputs": [pixels]}),
            ("/predict/colours", {"image": pictures[0]}),
            ("/v1/models/colours:predict", one),
            ("/v1/models/colours:predict", {"instances": [{"b64": each} for each in pictures]}),
            ("/predictions/colours", {"data": pictures[0]}),
            ("/hf/colours", {"inputs": pictures[0]}),
            ("/invocations/colours", one),
            ("/api/predict/colours", {"image": pictures[0]}),
        ):
            reply = http.post(path, json=asked)
            assert reply.status_code == 200, (path, reply.text)
            timing = dict(part.strip().split(";") for part in reply.headers["server-timing"].split(","))
            assert float(timing["net"].removeprefix("dur=")) > 0, (path, timing)
            assert 1 <= int(timing["batch"].removeprefix("desc=")) <= len(pictures), (path, timing)
        # What no model answered took no time of any.
        assert "server-timing" not in http.post("/hf/colours", json={"inputs": 7}).headers
        assert "server-timing" not in http.get("/v2/models/colours").headers
        assert urlsplit(url).port
