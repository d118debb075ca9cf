"""Whatever is refused before a model is asked is counted, once and under its reason."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from modelport.engine.arena import MIN_SLOT
from modelport.engine.settings import EngineSettings
from modelport.errors import Forbidden
from modelport.monitor.declared import REASONS
from modelport.serve import server
from modelport.serve.guard.eas import signature
from modelport.serve.guard.keys import new_key, update
from modelport.serve.limits import Limits
from modelport.serve.settings import ServeSettings
from modelport.serve.websocket import open_websocket

from ..colours import pack_colours, picture
from .port import Port, Run

RED = picture("red")
LIMITS = Limits(
    max_body=256 << 10,
    max_head=4 << 10,
    max_headers=20,
    max_target=1 << 10,
    max_connections=4,
    head_seconds=0.5,
    body_seconds=0.5,
)


class Refused(NamedTuple):
    """A request in pieces, its status, and as what it is counted."""

    status: int
    reason: str
    request: bytes
    sent: bytes = b""
    """What comes before the refusal, after `request` and without an end."""


def request(*lines: str, body: bytes = b"", start: str = "POST /predict/colours", key: str = "all") -> bytes:
    """A whole request; `KEY` stands for the key's own text."""
    given = [f"{start} HTTP/1.1", *lines, f"Content-Length: {len(body)}"]
    if not any(line.startswith("Host:") for line in lines):
        given.append("Host: localhost")
    if key:
        given.append(f"Authorization: Bearer KEY-{key}")
    return "\r\n".join([*given, "", ""]).encode() + body


CHUNKED = b"POST /predict/colours HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer KEY-all\r\n"
CHUNKED += b"Transfer-Encoding: chunked\r\n\r\n"
EVIL = "Origin: https://evil.example"
ZIPPED = "Content-Encoding: gzip"
CASES = {
    "another host": Refused(403, "host", request("Host: evil.example", body=RED)),
    "another page, answered at once": Refused(403, "origin", request(EVIL, body=RED)),
    "another page": Refused(
        403, "origin", request("Sec-Fetch-Site: cross-site", start="POST /v2/repository/index")
    ),
    "no key": Refused(401, "unauthorized", request(body=RED, key="")),
    "no key, a large body": Refused(401, "unauthorized", request(body=bytes(MIN_SLOT), key="")),
    "another model's key": Refused(403, "unauthorized", request(body=RED, key="other")),
    "a model's key where none is named": Refused(
        403, "unauthorized", request(start="POST /invocations", key="other")
    ),
    "another body than was signed": Refused(401, "unauthorized", b"SIGNED /predict/colours"),
    "another body than was signed, by the routes": Refused(
        401, "unauthorized", b"SIGNED /v2/repository/index"
    ),
    "too often": Refused(429, "rate_limited", request(body=RED, key="rare")),
    "a large body": Refused(413, "too_large", request(body=bytes(257 << 10))),
    "a large body in chunks": Refused(413, "too_large", CHUNKED, b"40001\r\n" + bytes(0x40001)),
    "a large body, unpacked": Refused(
        413, "too_large", request(ZIPPED, body=gzip.compress(bytes(257 << 10)))
    ),
    "a long head": Refused(431, "too_large", b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 5000),
    "many headers": Refused(431, "too_large", request(*("X: x" for _ in range(30)))),
    "a long target": Refused(414, "too_large", request(start="GET /" + "x" * 2000)),
    "no HTTP": Refused(400, "invalid", b"\x16\x03\x01 hello\r\n\r\n"),
    "two hosts": Refused(400, "invalid", request("Host: localhost", "Host: localhost")),
    "an unknown method": Refused(405, "invalid", request(start="PURGE /v2")),
    "a deadline that is none": Refused(400, "invalid", request("X-Request-Timeout-Ms: soon", body=RED)),
    "half a head": Refused(408, "timeout", b"POST /predict/colours HTTP/1.1\r\nHo"),
    "half a body": Refused(408, "timeout", request(body=RED)[:-1]),
}
FULL = {
    "more than all bodies may be": Refused(503, "queue_full", request(body=bytes(200 << 10))),
    "more than all bodies may be, unpacked": Refused(
        503, "queue_full", request(ZIPPED, body=gzip.compress(bytes(200 << 10)))
    ),
}


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack_colours(tmp_path_factory.mktemp("refused"))


class Server(NamedTuple):
    """A server in this process."""

    serving: server.Serving
    address: tuple[str, int]
    keys: dict[str, str]

    def filled(self, data: bytes) -> bytes:
        """A request with the keys' own texts in it."""
        if data.startswith(b"SIGNED "):
            path = data.decode().partition(" ")[2]
            md5 = hashlib.md5(b"another").hexdigest()
            made = signature(self.keys["all"], "POST", md5, "", "", path)
            signed = f"Authorization: EAS {made}"
            return request(signed, f"Content-MD5: {md5}", start=f"POST {path}", body=RED, key="")
        for name, key in self.keys.items():
            data = data.replace(f"KEY-{name}".encode(), key.encode())
        return data

    async def status(self, case: Refused) -> int:
        """The status that the request gets."""
        reader, writer = await asyncio.open_connection(*self.address)
        async with asyncio.timeout(30):
            writer.write(self.filled(case.request) + case.sent)
            line = await reader.readline()
        writer.close()
        return int(line.split()[1])

    def counted(self) -> dict[str, int]:
        """Refusals by reason, whether their model was known or not."""
        found: dict[str, int] = {}
        for each in (self.serving.metrics, *self.serving.metrics.models()):
            for reason, times in each.refusals.items():
                if times:
                    found[reason] = found.get(reason, 0) + times
        return found

    def of_models(self) -> int:
        """Those whose model was known."""
        return sum(sum(each.refusals.values()) for each in self.serving.metrics.models())

    def forget(self) -> None:
        """Count from nothing."""
        for each in (self.serving.metrics, *self.serving.metrics.models()):
            each.refusals.update(dict.fromkeys(REASONS, 0))


@asynccontextmanager
async def running(
    repo: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, limits: Limits = LIMITS, **more: Any
) -> AsyncIterator[Server]:
    texts: dict[str, str] = {}

    def change(keys: Any) -> Any:
        wishes: dict[str, dict[str, Any]] = {
            "all": {"signing": True},
            "other": {"models": ("another",)},
            "rare": {"rate": "1/d"},
        }
        for name, more in wishes.items():
            keys, texts[name] = new_key(name, ("infer",), keys=keys, **more)
        return keys

    update(folder / "keys.json", change)
    monkeypatch.setattr(server, "_quiet_collector", lambda: None)
    settings = ServeSettings(
        engine=EngineSettings(executors=1, wide=False),
        limits=limits,
        keys=folder / "keys.json",
        watch=0,
        **more,
    )
    serving = server.Serving(repo, settings)
    ready = asyncio.Event()
    with socket.create_server(("127.0.0.1", 0)) as sock:
        task = asyncio.create_task(serving.run(sock, lambda entries, port: ready.set()))
        try:
            async with asyncio.timeout(60):
                await ready.wait()
            yield Server(serving, sock.getsockname(), texts)
        finally:
            serving.stopping.set()
            await task


async def misfits(server: Server, cases: dict[str, Refused]) -> dict[str, Any]:
    """The statuses and counts of what is not refused, or not counted, as it should be."""
    found = {}
    for name, case in cases.items():
        server.forget()
        status = await server.status(case)
        if (status, server.counted()) != (case.status, {case.reason: 1}):
            found[name] = status, server.counted()
    return found


async def test_every_refusal_is_counted_once_and_under_its_reason(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(repo, tmp_path, monkeypatch) as server:
        assert await server.status(Refused(200, "", request(body=RED))) == 200
        assert await server.status(Refused(200, "", request(body=RED, key="rare"))) == 200
        assert not server.counted()
        assert not await misfits(server, CASES)


async def test_bodies_that_are_too_much_together_are_counted(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(repo, tmp_path, monkeypatch, Limits(max_buffered=100 << 10)) as server:
        assert not await misfits(server, FULL)


async def test_a_connection_too_many_is_counted(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(repo, tmp_path, monkeypatch, Limits(max_connections=2)) as server:
        open_ones = [await asyncio.open_connection(*server.address) for _ in range(2)]
        assert await server.status(Refused(503, "", b"")) == 503
        assert server.counted() == {"queue_full": 1}
        for _, writer in open_ones:
            writer.close()


def test_a_foreign_page_s_websocket_is_counted(run: Run) -> None:
    async def test(port: Port) -> None:
        counted: list[str] = []
        port.server.refused = counted.append
        caller = await port.connect()
        await caller.send(
            b"GET /track/x HTTP/1.1\r\nHost: localhost\r\nOrigin: https://evil.example\r\n"
            b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        )
        exchange = await port.take()
        with pytest.raises(Forbidden, match=r"evil\.example"):
            open_websocket(exchange, origins=(), max_message=1, idle_seconds=1)
        exchange.reply(403, b"")
        caller.close()
        assert counted == ["origin"]

    run(test)
