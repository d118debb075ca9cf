"""TorchServe's inference API, asked as its users ask: with curl and with plain HTTP.

The replies marked so were captured from TorchServe 0.12.0 with its own image_classifier handler.
"""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from onnx import parser
from PIL import Image

import modelport
from modelport.serve.dialects import torchserve

from ...colours import LABELS, pack_colours, picture
from .live import live
from .tensor_models import pack_tensor_models

# Captured: the reply to a picture, whose five best of nine labels these are.
CAPTURED = """{
  "green": 0.5894473791122437,
  "e": 0.21783484518527985,
  "h": 0.04871626943349838,
  "f": 0.0388752818107605,
  "d": 0.033134810626506805
}"""
NO_CACHE = {
    "pragma": "no-cache",
    "cache-control": "no-cache; no-store, must-revalidate, private",
    "expires": "Thu, 01 Jan 1970 00:00:00 UTC",
}
NINE = ["red", "green", "blue", "d", "e", "f", "g", "h", "i"]


def pack_nine(folder: Path) -> None:
    """The captured network: the channels' means, their halves, and their quarters less one."""
    network = parser.parse_model(
        """<ir_version: 8, opset_import: ["": 17]>
        g (float[N, 3, 224, 224] x) => (float[N, 9] logits)
        <float half = {0.5}, float quarter = {0.25}, float one = {1.0}> {
            pooled = GlobalAveragePool(x)
            mean = Flatten(pooled)
            halves = Mul(mean, half)
            quarters = Mul(mean, quarter)
            less = Sub(quarters, one)
            logits = Concat<axis=1>(mean, halves, less)
        }"""
    )
    modelport.pack(network, out=folder / "repo", name="nine", recipe="imagenet", labels=NINE)


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("torchserve")
    pack_colours(folder, version="1.0")
    pack_colours(folder, version="2.0")
    pack_tensor_models(folder, "pair", "row")
    return folder / "repo"


@pytest.fixture(scope="module")
def url(repo: Path) -> Iterator[str]:
    with live(repo, [*torchserve.OPEN_ROUTES, *torchserve.ROUTES]) as address:
        yield address


@pytest.fixture(scope="module")
def http(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=30) as client:
        yield client
        # Whatever the tests before did to it, the server still answers.
        assert best(client.post("/predictions/colours", content=picture("green"))) == "green"


def best(reply: httpx.Response) -> str:
    assert reply.status_code == 200, reply.text
    return str(next(iter(reply.json())))


def test_a_picture_in_every_form(http: httpx.Client) -> None:
    data, path = picture("blue"), "/predictions/colours"
    text = base64.b64encode(data).decode()
    for reply in (
        http.post(path, content=data),
        http.put(path, content=data),
        http.post(path + "/1.0", content=data),
        http.post(path, content=data, headers={"Content-Type": "application/x-www-form-urlencoded"}),
        http.post(path, files={"data": ("x.png", data)}),
        http.post(path, files={"body": ("x.png", data)}),
        http.post(path, files={"any": ("x.png", data)}),
        http.post(path, data={"data": text}),
        http.post(path, files={"data": (None, text)}),
        http.post(path, files={"body": (None, text)}),
        http.post(path, json={"data": text}),
        http.post(path, json={"body": {"b64": text}}),
        http.post(path, json=text),
    ):
        assert best(reply) == "blue"


@pytest.mark.parametrize("way", [["-T"], ["--data-binary"], ["-F"]])
def test_as_the_documentation_of_torchserve_does_it_with_curl(
    url: str, way: list[str], tmp_path: Path
) -> None:
    if not shutil.which("curl"):
        pytest.skip("curl is not installed")
    (tmp_path / "kitten.png").write_bytes(picture("red"))
    what = {"-T": "kitten.png", "--data-binary": "@kitten.png", "-F": "data=@kitten.png"}[way[0]]
    command = ["curl", "-sS", "-m", "30", f"{url}/predictions/colours", *way, what]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert next(iter(json.loads(done.stdout))) == "red"


def test_a_reply_looks_like_torchserves(http: httpx.Client) -> None:
    reply = http.post("/predictions/colours", content=picture("green"))
    scores = reply.json()
    assert set(scores) == set(LABELS) and sum(scores.values()) == pytest.approx(1)
    assert list(scores.values()) == sorted(scores.values(), reverse=True)
    assert re.fullmatch(r'\{\n  "green": [0-9.]+,\n  "\w+": [-0-9.e]+,\n  "\w+": [-0-9.e]+\n\}', reply.text)
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", reply.headers["x-request-id"])
    assert NO_CACHE.items() <= dict(reply.headers).items()
    other = http.post("/predictions/colours", content=picture("green"))
    assert other.headers["x-request-id"] != reply.headers["x-request-id"]


def test_the_same_model_gives_the_same_reply_as_torchserve_gave(tmp_path: Path) -> None:
    pack_nine(tmp_path)
    pixels = np.full((240, 320, 3), 20, np.uint8)
    pixels[..., 1] = 230
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    with live(tmp_path / "repo", torchserve.ROUTES) as url:
        reply = httpx.put(f"{url}/predictions/nine", content=file.getvalue(), timeout=30)
    got, captured = reply.json(), json.loads(CAPTURED)
    assert list(got) == list(captured)
    assert list(got.values()) == pytest.approx(list(captured.values()), abs=1e-4)
    assert re.sub(r"[0-9.]+", "0", reply.text) == re.sub(r"[0-9.]+", "0", CAPTURED)


def test_tensors_by_json(http: httpx.Client) -> None:
    asked = np.random.default_rng(0).random((3, 8, 8)).astype(np.float32)
    for body in (asked.tolist(), {"data": asked.tolist()}, {"x": asked.tolist()}):
        got = http.post("/predictions/colours.net", json=body).json()
        assert np.allclose(got, asked.mean((1, 2)) * 20, atol=1e-4)
    pair = {"a": [1, 2, 3], "b": [1, 1, 1]}
    for body in (pair, {"data": pair}, {"inputs": pair}):
        assert http.post("/predictions/pair", json=body).json() == {
            "total": [2, 3, 4],
            "difference": [0, 1, 2],
        }
    assert http.post("/predictions/row", content="[1, NaN, 3]").text == "[\n  2.0,\n  NaN,\n  6.0\n]"
    assert http.post("/predictions/row", files={"data": (None, "[1, 2, 3]")}).json() == [2, 4, 6]
    assert http.post("/predictions/row", content=npy(np.array([1, 2, 3], np.float32))).json() == [2, 4, 6]


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


# The 404s were captured; TorchServe says 503 "Prediction failed" to whatever its handler cannot read.
REFUSALS: dict[str, tuple[str, str, bytes, int, str, str]] = {
    "unknown model": (
        "POST",
        "/predictions/nope",
        b"x",
        404,
        "ModelNotFoundException",
        "Model not found: nope",
    ),
    "unknown version": (
        "POST",
        "/predictions/colours/9.9",
        b"x",
        404,
        "ModelVersionNotFoundException",
        "Model version: 9.9 does not exist for model: colours",
    ),
    "explain what is not there": (
        "POST",
        "/explanations/nope",
        b"x",
        404,
        "ModelNotFoundException",
        "Model not found: nope",
    ),
    "explain": (
        "POST",
        "/explanations/colours",
        b"x",
        501,
        "UnsupportedOperationException",
        "explanations are not made here",
    ),
    "no picture": ("POST", "/predictions/colours", b"notanimage", 415, "BadRequestException", ""),
    "empty": ("POST", "/predictions/colours", b"", 400, "BadRequestException", "empty"),
    "no JSON": ("POST", "/predictions/row", b"[1, 2", 400, "BadRequestException", "not JSON"),
    "half a form": ("POST", "/predictions/colours", b"data=a%zz;&&", 400, "BadRequestException", ""),
    "an empty field": ("POST", "/predictions/colours", b"data=&other=1", 400, "BadRequestException", "empty"),
    "an empty field alone": ("PUT", "/predictions/colours", b"data=", 400, "BadRequestException", ""),
    "an empty field for tensors": (
        "POST",
        "/predictions/row",
        b"data=&x=1",
        400,
        "BadRequestException",
        "empty",
    ),
    "another shape": ("POST", "/predictions/row", b"[1, 2]", 400, "BadRequestException", "expected float32"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_refusals_are_torchserves(http: httpx.Client, case: str) -> None:
    method, path, body, status, kind, words = REFUSALS[case]
    form = body.startswith(b"data=")
    headers = {"Content-Type": "application/x-www-form-urlencoded"} if form else {}
    reply = http.request(method, path, content=body, headers=headers)
    error: dict[str, Any] = reply.json()
    assert list(error) == ["code", "type", "message"]
    assert (reply.status_code, error["code"], error["type"]) == (status, status, kind), error
    assert words in error["message"]
    assert reply.headers["x-request-id"] and NO_CACHE.items() <= dict(reply.headers).items()


def test_a_form_without_an_input_is_told_where_to_put_it(http: httpx.Client) -> None:
    reply = http.post("/predictions/colours", files={"other": (None, "x")})
    assert reply.status_code == 400
    assert "curl -F data=@picture.png" in reply.json()["message"]


def test_health_and_what_there_is_to_ask(http: httpx.Client) -> None:
    for method in ("GET", "POST"):
        ping = http.request(method, "/ping")
        assert (ping.status_code, ping.json()) == (200, {"status": "Healthy"})
        assert ping.text == '{\n  "status": "Healthy"\n}'  # captured
    options, described = http.options("/").json(), http.get("/api-description").json()
    assert options == described and options["openapi"] == "3.0.1"
    ids = {
        (path, method): operation["operationId"]
        for path, methods in options["paths"].items()
        for method, operation in methods.items()
    }
    # Captured; TorchServe has KServe's routes and /metrics there too, which other dialects have here.
    assert ids == {
        ("/", "options"): "apiDescription",
        ("/ping", "get"): "ping",
        ("/predictions/{model_name}", "post"): "predictions",
        ("/predictions/{model_name}/{model_version}", "post"): "version_predictions",
        ("/api-description", "get"): "api-description",
    }
    error = options["paths"]["/predictions/{model_name}"]["post"]["responses"]["404"]["content"]
    assert error["application/json"]["schema"]["required"] == ["code", "type", "message"]
    assert http.get("/").headers["content-type"].startswith("text/html")  # the page is still there


def test_a_server_whose_model_does_not_load_is_unhealthy(tmp_path: Path) -> None:
    repo = pack_colours(tmp_path)
    net = repo / "colours" / "1" / "net.onnx"
    net.write_bytes(net.read_bytes()[:-1] + b"\x00")
    with live(repo, [*torchserve.OPEN_ROUTES, *torchserve.ROUTES]) as url:
        ping = httpx.get(f"{url}/ping", timeout=30)
        assert (ping.status_code, ping.json()) == (500, {"status": "Unhealthy"})
        reply = httpx.post(f"{url}/predictions/colours", content=picture("red"), timeout=30)
        assert reply.status_code == 503 and reply.json()["type"] == "ServiceUnavailableException"
        assert reply.headers["retry-after"] and str(tmp_path) not in reply.text
