"""Hugging Face's API, asked by huggingface_hub's own client, and its refusals."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest

import modelport
from modelport.errors import Unavailable
from modelport.serve.aside import LOOP_BYTES
from modelport.serve.dialects import hf

from ...colours import LABELS, RECIPE, pack_colours, picture, served, write_network

hub = pytest.importorskip("huggingface_hub")
hub_errors = pytest.importorskip("huggingface_hub.errors")  # no attribute of the package until it is imported


def pack_variant(folder: Path, name: str, post: str) -> None:
    (folder / f"{name}.toml").write_text(RECIPE.replace('["softmax", { top_k = 0 }, "labels"]', post))
    modelport.pack(
        write_network(folder / "network.onnx"),
        out=folder / "repo",
        name=name,
        version="1",
        recipe=folder / f"{name}.toml",
        labels=LABELS,
    )


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hf")
    pack_colours(folder, version="1")
    pack_colours(folder, version="2")
    pack_variant(folder, "rawest", '[{ top_k = 2 }, "labels"]')
    pack_variant(folder, "unranked", '["sigmoid"]')
    pack_variant(folder, "unnamed", '["softmax", { top_k = 0 }]')
    pack_variant(folder, "bare", "[]")
    return folder / "repo"


@pytest.fixture(scope="module")
def url(repo: Path) -> Iterator[str]:
    with served(repo, "--api", "hf", "--versions", "all", "--executors", "1") as (address, _):
        yield address


@pytest.fixture(scope="module")
def http(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=30) as client:
        yield client
        assert client.post("/hf/colours", content=picture("green")).json()[0]["label"] == "green"


def client(address: str) -> Any:
    return hub.InferenceClient(model=address, provider="hf-inference", token="hf_not_a_secret", timeout=30)


@pytest.mark.parametrize("colour", LABELS)
@pytest.mark.parametrize("path", ["/hf/colours", "/hf/colours/1", "/models/colours", "/models/colours/2"])
def test_the_hub_client_classifies_raw_bytes(url: str, path: str, colour: str) -> None:
    for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"):
        answer = client(url + path).image_classification(picture(colour, kind=kind))
        assert answer[0].label == colour and len(answer) == 3
        assert sum(row.score for row in answer) == pytest.approx(1)
        assert [row.score for row in answer] == sorted((row.score for row in answer), reverse=True)


def test_the_hub_client_takes_files(url: str, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(picture("blue"))
    for given in (tmp_path / "x.png", str(tmp_path / "x.png")):
        assert client(f"{url}/hf/colours").image_classification(given)[0].label == "blue"


def test_the_hub_client_passes_parameters(url: str) -> None:
    ask = client(f"{url}/hf/colours").image_classification
    assert [row.label for row in ask(picture("red"), top_k=1)] == ["red"]
    assert len(ask(picture("red"), top_k=2)) == 2
    assert len(ask(picture("red"), top_k=1000)) == 3
    assert len(ask(picture("red"), function_to_apply="softmax")) == 3
    scores = {row.label: row.score for row in ask(picture("red"))}
    assert scores == {row.label: row.score for row in ask(picture("red"), function_to_apply="softmax")}
    raw = client(f"{url}/hf/rawest").image_classification(picture("red"), function_to_apply="none")
    assert [row.label for row in raw] == ["red", "green"] and raw[0].score == pytest.approx(230 / 255 * 20)
    sigmoid = client(f"{url}/hf/unranked").image_classification(picture("blue"), function_to_apply="sigmoid")
    assert sigmoid[0].label == "blue" and sigmoid[0].score == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    ("model", "function", "says"),
    [
        ("colours", "none", "applies 'softmax'"),
        ("colours", "sigmoid", "applies 'softmax'"),
        ("rawest", "softmax", "applies 'none'"),
        ("unranked", "softmax", "applies 'sigmoid'"),
        ("bare", "none", "does not say"),
    ],
)
def test_a_function_that_the_bundle_does_not_apply_is_refused(
    url: str, model: str, function: str, says: str
) -> None:
    with pytest.raises(hub_errors.HfHubHTTPError, match=says) as caught:
        client(f"{url}/hf/{model}").image_classification(picture("red"), function_to_apply=function)
    assert caught.value.response.status_code == 400
    assert says in caught.value.response.json()["error"]


def test_health_and_information_by_the_hub_client(url: str) -> None:
    assert client(f"{url}/hf/colours").health_check()
    assert client(f"{url}/hf/colours/1").health_check()
    assert not client(f"{url}/hf/none").health_check()
    about = client(f"{url}/hf/colours").get_endpoint_info()
    assert about["model_id"] == "colours" and about["model_version"] == "2"
    assert about["model_pipeline_tag"] == "image-classification" and len(about["model_sha"]) == 64


def test_bundles_of_other_kinds_of_answer(http: httpx.Client) -> None:
    bare = http.post("/hf/bare", content=picture("green")).json()
    assert bare[0]["label"] == "green" and bare[0]["score"] > 10
    unnamed = http.post("/hf/unnamed", content=picture("green")).json()
    assert unnamed[0]["label"] == "1"


ENCODED = base64.b64encode(picture("red")).decode()


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b"", 400, "empty"),
        (b"noise", 415, "picture"),
        (b"{", 400, "neither"),
        (b"{}", 400, "inputs"),
        (b'{"inputs": 5}', 400, "$.inputs"),
        (b'{"inputs": "***"}', 400, "base64"),
        (b'{"inputs": "https://example.com/cat.jpg"}', 400, "fetches nothing"),
        (b'{"inputs": "aGVsbG8="}', 415, "picture"),
        (f'{{"inputs": "{ENCODED}", "parameters": {{"top_k": 0}}}}'.encode(), 400, "top_k"),
        (f'{{"inputs": "{ENCODED}", "parameters": {{"top_k": 1.5}}}}'.encode(), 400, "top_k"),
        (f'{{"inputs": "{ENCODED}", "parameters": {{"top_k": true}}}}'.encode(), 400, "top_k"),
        (f'{{"inputs": "{ENCODED}", "parameters": {{"topk": 1}}}}'.encode(), 400, "topk"),
        (f'{{"inputs": "{ENCODED}", "parameters": {{"function_to_apply": "relu"}}}}'.encode(), 400, "relu"),
        (b'{"inputs": "", "x":' + b"[" * 100_000, 400, "neither"),
    ],
)
def test_bad_bodies_are_refused_in_words(http: httpx.Client, body: bytes, status: int, says: str) -> None:
    for headers in ({}, {"Content-Type": "application/json"}):
        reply = http.post("/hf/colours", content=body, headers=headers)
        if status == 415 and headers and not body.startswith(b"{"):
            assert reply.status_code == 400
            continue
        assert reply.status_code == status, reply.text
        assert says in reply.json()["error"]


def test_what_a_body_is_does_not_depend_on_what_it_is_called(http: httpx.Client) -> None:
    text = f'\n {{"inputs": "data:image/png;base64,{ENCODED}", "parameters": null, "options": {{}}}}'.encode()
    for kind in ("application/json", "image/png", "text/plain", "application/octet-stream"):
        for body in (text, picture("red")):
            reply = http.post("/hf/colours", content=body, headers={"Content-Type": kind})
            assert reply.status_code == 200 and reply.json()[0]["label"] == "red", (kind, reply.text)


def test_large_json_is_read_beside_the_event_loop(http: httpx.Client) -> None:
    large = picture("blue", (300, 300), "BMP")
    assert len(large) > LOOP_BYTES
    encoded = base64.b64encode(large).decode()
    reply = http.post("/hf/colours", json={"inputs": encoded, "parameters": {"top_k": 1}})
    assert [row["label"] for row in reply.json()] == ["blue"]


def test_unknown_models_and_wrong_methods(http: httpx.Client) -> None:
    for path in ("/hf/none", "/hf/colours/9", "/models/none", "/hf/none/health"):
        reply = http.get(path) if path.endswith("health") else http.post(path, content=picture("red"))
        assert reply.status_code == 404 and "error" in reply.json(), path
    assert http.put("/hf/colours", content=picture("red")).status_code == 405
    assert http.get("/models/colours").headers["content-type"].startswith("text/html")


def test_a_model_that_is_not_there_yet_says_when_and_a_broken_one_says_why() -> None:
    loading = SimpleNamespace(name="m", version="1", state="LOADING", reason="")
    reply = hf.not_ready(loading)  # type: ignore[arg-type]
    assert reply.status_code == 503 and int(reply.headers["retry-after"]) >= 1
    assert json.loads(reply.body)["estimated_time"] > 0 and "loading" in json.loads(reply.body)["error"]
    broken = SimpleNamespace(name="m", version="1", state="UNAVAILABLE", reason="the golden cases differ")
    with pytest.raises(Unavailable, match="golden"):
        hf.not_ready(broken)  # type: ignore[arg-type]


def test_scores_that_are_no_numbers_come_last() -> None:
    rows = [{"label": "a", "score": np.nan}, {"label": "b", "score": 0.1}, {"label": "c", "score": 0.9}]
    model = SimpleNamespace(readable=lambda tensors: rows)
    assert [row["label"] for row in hf.ranked(model, {})] == ["c", "b", "a"]  # type: ignore[arg-type]
