"""How much callers may have on their way: messages, calls, connections, and what strangers may send."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import numpy as np
import pytest

from modelport.engine.repository import Repository
from modelport.engine.settings import EngineSettings
from modelport.protos import open_inference as oi
from modelport.serve.grpc import server, stream
from modelport.serve.guard.guard import Guard
from modelport.serve.guard.keys import new_key, update
from modelport.serve.memory import BodyMemory

from .test_stream import ask

Code = grpc.StatusCode
SIZE = 1 << 20
OPTIONS = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1)]


@asynccontextmanager
async def running(repo: Path, **more: Any) -> AsyncIterator[str]:
    """The server in the test's own process: its address."""
    repository = Repository(repo / "slow", EngineSettings(executors=1, wide=False))
    await repository.open()
    state = SimpleNamespace(repository=repository, management=False, stopping=lambda: False)
    handle = await server.start_grpc(state, "127.0.0.1", 0, **more)
    try:
        yield f"127.0.0.1:{handle.port}"
    finally:
        await handle.stop(0)
        await repository.close()


def channel_to(address: str) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(address, options=OPTIONS)


async def code_of(call: Any) -> Code:
    try:
        await call
    except grpc.aio.AioRpcError as problem:
        return problem.code()
    return Code.OK


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.005)


def large() -> oi.ModelInferRequest:
    """Answered with an error, but not before its bytes were counted."""
    request = ask(1)
    request.raw_input_contents[0] = bytes(SIZE)
    return request


async def test_messages_count_among_all_bodies_until_they_are_answered(repo: Path) -> None:
    memory = BodyMemory(SIZE)
    async with running(repo, memory=memory) as address, channel_to(address) as channel:
        stub = oi.Stub(channel)
        assert await code_of(stub.ModelInfer(ask(0.5))) == Code.OK
        # Too large for what is left, however it comes; and refused in words that say for how long.
        with pytest.raises(grpc.aio.AioRpcError, match="too many large bodies") as raised:
            await stub.ModelInfer(large())
        assert raised.value.code() == Code.UNAVAILABLE
        assert dict(raised.value.trailing_metadata())["retry-after"] == "1"
        (reply,) = [each async for each in stub.ModelStreamInfer(iter([large()]))]
        assert "too many large bodies" in reply.error_message
        padded = oi.RepositoryIndexRequest(repository_name="x" * SIZE)
        assert await code_of(stub.RepositoryIndex(padded)) == Code.UNAVAILABLE
        assert memory.held == 0
        # One that is being answered counts: 0.2 s for a whole number.
        busy = asyncio.ensure_future(code_of(stub.ModelInfer(ask(1))))
        await until(lambda: memory.held > 0)
        assert await busy == Code.OK and memory.held == 0


async def test_while_it_is_full_no_message_is_read(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = BodyMemory(SIZE)
    async with running(repo, memory=memory) as address, channel_to(address) as channel:
        stub = oi.Stub(channel)
        memory.held = SIZE + 1
        call = channel.stream_unary(f"/{oi.SERVICE}/ModelInfer")()  # nothing is ever sent
        assert await code_of(asyncio.wait_for(call, 30)) == Code.UNAVAILABLE
        assert (await stub.ServerLive(oi.ServerLiveRequest())).live
        memory.held = 0
        assert await code_of(stub.ModelInfer(ask(0.5))) == Code.OK


async def test_a_stream_has_so_many_bytes_on_its_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "BYTES_IN_FLIGHT", 100)
    taken: list[int] = []
    go = asyncio.Event()
    written: list[bytes] = []

    async def answer(data: bytes) -> bytes:
        taken.append(len(data))
        await go.wait()
        return data

    async def requests() -> AsyncIterator[bytes]:
        for size in (40, 60, 1, 500, 30):
            yield bytes(size)

    async def write(data: bytes) -> None:
        written.append(data)
        # Whoever does not read has read nothing more of his own.
        assert sum(taken[len(written) - 1 :]) <= 100 or taken[len(written) - 1] == 500

    work = asyncio.ensure_future(stream.answer_stream(answer, requests(), write, strict=True))
    await until(lambda: len(taken) == 2)
    await asyncio.sleep(0.05)
    assert taken == [40, 60]
    go.set()
    await asyncio.wait_for(work, 30)
    assert taken == [40, 60, 1, 500, 30] and len(written) == 5


async def test_calls_are_counted(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MAX_CALLS", 3)
    async with running(repo) as address, channel_to(address) as channel, channel_to(address) as other:
        open_calls = [oi.Stub(channel).ModelStreamInfer() for _ in range(3)]
        for call in open_calls:
            await call.write(ask(0.5))
            assert not (await call.read()).error_message
        assert await code_of(oi.Stub(other).ServerLive(oi.ServerLiveRequest())) == Code.RESOURCE_EXHAUSTED
        open_calls[0].cancel()
        async with asyncio.timeout(30):
            while await code_of(oi.Stub(other).ServerLive(oi.ServerLiveRequest())) != Code.OK:
                await asyncio.sleep(0.01)
        for call in open_calls:
            call.cancel()


async def test_connections_are_counted(repo: Path) -> None:
    async with running(repo, max_connections=2) as address:
        channels = [channel_to(address) for _ in range(3)]
        codes = [
            await code_of(oi.Stub(channel).ServerLive(oi.ServerLiveRequest(), timeout=20))
            for channel in channels
        ]
        assert codes == [Code.OK, Code.OK, Code.UNAVAILABLE]
        for channel in channels:
            await channel.close()


async def test_a_stranger_s_message_is_not_read(repo: Path, tmp_path: Path) -> None:
    path, keys = tmp_path / "keys.json", {}

    def change(before: Any) -> Any:
        after, keys["caller"] = new_key("caller", ("infer",), keys=before)
        return after

    update(path, change)
    async with running(repo, guard=Guard.open(path)) as address, channel_to(address) as channel:
        for name in ("ModelInfer", "ModelStreamInfer", "ModelMetadata", "RepositoryModelLoad"):
            for metadata in ((), (("authorization", "Bearer mpk_wrong"),)):
                # A call whose message never comes: who waited for it would wait for ever.
                call = channel.stream_stream(f"/{oi.SERVICE}/{name}")(metadata=metadata)
                assert await asyncio.wait_for(call.code(), 30) == Code.UNAUTHENTICATED
        metadata = (("authorization", f"Bearer {keys['caller']}"),)
        reply = await oi.Stub(channel).ModelInfer(ask(0.5), metadata=metadata)
        assert np.frombuffer(reply.raw_output_contents[0], np.float32).tolist() == [0.5]
        assert (await oi.Stub(channel).ServerLive(oi.ServerLiveRequest())).live
