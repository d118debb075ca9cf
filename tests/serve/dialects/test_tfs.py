"""TensorFlow Serving's REST API, asked by ovmsclient and by hand."""

from __future__ import annotations

import base64
import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest

from modelport.rollout.plan import Canary, Plan
from modelport.serve.dialects import tfs

from ...colours import LABELS, pack_colours, picture
from .live import live
from .tensor_models import pack_tensor_models

ovms = pytest.importorskip("ovmsclient")


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tfs")
    pack_colours(folder, version="2")
    pack_colours(folder, version="10")
    pack_tensor_models(folder)
    return folder / "repo"


@pytest.fixture(scope="module")
def url(repo: Path) -> Iterator[str]:
    with live(repo, tfs.ROUTES) as address:
        yield address


@pytest.fixture(scope="module")
def http(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=30) as client:
        yield client
        # Whatever the tests before did to it, the server still answers.
        assert labels(client.post("/v1/models/colours:predict", json=rows("green"))) == ["green"]


@pytest.fixture(scope="module")
def client(url: str) -> Any:
    return ovms.make_http_client(urlsplit(url).netloc)


def b64(data: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(data).decode()}


def rows(*colours: str) -> dict[str, Any]:
    return {"instances": [b64(picture(colour)) for colour in colours]}


def labels(reply: httpx.Response) -> list[str]:
    assert reply.status_code == 200, reply.text
    return [prediction["labels"][0] for prediction in reply.json()["predictions"]]


# -- the official client -------------------------------------------------------------------------------------


def test_pictures_by_ovmsclient(client: Any) -> None:
    answer = client.predict({"image": [picture("blue"), picture("red")]}, "colours")
    assert [row[0] for row in answer["labels"]] == ["blue", "red"]
    assert answer["scores"].shape == (2, 3) and answer["scores"].sum(1) == pytest.approx([1, 1])
    one = client.predict({"image": picture("green")}, "colours", model_version=2)
    assert one["labels"][0][0] == "green"
    pixels = np.full((4, 6, 3), [10, 20, 240], np.uint8)
    assert client.predict({"image": pixels}, "colours")["labels"][0][0] == "blue"
    several = client.predict({"image": np.stack([pixels, pixels[..., ::-1]])}, "colours")
    assert [row[0] for row in several["labels"]] == ["blue", "red"]


def test_the_network_alone_by_ovmsclient(client: Any) -> None:
    batch = np.random.default_rng(0).random((5, 3, 8, 8)).astype(np.float32)
    got = client.predict({"x": batch}, "colours.net")
    assert isinstance(got, np.ndarray) and np.allclose(got, batch.mean((2, 3)) * 20, atol=1e-4)


def test_a_bundle_of_tensors_by_ovmsclient(client: Any) -> None:
    a, b = np.arange(6, dtype=np.float32).reshape(2, 3), np.ones((2, 3), np.float32)
    got = client.predict({"a": a, "b": b}, "pair")
    assert np.array_equal(got["total"], a + b) and np.array_equal(got["difference"], a - b)


def test_status_and_metadata_by_ovmsclient(client: Any) -> None:
    good = {"state": "AVAILABLE", "error_code": 0, "error_message": ""}
    assert client.get_model_status("colours") == {2: good, 10: good}
    assert set(client.get_model_status("colours", model_version=2)) == {2}
    about = client.get_model_metadata("colours", model_version=2)
    assert about["model_spec"] == {"name": "colours", "signature_name": "", "version": "2"}
    signature = about["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["inputs"]["image"]["dtype"] == "DT_STRING"
    assert signature["inputs"]["image"]["tensor_shape"] == {
        "dim": [{"size": "-1", "name": ""}],
        "unknown_rank": False,
    }
    assert {name: each["dtype"] for name, each in signature["outputs"].items()} == {
        "scores": "DT_FLOAT",
        "indices": "DT_INT64",
        "labels": "DT_STRING",
    }
    net = client.get_model_metadata("colours.net")["metadata"]["signature_def"]["signature_def"]
    assert [dim["size"] for dim in net["serving_default"]["inputs"]["x"]["tensor_shape"]["dim"]] == [
        "-1",
        "3",
        "8",
        "8",
    ]


def test_refusals_by_ovmsclient(client: Any) -> None:
    errors = importlib.import_module("ovmsclient.tfs_compat.base.errors")
    with pytest.raises(errors.ModelNotFoundError, match=r"Latest\(none\)"):
        client.predict({"x": [1.0]}, "none")
    with pytest.raises(errors.ModelNotFoundError, match=r"Specific\(colours, 7\)"):
        client.predict({"x": [1.0]}, "colours", model_version=7)
    with pytest.raises(errors.ModelNotFoundError, match="Could not find any versions of model none"):
        client.get_model_status("none")
    with pytest.raises(errors.ModelNotFoundError):
        client.get_model_metadata("none")
    with pytest.raises(errors.InvalidInputError, match=r"astype|expected"):
        client.predict({"x": np.zeros((1, 2), np.float32)}, "colours.net")


# -- by hand -------------------------------------------------------------------------------------------------


def test_rows_of_pictures(http: httpx.Client) -> None:
    assert labels(http.post("/v1/models/colours:predict", json=rows("red", "green"))) == ["red", "green"]
    named = {"signature_name": "serving_default", "instances": [{"image": b64(picture("blue"))}]}
    assert labels(http.post("/v1/models/colours/versions/2:predict", json=named)) == ["blue"]
    pixels = {"instances": [[[[0, 200, 0]] * 3] * 2]}
    assert labels(http.post("/v1/models/colours:predict", json=pixels)) == ["green"]


def test_every_way_to_name_a_version(http: httpx.Client) -> None:
    for path in ("colours", "colours/versions/2", "colours/versions/0", "colours/labels/stable"):
        assert labels(http.post(f"/v1/models/{path}:predict", json=rows("red"))) == ["red"]
    versions = {
        path: http.get(f"/v1/models/{path}/metadata").json()["model_spec"]["version"]
        for path in ("colours", "colours/versions/2", "colours/versions/0", "colours/labels/stable")
    }
    assert list(versions.values()) == ["10", "2", "10", "10"]
    both = http.get("/v1/models/colours").json()["model_version_status"]
    assert [(each["version"], each["state"]) for each in both] == [("2", "AVAILABLE"), ("10", "AVAILABLE")]
    assert both[0]["status"] == {"error_code": "OK", "error_message": ""}


def test_labels_that_nobody_has(http: httpx.Client) -> None:
    for label in ("canary", "other"):
        reply = http.post(f"/v1/models/colours/labels/{label}:predict", json=rows("red"))
        assert reply.status_code == 404
        assert f"Unrecognized servable version label: {label}" in reply.json()["error"]
    assert "Latest(none)" in http.get("/v1/models/none/labels/stable").json()["error"]


@pytest.mark.parametrize("canary", ["10", None])
def test_labels_of_a_rollout(repo: Path, canary: str | None) -> None:
    plan = Plan(model="colours", stable="2", canary=Canary(version=canary) if canary else None)
    traffic = SimpleNamespace(stable=lambda name: plan.stable, report=lambda name: SimpleNamespace(plan=plan))
    with live(repo, tfs.ROUTES, traffic=traffic) as url, httpx.Client(base_url=url, timeout=30) as http:
        stable = http.get("/v1/models/colours/labels/stable").json()["model_version_status"]
        assert [each["version"] for each in stable] == ["2"]
        reply = http.post("/v1/models/colours/labels/canary:predict", json=rows("blue"))
        assert reply.status_code == (200 if canary else 404), reply.text
        about = http.get("/v1/models/colours.net/labels/canary/metadata")
        assert not canary or about.json()["model_spec"] == {
            "name": "colours.net",
            "signature_name": "",
            "version": "10",
        }


def test_one_output_is_bare_and_several_are_named(http: httpx.Client) -> None:
    net = {"instances": [np.full((3, 8, 8), n / 20).tolist() for n in (0, 1)]}
    predictions = http.post("/v1/models/colours.net:predict", json=net).json()["predictions"]
    assert np.allclose(predictions, [[0, 0, 0], [1, 1, 1]], atol=1e-5)
    pair = {"instances": [{"a": [1, 2, 3], "b": [3, 2, 1]}, {"a": [0, 0, 0], "b": [1, 1, 1]}]}
    assert http.post("/v1/models/pair:predict", json=pair).json() == {
        "predictions": [
            {"total": [4, 4, 4], "difference": [-2, 0, 2]},
            {"total": [1, 1, 1], "difference": [-1, -1, -1]},
        ]
    }
    columns = {"inputs": {"a": [[1, 2, 3]], "b": [[1, 1, 1]]}}
    assert http.post("/v1/models/pair:predict", json=columns).json()["outputs"]["total"] == [[2, 3, 4]]


def test_not_a_number_goes_in_and_comes_out(http: httpx.Client) -> None:
    body = '{"instances": [{"a": [NaN, Infinity, -Infinity], "b": [1, 1, 1]}]}'
    reply = http.post("/v1/models/pair:predict", content=body)
    assert '"total":[NaN,Infinity,-Infinity]' in reply.text.replace(" ", ""), reply.text
    total = reply.json()["predictions"][0]["total"]
    assert np.array_equal(total, [np.nan, np.inf, -np.inf], equal_nan=True)


def test_text_and_bytes(http: httpx.Client) -> None:
    yellow = "gelb \U0001f7e1"
    body = {"instances": [["grün", "a"], [b64(yellow.encode()), ""]]}
    predictions = http.post("/v1/models/echo:predict", json=body).json()["predictions"]
    assert predictions == [
        {"text": ["grün", "a"], "text_bytes": [b64("grün".encode()), b64(b"a")]},
        {"text": [yellow, ""], "text_bytes": [b64(yellow.encode()), b64(b"")]},
    ]
    columns = http.post("/v1/models/echo:predict", json={"inputs": {"said": [["a", b64(b"b")]]}}).json()
    assert columns["outputs"] == {"text": [["a", "b"]], "text_bytes": [[b64(b"a"), b64(b"b")]]}
    for bad, words in (
        (b64(b"\xff"), "UTF-8"),
        (5, "expected text"),
        (None, "null"),
        ("\ud800", "surrogates not allowed"),
    ):
        content = json.dumps({"instances": [["NaN", bad]]})
        reply = http.post("/v1/models/echo:predict", content=content)
        assert reply.status_code == 400 and words in reply.json()["error"], reply.text


def test_classify_and_regress_where_they_mean_something(http: httpx.Client) -> None:
    reply = http.post(
        "/v1/models/colours:classify", json={"examples": [{"image": b64(picture(c))} for c in LABELS]}
    )
    result = reply.json()["result"]
    assert [row[0][0] for row in result] == LABELS and all(len(row) == 3 for row in result)
    assert result[0][0][1] > 0.9
    sums = {"context": {"b": [1, 1, 1]}, "examples": [{"a": [1, 2, 3]}, {"a": [0, 0, 0]}]}
    assert http.post("/v1/models/sum:regress", json=sums).json() == {"result": [9.0, 3.0]}
    for path, body, words in (
        ("sum:classify", sums, "tensorflow/serving/classify"),
        ("colours:regress", {"examples": [b64(picture("red"))]}, "tensorflow/serving/regress"),
        ("colours.net:classify", {"examples": [{"x": np.zeros((3, 8, 8)).tolist()}]}, "classification"),
        ("sum:regress", {"examples": [1]}, "list of objects"),
        ("sum:regress", {"examples": [{"a": [1, 2, 3]}], "context": 1}, "expected an object, got a number"),
    ):
        reply = http.post(f"/v1/models/{path}", json=body)
        assert reply.status_code == 400 and words in reply.json()["error"], reply.text


def deep(inside: str) -> str:
    return "[" * 90 + inside + "]" * 90


NOISE = base64.b64encode(b"no picture").decode()
BAD: dict[str, tuple[str, Any, int, str]] = {
    "no JSON": ("colours", "{", 400, "not JSON"),
    "a list": ("colours", [1], 400, "expected a JSON object, got an array"),
    "neither": ("colours", {}, 400, "either `instances`"),
    "both": ("colours", {"instances": [1], "inputs": [1]}, 400, "either `instances`"),
    "another signature": (
        "colours",
        {"signature_name": "x", "instances": [1]},
        400,
        "not found in signature",
    ),
    "no rows": ("colours", {"instances": []}, 400, "no rows"),
    "rows that are none": ("colours", {"instances": 5}, 400, "expected a list of rows, got a number"),
    "not base64": ("colours", {"instances": [{"b64": "*"}]}, 400, "$.instances[0].b64"),
    "b64 of a number": ("colours", {"instances": [{"b64": 1}]}, 400, "base64"),
    "a number for a picture": ("colours", {"instances": [1]}, 400, "expected a picture"),
    "pixels of two colours": ("colours", {"instances": [[[[1, 2]]]]}, 400, "$.instances[0]"),
    "pixels over 255": ("colours", {"instances": [[[[1, 2, 256]]]]}, 400, "0 to 255"),
    "too many": ("colours", {"instances": [0] * 257}, 400, "257 items"),
    "too many columns": ("colours", {"inputs": [{"b64": ""}] * 257}, 400, "257 items"),
    "the second is no picture": (
        "colours",
        {"instances": [b64(picture("red")), {"b64": NOISE}]},
        415,
        "$.instances[1]",
    ),
    "a missing input": ("pair", {"instances": [{"a": [1, 2, 3]}]}, 400, "expected values of a, b, got 'a'"),
    "an unknown column": ("pair", {"inputs": {"a": [[1, 2, 3]], "bb": 1}}, 400, "did you mean 'b'"),
    "bare rows for two inputs": ("pair", {"instances": [[1, 2, 3]]}, 400, "an object with a, b"),
    "bare columns for two inputs": ("pair", {"inputs": [[1, 2, 3]]}, 400, "an object with a, b"),
    "ragged": ("pair", {"inputs": {"a": [[1, 2], [1]], "b": [[1]]}}, 400, "rectangular"),
    "different rows": ("pair", {"inputs": {"a": [[1, 2, 3]] * 2, "b": [[1, 2, 3]]}}, 400, "$.inputs.b"),
    "text for numbers": ("pair", {"inputs": {"a": [["1", "2", "3"]], "b": [[1, 2, 3]]}}, 400, "$.inputs.a"),
    "null for numbers": ("pair", {"inputs": {"a": [[None, 2, 3]], "b": [[1, 2, 3]]}}, 400, "$.inputs.a"),
    "a number beyond all": ("pair", {"inputs": {"a": [[10**400, 2, 3]], "b": [[1, 2, 3]]}}, 400, ""),
    "the same with NaN": (
        "pair",
        '{"inputs": {"a": [[NaN, 2, 1%s]], "b": 1}}' % ("0" * 400),
        400,
        "$.inputs.a",
    ),
    "digits without end": ("pair", '{"inputs": [NaN, %s]}' % ("1" * 9000), 400, "not JSON"),
    "brackets without end": ("pair", "[" * 200_000, 400, "not JSON"),
    "the same with NaN in it": ("pair", "[NaN, " + "[" * 200_000, 400, "not JSON"),
    "nested as deep as JSON goes": (
        "pair",
        f'{{"inputs": {deep("1")}}}',
        400,
        "object with a, b",
    ),
    "deeper than an array": ("sum", f'{{"inputs": {{"a": {deep("1")}}}}}', 400, "rectangular"),
    "text nested deep": ("echo", f'{{"inputs": {deep("5")}}}', 400, "nested too deep"),
    "NaN that is none": ("pair", '{"inputs": NaNa}', 400, "not JSON"),
    "not UTF-8": ("pair", b'{"inputs": "\xff NaN"}', 400, "not JSON"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_requests_are_refused_in_words(http: httpx.Client, case: str) -> None:
    model, body, status, words = BAD[case]
    content = body if isinstance(body, str | bytes) else json.dumps(body)
    reply = http.post(f"/v1/models/{model}:predict", content=content)
    assert reply.status_code == status, reply.text
    assert words in reply.json()["error"]
    assert "Traceback" not in reply.text


def test_paths_that_mean_nothing(http: httpx.Client) -> None:
    assert http.post("/v1/models/colours:explain", json={}).status_code in (404, 405)
    assert http.get("/v1/models/colours:predict").status_code in (404, 405)
    assert http.put("/v1/models/colours:predict").status_code == 405
    for name in ("..%2f..%2fetc", "%00", "a" * 5000, "colours%2fversions"):
        reply = http.post(f"/v1/models/{name}:predict", json=rows("red"))
        assert reply.status_code == 404, name


def test_a_version_that_does_not_load_is_told_with_its_reason(tmp_path: Path) -> None:
    repo = pack_colours(tmp_path)
    pack_colours(tmp_path, version="2")
    net = repo / "colours" / "2" / "net.onnx"
    net.write_bytes(net.read_bytes()[:-1] + b"\x00")
    with live(repo, tfs.ROUTES) as url, httpx.Client(base_url=url, timeout=30) as http:
        states = http.get("/v1/models/colours").json()["model_version_status"]
        assert [each["state"] for each in states] == ["AVAILABLE", "END"]
        assert states[1]["status"]["error_code"] == "UNAVAILABLE"
        assert "net.onnx" in states[1]["status"]["error_message"]
        assert str(tmp_path) not in json.dumps(states)
        assert labels(http.post("/v1/models/colours:predict", json=rows("red"))) == ["red"]
        assert http.post("/v1/models/colours/versions/2:predict", json=rows("red")).status_code == 503
