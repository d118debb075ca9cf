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
from tritonclient.utils import InferenceServerException

from ..colours import pack_colours, picture, served

LENGTH = "Inference-Header-Content-Length"
PACK = {"gzip": gzip.compress, "deflate": zlib.compress}
UNPACK = {"gzip": gzip.decompress, "deflate": zlib.decompress}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    repo = pack_colours(tmp_path_factory.mktemp("packed"))
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
