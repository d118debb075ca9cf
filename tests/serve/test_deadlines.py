"""One rule on every way in: the earlier of what a caller says, else what the server says."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import grpc
import httpx
import numpy as np
import pytest

from modelport.engine.model import LiveModel
from modelport.engine.repository import Repository
from modelport.engine.settings import EngineSettings
from modelport.engine.submission import Submission
from modelport.protos import open_inference as oi
from modelport.serve.app import create_app
from modelport.serve.front import Front
from modelport.serve.grpc.server import start_grpc
from modelport.serve.guard.guard import Guard
from modelport.serve.http1 import Connection
from modelport.serve.limits import Limits
from modelport.serve.listener import Server
from modelport.serve.settings import ServeSettings

from ..colours import pack_colours, picture

OWN = 20.0
"""Seconds that the server gives those who say nothing."""
SLACK = 4.0
CASES = {
    "neither": (None, None, OWN),
    "shorter, in the request": (9.0, None, 9.0),
    "longer, in the request": (90.0, None, 90.0),
    "shorter, beside it": (None, 9.0, 9.0),
    "longer, beside it": (None, 90.0, 90.0),
    "earlier in the request": (60.0, 90.0, 60.0),
    "earlier beside it": (90.0, 60.0, 60.0),
}
BATCH = np.ones((1, 3, 8, 8), np.float32)


class Running(NamedTuple):
    url: str
    grpc: str
    deadlines: list[float]
    """Of what was queued, in seconds from then."""


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack_colours(tmp_path_factory.mktemp("deadlines"))


@asynccontextmanager
async def running(repo: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Running]:
    """Both servers in the test's own process."""
    engine = EngineSettings(executors=1, wide=False, timeout=OWN)
    repository = Repository(repo, engine)
    await repository.open()
    settings, guard = ServeSettings(engine=engine), Guard()
    app = create_app(repository, settings, guard=guard)
    app.state.stopping = lambda: False
    server = Server(
        Front(app, ("127.0.0.1", 0), settings, repository=repository, guard=guard),
        Limits(),
        repository.arena,
    )
    listener = await asyncio.get_running_loop().create_server(lambda: Connection(server), "127.0.0.1", 0)
    state = SimpleNamespace(repository=repository, management=False, stopping=lambda: False)
    other = await start_grpc(state, "127.0.0.1", 0)
    deadlines: list[float] = []
    enqueue = LiveModel.enqueue

    def noted(model: LiveModel, submission: Submission) -> None:
        deadlines.append(submission.deadline - time.monotonic())
        enqueue(model, submission)

    monkeypatch.setattr(LiveModel, "enqueue", noted)
    try:
        url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        yield Running(url, f"127.0.0.1:{other.port}", deadlines)
    finally:
        await other.stop(1)
        listener.close()
        server.close_idle()
        await repository.close()


def of_http(way: str, timeout: float | None) -> tuple[str, bytes, dict[str, str]]:
    """Path, body and headers of a request."""
    if way == "picture":
        return "/predict/colours", picture("red"), {}
    tensor = {"name": "x", "datatype": "FP32", "shape": list(BATCH.shape)}
    parameters = {} if timeout is None else {"timeout": round(timeout * 1e6)}
    if way == "json":
        tensor["data"] = BATCH.ravel().tolist()
        text = json.dumps({"inputs": [tensor], "parameters": parameters}).encode()
        return "/v2/models/colours.net/infer", text, {}
    if way == "whole":
        image = {"name": "image", "datatype": "UINT8", "shape": [2, 2, 3], "data": [1] * 12}
        text = json.dumps({"inputs": [image], "parameters": parameters}).encode()
        return "/v2/models/colours/infer", text, {}
    tensor["parameters"] = {"binary_data_size": BATCH.nbytes}
    head = {"inputs": [tensor], "parameters": parameters | {"binary_data_output": True}}
    text = json.dumps(head).encode()
    headers = {"Inference-Header-Content-Length": str(len(text))}
    return "/v2/models/colours.net/infer", text + BATCH.tobytes(), headers


@pytest.mark.parametrize("way", ["binary", "json", "whole", "picture"])
async def test_over_http(repo: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    async with running(repo, monkeypatch) as server, httpx.AsyncClient(timeout=30) as client:
        for name, (inside, beside, expected) in CASES.items():
            if way == "picture" and inside is not None:
                continue
            path, body, headers = of_http(way, inside)
            if beside is not None:
                headers["X-Request-Timeout-Ms"] = str(round(beside * 1e3))
            for _ in range(2):  # a head that is new, and one that is remembered
                server.deadlines.clear()
                reply = await client.post(server.url + path, content=body, headers=headers)
                assert reply.status_code == 200, reply.text
                assert abs(server.deadlines[0] - expected) < SLACK, (name, server.deadlines)


async def test_a_millisecond_is_not_enough_even_where_nothing_else_is_to_be_done(
    repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(repo, monkeypatch) as server, httpx.AsyncClient(timeout=30) as client:
        path, body, headers = of_http("picture", None)
        headers["X-Request-Timeout-Ms"] = "1"
        for _ in range(10):
            reply = await client.post(server.url + path, content=body, headers=headers)
            assert reply.status_code in (503, 504), reply.text
            await asyncio.sleep(0.02)  # the time after which one that seems too late may be tried again


@pytest.mark.parametrize("way", ["unary", "stream"])
async def test_over_grpc(repo: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    async with running(repo, monkeypatch) as server, grpc.aio.insecure_channel(server.grpc) as channel:
        stub = oi.Stub(channel)
        for name, (inside, beside, expected) in CASES.items():
            request = oi.ModelInferRequest(model_name="colours.net", raw_input_contents=[BATCH.tobytes()])
            request.inputs.add(name="x", datatype="FP32", shape=BATCH.shape)
            if inside is not None:
                request.parameters["timeout"].int64_param = round(inside * 1e6)
            for _ in range(2):
                server.deadlines.clear()
                if way == "unary":
                    await stub.ModelInfer(request, timeout=beside)
                else:
                    (reply,) = [each async for each in stub.ModelStreamInfer(iter([request]), timeout=beside)]
                    assert not reply.error_message
                assert abs(server.deadlines[0] - expected) < SLACK, (name, server.deadlines)
