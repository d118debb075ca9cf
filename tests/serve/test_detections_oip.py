"""A detector by the Open Inference Protocol: tensors out, options as parameters, sizes mixed in a batch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from ..boxes import SCENE, pack_boxes, picture_with, pixels_with
from ..colours import served
from .grpc.running import grpc_served

triton_http = pytest.importorskip("tritonclient.http")
triton_grpc = pytest.importorskip("tritonclient.grpc")

SMALL = [("red", 5, 5, 40, 60)]
WIDE = [("blue", 400, 10, 600, 300), ("green", 0, 0, 90, 90)]
PICTURES = [
    picture_with(SCENE),
    picture_with(SMALL, size=(100, 140)),  # type: ignore[arg-type]
    picture_with(WIDE, size=(640, 320)),  # type: ignore[arg-type]
]
COUNTS = [3, 1, 2]
OUTPUTS = {"boxes": "FP32", "scores": "FP32", "classes": "INT64", "labels": "BYTES", "count": "INT64"}


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack_boxes(tmp_path_factory.mktemp("oip"))


@pytest.fixture(scope="module")
def url(repo: Path) -> Iterator[str]:
    with served(repo, "--executors", "1") as (address, _):
        yield address


@pytest.fixture(scope="module")
def clients(repo: Path, url: str) -> Iterator[dict[str, tuple[Any, Any]]]:
    """Each of Triton's clients, and its module."""
    with grpc_served(repo) as address:
        http = triton_http.InferenceServerClient(url.removeprefix("http://"), connection_timeout=30)
        rpc = triton_grpc.InferenceServerClient(address)
        yield {"http": (http, triton_http), "grpc": (rpc, triton_grpc)}
        http.close()
        rpc.close()


@pytest.fixture(params=["http", "grpc"])
def triton(request: pytest.FixtureRequest, clients: dict[str, tuple[Any, Any]]) -> tuple[Any, Any]:
    return clients[request.param]


def ask(
    triton: tuple[Any, Any], value: np.ndarray, datatype: str, **parameters: Any
) -> dict[str, np.ndarray]:
    client, module = triton
    given = module.InferInput("image", list(value.shape), datatype)
    given.set_data_from_numpy(value)
    result = client.infer("boxes", [given], parameters=parameters or None)
    return {name: result.as_numpy(name) for name in OUTPUTS}


def encoded(pictures: list[bytes]) -> np.ndarray:
    return np.array(pictures, object)


def test_pictures_of_several_sizes_are_one_request_with_stacked_outputs(triton: tuple[Any, Any]) -> None:
    found = ask(triton, encoded(PICTURES), "BYTES")
    assert found["count"].tolist() == COUNTS
    assert found["boxes"].shape == (3, 300, 4) and found["labels"].shape == (3, 300)
    for row, scene in enumerate((SCENE, SMALL, WIDE)):
        many = COUNTS[row]
        names = [label.decode() for label in found["labels"][row, :many]]
        boxes = dict(zip(names, found["boxes"][row, :many].tolist(), strict=True))
        for label, *box in scene:
            assert np.allclose(boxes[label], box, atol=3), (label, boxes)
        assert (found["scores"][row, many:] == 0).all() and (found["classes"][row, many:] == -1).all()
        assert set(found["labels"][row, many:].tolist()) == {b""}


def test_an_item_is_answered_alone_as_in_company(triton: tuple[Any, Any]) -> None:
    together = ask(triton, encoded(PICTURES), "BYTES")
    for row, item in enumerate(PICTURES):
        alone = ask(triton, encoded([item]), "BYTES")
        assert all(np.array_equal(alone[name][0], together[name][row]) for name in OUTPUTS)
    pixels = ask(triton, pixels_with(SCENE), "UINT8")
    assert pixels["boxes"].shape == (300, 4)
    assert all(np.array_equal(pixels[name], together[name][0]) for name in OUTPUTS)


def test_options_are_parameters_of_the_request(triton: tuple[Any, Any]) -> None:
    items = encoded(PICTURES[:1])
    assert ask(triton, items, "BYTES", iou_threshold=1.0)["count"].tolist() == [6]
    assert ask(triton, items, "BYTES", iou_threshold=1)["count"].tolist() == [6]
    assert ask(triton, items, "BYTES", iou_threshold=1.0, score_threshold=0.75)["count"].tolist() == [3]
    assert ask(triton, items, "BYTES", class_agnostic=True)["count"].tolist() == [3]
    pixels = pixels_with(SCENE)
    assert ask(triton, pixels, "UINT8", score_threshold=0.9)["count"].tolist() == 0
    assert ask(triton, items, "BYTES")["count"].tolist() == [3]


def test_what_is_no_option_is_refused(triton: tuple[Any, Any]) -> None:
    for parameters, says in (
        ({"treshold": 0.5}, "score_threshold"),
        ({"score_threshold": "high"}, "0 to 1"),
        ({"score_threshold": 2**40}, "0 to 1"),
        ({"score_threshold": True}, "0 to 1"),
        ({"class_agnostic": 1}, "true or false"),
    ):
        with pytest.raises(Exception, match=says):
            ask(triton, encoded(PICTURES[:1]), "BYTES", **parameters)


def test_the_protocols_own_parameters_are_no_options(triton: tuple[Any, Any]) -> None:
    client, module = triton
    given = module.InferInput("image", [1], "BYTES")
    given.set_data_from_numpy(encoded(PICTURES[:1]))
    result = client.infer(
        "boxes", [given], priority=1, sequence_id=7, sequence_start=True, timeout=30_000_000
    )
    assert result.as_numpy("count").tolist() == [3]


def test_metadata_and_configuration_say_what_there_is(url: str, triton: tuple[Any, Any]) -> None:
    client, module = triton
    described = client.get_model_metadata("boxes", **({"as_json": True} if module is triton_grpc else {}))
    assert {each["name"]: each["datatype"] for each in described["outputs"]} == OUTPUTS
    config = client.get_model_config("boxes", **({"as_json": True} if module is triton_grpc else {}))
    config = config.get("config", config)
    assert json.loads(config["parameters"]["score_threshold"]["string_value"]) == 0.25
    assert json.loads(config["parameters"]["class_agnostic"]["string_value"]) is False
    offered = httpx.get(f"{url}/v2/models/boxes").json()["parameters"]
    assert offered["iou_threshold"].items() >= {"default": 0.45, "minimum": 0.0, "maximum": 1.0}.items()
    for path in ("boxes.net", "boxes.net/config"):
        assert "parameters" not in httpx.get(f"{url}/v2/models/{path}").json()


def test_json_without_the_binary_extension(url: str) -> None:
    pixels = pixels_with([("green", 4, 4, 20, 20)], size=(32, 32))
    tensor = {"name": "image", "datatype": "UINT8", "shape": [1, 32, 32, 3], "data": pixels.ravel().tolist()}
    asked = {"inputs": [tensor], "parameters": {"score_threshold": 0.5}}
    reply = httpx.post(f"{url}/v2/models/boxes/infer", json=asked)
    outputs = {each["name"]: each for each in reply.json()["outputs"]}
    assert outputs["count"]["data"] == [1] and outputs["labels"]["data"][:2] == ["green", ""]
    assert outputs["boxes"]["shape"] == [1, 300, 4]
    asked["parameters"] = {"score_threshold": {"nested": [1]}}
    reply = httpx.post(f"{url}/v2/models/boxes/infer", json=asked)
    assert reply.status_code == 400 and "$.parameters.score_threshold" in reply.json()["error"]


def test_the_network_alone_has_no_options(clients: dict[str, tuple[Any, Any]]) -> None:
    for client, module in clients.values():
        given = module.InferInput("images", [2, 3, 128, 128], "FP32")
        given.set_data_from_numpy(np.zeros((2, 3, 128, 128), np.float32))
        result = client.infer("boxes.net", [given])
        assert result.as_numpy("output0").shape == (2, 6, 8)
