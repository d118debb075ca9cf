"""Compressed requests and replies at the real server, by Triton's client and by hand."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from tritonclient.utils import InferenceServerException

import modelport
from modelport.bundle.manifest import MANIFEST
from modelport.serve.compress import MIN_BYTES

from ..colours import pack_colours, picture, served, write_network
from .grpc.conftest import write_every

LENGTH = "Inference-Header-Content-Length"
PACK = {"gzip": gzip.compress, "deflate": zlib.compress}
UNPACK = {"gzip": gzip.decompress, "deflate": zlib.decompress}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("packed")
    repo = pack_colours(folder)
    modelport.pack(write_every(folder / "every.onnx"), out=repo, name="every", version="1", recipe="raw")
    means = write_network(folder / "means.onnx", sides=("H", "W"))
    modelport.pack(means, out=repo, name="means", version="1", recipe="raw")
    for number in range(20):
        broken = repo / f"broken-{number}" / "1"
        broken.mkdir(parents=True)
        (broken / MANIFEST).write_text("{}")
    with served(repo, "--max-body", "1", "--executors", "1") as (address, _):
        yield address


@pytest.fixture(scope="module")
def http(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=30, headers={"Accept-Encoding": ""}) as client:
        yield client
        reply = client.post("/predict/colours", content=picture("green"))
        assert reply.json()["answer"][0]["label"] == "green"


@pytest.mark.parametrize("rows", [1, 300])
@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("ask", ["gzip", "deflate", None])
@pytest.mark.parametrize("want", ["gzip", "deflate", None])
def test_tritons_client_compresses_both_ways(
    url: str, ask: str | None, want: str | None, binary: bool, rows: int
) -> None:
    batch = np.random.default_rng(rows).random((rows, 3, 8, 8)).astype(np.float32)
    rows = rows if binary else min(rows, 20)  # as JSON the others are over the limit
    tensor = triton.InferInput("x", [rows, 3, 8, 8], "FP32")
    tensor.set_data_from_numpy(batch[:rows], binary_data=binary)
    wanted = triton.InferRequestedOutput("logits", binary_data=binary)
    with triton.InferenceServerClient(urlsplit(url).netloc) as client:
        got = client.infer(
            "colours.net",
            [tensor],
            outputs=[wanted],
            request_compression_algorithm=ask,
            response_compression_algorithm=want,
        )
    assert np.allclose(got.as_numpy("logits"), batch[:rows].mean((2, 3)) * 20, atol=1e-4)


async def test_tritons_asyncio_client_reads_every_reply(url: str) -> None:
    batch = np.full((300, 3, 8, 8), 0.5, np.float32)
    tensor = triton.InferInput("x", [300, 3, 8, 8], "FP32").set_data_from_numpy(batch)
    async with triton_aio.InferenceServerClient(urlsplit(url).netloc) as client:
        assert len(await client.get_model_repository_index()) == 26
        assert len((await client.get_inference_statistics())["model_stats"]) == 6
        assert len((await client.get_model_config("every"))["input"]) == 13
        assert len((await client.get_model_metadata("every"))["outputs"]) == 13
        with pytest.raises(InferenceServerException, match=r"unknown model: 'nnn.*known: colours, every"):
            await client.get_model_metadata("n" * MIN_BYTES)
        named = triton.InferInput("n" * MIN_BYTES, [300, 3, 8, 8], "FP32").set_data_from_numpy(batch)
        with pytest.raises(InferenceServerException, match="unexpected input 'nnn"):
            await client.infer("colours.net", [named])
        for coding in ("gzip", "deflate", None):
            got = await client.infer("colours.net", [tensor], response_compression_algorithm=coding)
            assert np.allclose(got.as_numpy("logits"), 10, atol=1e-4)


def test_under_v2_the_answers_to_infer_alone_come_compressed(http: httpx.Client) -> None:
    asks = {"Accept-Encoding": "gzip"}
    for method, path in (
        ("POST", "/v2/repository/index"),
        ("GET", "/v2/models/stats"),
        ("GET", "/v2/models/every"),
        ("GET", "/v2/models/every/config"),
        ("POST", f"/v2/models/{'n' * MIN_BYTES}/infer"),
    ):
        reply = http.request(method, path, headers=asks)
        assert len(reply.content) >= MIN_BYTES and "content-encoding" not in reply.headers, path
    rows = {"name": "x", "datatype": "FP32", "shape": [100, 3, 8, 8], "data": [0.5] * 19200}
    for method, path, body in (
        ("POST", "/v2/models/colours.net/infer", {"inputs": [rows]}),
        ("GET", "/openapi.json", None),
        ("GET", "/metrics", None),
        ("GET", "/api/dashboard", None),
    ):
        reply = http.request(method, path, headers=asks, json=body)
        assert reply.status_code == 200 and reply.headers["content-encoding"] == "gzip", path


def test_large_tensors_go_the_short_way_where_the_answer_is_small(http: httpx.Client) -> None:
    for shape, packed in (([1, 3, 100, 100], False), ([80, 3, 20, 20], False), ([90, 3, 20, 20], True)):
        data = np.random.default_rng(0).integers(0, 2, shape).astype(np.float32).tobytes()
        size = {"binary_data_size": len(data)}
        entry = {"name": "x", "datatype": "FP32", "shape": shape, "parameters": size}
        head = json.dumps({"inputs": [entry], "parameters": {"binary_data_output": True}}).encode()
        headers = {LENGTH: str(len(head)), "Accept-Encoding": "gzip"}
        for _ in range(2):  # the second time it is known what the head means
            reply = http.post("/v2/models/means.net/infer", content=head + data, headers=headers)
            assert reply.status_code == 200 and len(reply.content) > int(reply.headers[LENGTH]) > 0
            assert (reply.headers.get("content-encoding") == "gzip") == packed
            # The application's own headers are not on what goes past it.
            assert ("content-security-policy" in reply.headers) == packed


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_the_length_of_the_json_is_that_before_compression(http: httpx.Client, coding: str) -> None:
    batch = np.full((300, 3, 8, 8), 0.5, np.float32)
    head = {
        "inputs": [
            {
                "name": "x",
                "datatype": "FP32",
                "shape": list(batch.shape),
                "parameters": {"binary_data_size": batch.nbytes},
            }
        ],
        "parameters": {"binary_data_output": True},
    }
    text = json.dumps(head).encode()
    body = PACK[coding](text + batch.tobytes())
    headers = {LENGTH: str(len(text)), "Content-Encoding": coding, "Accept-Encoding": coding}
    with http.stream("POST", "/v2/models/colours.net/infer", content=body, headers=headers) as reply:
        raw = b"".join(reply.iter_raw())
    assert reply.status_code == 200 and reply.headers["content-encoding"] == coding
    assert "accept-encoding" in reply.headers["vary"].lower()
    assert int(reply.headers["content-length"]) == len(raw)
    whole = UNPACK[coding](raw)
    length = int(reply.headers[LENGTH])
    said = json.loads(whole[:length])
    assert said["outputs"][0]["shape"] == [300, 3]
    assert np.allclose(np.frombuffer(whole[length:], np.float32), 10, atol=1e-4)


@pytest.mark.parametrize("path", ["/predict/colours", "/hf/colours"])
@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_pictures_may_come_compressed(http: httpx.Client, path: str, coding: str) -> None:
    head = {"Content-Encoding": coding}
    reply = http.post(path, content=PACK[coding](picture("blue", (300, 300), "BMP")), headers=head)
    assert reply.status_code == 200 and '"blue"' in reply.text


@pytest.mark.parametrize("path", ["/predict/colours", "/hf/colours", "/v2/models/colours.net/infer"])
def test_bombs_damage_and_other_codings_are_refused(http: httpx.Client, path: str) -> None:
    def status(body: bytes, encoding: str) -> int:
        reply = http.post(path, content=body, headers={"Content-Encoding": encoding})
        assert reply.json()["error"]
        return reply.status_code

    for coding, pack in PACK.items():
        bomb = pack(bytes(64 << 20))
        assert len(bomb) < 1 << 20
        assert status(bomb, coding) == 413
        assert status(pack(picture("red"))[:-4], coding) == 400
        assert status(pack(picture("red")) + b"more", coding) == 400
        assert status(b"no such thing", coding) == 400
        assert status(b"", coding) == 400
    assert status(gzip.compress(gzip.compress(b"x")), "gzip, gzip") == 415
    assert status(b"x", "br") == 415


def test_the_reason_comes_through_tritons_client(url: str) -> None:
    tensor = triton.InferInput("x", [2000, 3, 8, 8], "FP32")
    tensor.set_data_from_numpy(np.zeros((2000, 3, 8, 8), np.float32))
    with (
        triton.InferenceServerClient(urlsplit(url).netloc) as client,
        pytest.raises(InferenceServerException, match="unpacks to more"),
    ):
        client.infer("colours.net", [tensor], request_compression_algorithm="gzip")


def test_pages_are_compressed_for_browsers(http: httpx.Client) -> None:
    asks = {"Accept-Encoding": "gzip, deflate, br"}
    with http.stream("GET", "/static/style.css", headers=asks) as reply:
        raw = b"".join(reply.iter_raw())
    assert reply.headers["content-encoding"] == "gzip" and reply.headers["etag"].startswith("W/")
    plain = http.get("/static/style.css")
    assert "content-encoding" not in plain.headers and gzip.decompress(raw) == plain.content
    again = http.get("/static/style.css", headers={**asks, "If-None-Match": reply.headers["etag"]})
    assert again.status_code == 304
