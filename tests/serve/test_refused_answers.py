"""Whatever is answered with an error is counted once, of its model where that is known."""

from __future__ import annotations

import gzip
import json
import math
import struct
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import httpx
import pytest

from modelport.serve.limits import Limits

from ..colours import pack_colours, picture
from .test_refused import Server, running

RED = picture("red")
PREDICT, INFER = "/predict/colours", "/v2/models/colours.net/infer"
DEEP = b"[" * 2000 + b"]" * 2000
SETTINGS: dict[str, Any] = {"apis": ("v2", "predict", "tfs", "torchserve", "hf", "eas", "mlflow")}


class Case(NamedTuple):
    """A request, its status, as what it is counted, and whether its model is known."""

    status: int
    reason: str
    path: str
    body: bytes = b""
    headers: Mapping[str, str] = MappingProxyType({})
    method: str = "POST"
    of_model: bool = True


def tensors(shape: list[int], *, name: str = "x", **more: Any) -> bytes:
    """A v2 request whose tensor is as large as its shape says."""
    data = [0.0] * math.prod(shape)
    tensor = {"name": name, "datatype": "FP32", "shape": shape, "data": data}
    return json.dumps({"inputs": [tensor], **more}).encode()


def binary(shape: list[int]) -> tuple[bytes, dict[str, str]]:
    """The same in binary, and its headers."""
    size = 4 * math.prod(shape)
    tensor = {"name": "x", "datatype": "FP32", "shape": shape, "parameters": {"binary_data_size": size}}
    head = json.dumps({"inputs": [tensor]}).encode()
    return head + bytes(size), {"Inference-Header-Content-Length": str(len(head))}


def widened(png: bytes, side: int) -> bytes:
    """A PNG whose head says that it is a square of so many pixels a side."""
    head = b"IHDR" + struct.pack(">2I", side, side) + png[24:29]
    return png[:12] + head + struct.pack(">I", zlib.crc32(head)) + png[33:]


JSON = {"Content-Type": "application/json"}
UNMET = {"name": "logits", "parameters": {"classification": -1}}
CASES = {
    "an empty body": Case(400, "invalid", PREDICT),
    "broken JSON": Case(400, "invalid", PREDICT, b'{"a', JSON),
    "an unknown option": Case(400, "invalid", f"{PREDICT}?nonsense=1", RED),
    "no picture": Case(415, "invalid", PREDICT, b"no picture at all"),
    "no picture, by version": Case(415, "invalid", f"{PREDICT}/1", b"no picture at all"),
    "no picture, on the long way": Case(
        415, "invalid", PREDICT, gzip.compress(b"no picture"), {"Content-Encoding": "gzip"}
    ),
    "a picture of too many pixels": Case(413, "too_large", PREDICT, widened(RED, 20_000)),
    "another method": Case(405, "invalid", PREDICT, method="DELETE"),
    "another method, no model": Case(405, "invalid", "/metrics", method="DELETE", of_model=False),
    "a coding that is none": Case(415, "unsupported", PREDICT, RED, {"Content-Encoding": "br"}),
    "a bomb": Case(413, "too_large", PREDICT, gzip.compress(bytes(900 << 10)), {"Content-Encoding": "gzip"}),
    "a wrong shape": Case(400, "invalid", INFER, tensors([1, 3, 5, 5])),
    "a wrong name": Case(400, "invalid", INFER, tensors([1, 3, 8, 8], name="no")),
    "an unknown output": Case(400, "invalid", INFER, tensors([1, 3, 8, 8], outputs=[{"name": "no"}])),
    "a wish that the answer cannot meet": Case(
        400, "invalid", INFER, tensors([1, 3, 8, 8], outputs=[UNMET]), of_model=False
    ),
    "no JSON": Case(400, "invalid", INFER, b"{"),
    "binary of a wrong shape": Case(400, "invalid", INFER, *binary([1, 3, 5, 5])),
    "no head of JSON": Case(400, "invalid", INFER, b"{", {"Inference-Header-Content-Length": "1"}),
    "a head longer than the body": Case(
        400, "invalid", INFER, b"{}", {"Inference-Header-Content-Length": "99"}
    ),
    "deep JSON": Case(400, "invalid", "/v1/models/colours:predict", DEEP),
    "no base64": Case(400, "invalid", "/invocations", b'{"instances": ["!"]}', JSON, of_model=False),
    "an unknown model": Case(404, "not_found", "/predict/nobody", RED, of_model=False),
    "an unknown model's network": Case(
        404, "not_found", "/v2/models/nobody.net/infer", b"{}", of_model=False
    ),
    "an unknown version": Case(404, "not_found", f"{PREDICT}/9", RED, of_model=False),
    "an unknown page": Case(404, "not_found", "/nothing", method="GET", of_model=False),
    "an unknown model of TorchServe's": Case(404, "not_found", "/predictions/nobody", RED, of_model=False),
    "no picture for TorchServe's": Case(415, "invalid", "/predictions/colours", b"no picture"),
}


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack_colours(tmp_path_factory.mktemp("answers"))


async def found(server: Server, http: httpx.AsyncClient, case: Case) -> tuple[Any, ...]:
    """What became of a request: its status, the counts by reason, and those of models."""
    server.forget()
    reply = await http.request(case.method, case.path, content=case.body, headers=case.headers)
    return reply.status_code, server.counted(), server.of_models()


async def test_every_error_is_counted_once(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = Limits(max_body=800 << 10)
    async with running(repo, tmp_path, monkeypatch, limits, **SETTINGS) as server:
        headers = {"Authorization": f"Bearer {server.keys['all']}"}
        url = "http://{}:{}".format(*server.address)
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=30) as http:
            misfits = {}
            for name, case in CASES.items():
                came = await found(server, http, case)
                if came != (case.status, {case.reason: 1}, int(case.of_model)):
                    misfits[name] = came
            assert not misfits
            for good in (Case(200, "", PREDICT, RED), Case(404, "", "/v2/models/nobody/ready", method="GET")):
                assert await found(server, http, good) == (good.status, {}, 0), "answered, and a probe"


async def test_every_error_of_grpc_is_counted_once(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grpc = pytest.importorskip("grpc")
    from modelport.protos import open_inference as oi

    def asked(name: str, shape: list[int], version: str = "", output: str = "", best: int = 0) -> Any:
        request = oi.ModelInferRequest(model_name=name, model_version=version)
        if output:
            request.outputs.add(name=output).parameters["classification"].int64_param = best
        request.inputs.add(name="x", datatype="FP32", shape=shape)
        request.raw_input_contents.append(bytes(4 * math.prod(shape)))
        return request

    good = asked("colours.net", [1, 3, 8, 8])
    unknown = asked("colours.net", [1, 3, 8, 8], output="no")
    unmet = asked("colours.net", [1, 3, 8, 8], output="logits", best=-1)
    cases: dict[str, tuple[str, bytes, dict[str, int], int]] = {
        "a good one": ("ModelInfer", good.SerializeToString(), {}, 0),
        "a wrong shape": ("ModelInfer", asked("colours.net", [1, 5]).SerializeToString(), {"invalid": 1}, 1),
        "an unknown output": ("ModelInfer", unknown.SerializeToString(), {"invalid": 1}, 1),
        "a wish that the answer cannot meet": ("ModelInfer", unmet.SerializeToString(), {"invalid": 1}, 0),
        "no message": ("ModelInfer", b"\xff", {"invalid": 1}, 0),
        "an unknown model": ("ModelInfer", asked("no", [1]).SerializeToString(), {"not_found": 1}, 0),
        "an unknown version": (
            "ModelInfer",
            asked("colours", [1], "9").SerializeToString(),
            {"not_found": 1},
            0,
        ),
        "metadata of nobody": (
            "ModelMetadata",
            oi.ModelMetadataRequest(name="no").SerializeToString(),
            {"not_found": 1},
            0,
        ),
        "a probe": ("ModelReady", oi.ModelReadyRequest(name="no").SerializeToString(), {}, 0),
    }
    async with running(repo, tmp_path, monkeypatch, grpc_port=0) as server:
        port = server.serving._grpc_server.port
        key = (("authorization", f"Bearer {server.keys['all']}"),)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            misfits = {}
            for name, (method, data, counted, of_model) in cases.items():
                server.forget()
                call = channel.unary_unary(f"/inference.GRPCInferenceService/{method}")
                with suppress(grpc.aio.AioRpcError):
                    await call(data, metadata=key, timeout=30)
                if (server.counted(), server.of_models()) != (counted, of_model):
                    misfits[name] = server.counted(), server.of_models()
            assert not misfits


async def test_an_unknown_output_is_refused_before_the_model_runs(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(repo, tmp_path, monkeypatch) as server:
        headers = {"Authorization": f"Bearer {server.keys['all']}"}
        url = "http://{}:{}".format(*server.address)
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=30) as http:
            for path, known in ((INFER, "logits"), ("/v2/models/colours/infer", "scores, indices, labels")):
                reply = await http.post(path, content=tensors([1, 3, 8, 8], outputs=[{"name": "no"}]))
                assert reply.status_code == 400 and f"unknown output 'no'; known: {known}" in reply.text
        assert not any(model.rows for model in server.serving.metrics.models())
