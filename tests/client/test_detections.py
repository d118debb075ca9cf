"""A detector asked by the clients: options, and objects as values, over HTTP and gRPC alike."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from modelport.client import AsyncClient, Client, Detection, Label, Prediction
from modelport.client.values import InferResult, Timing, prediction_of
from modelport.errors import InputError

from ..boxes import SCENE, pack_boxes, picture_with, pixels_with
from ..colours import pack_colours, picture, served
from ..serve.grpc.running import grpc_served

PICTURE = picture_with(SCENE)
FOUND = {label: tuple(float(value) for value in box) for label, *box in SCENE}


@pytest.fixture(scope="module")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    folder = tmp_path_factory.mktemp("detections")
    pack_colours(folder)
    repo = pack_boxes(folder)
    with served(repo, "--executors", "1") as (url, _), grpc_served(repo) as address:
        yield {"http": url, "grpc": f"grpc://{address}"}


@pytest.fixture(params=["http", "grpc"])
def address(request: pytest.FixtureRequest, addresses: dict[str, str]) -> str:
    return addresses[request.param]


@pytest.mark.parametrize("item", [PICTURE, pixels_with(SCENE)], ids=["file", "pixels"])
def test_objects_are_values(address: str, item: Any) -> None:
    with Client(address) as client:
        got = client.predict("boxes", item)
        assert {each.label: each.box for each in got.detections} == FOUND
        assert all(each.score == pytest.approx(0.8, abs=0.01) for each in got.detections)
        assert [each.index for each in got.detections] == [
            ["red", "green", "blue"].index(label) for label in got.labels
        ]
        assert isinstance(got.top, Detection) and got.outputs == {} and got.answer == got.detections


@pytest.mark.parametrize("item", [PICTURE, pixels_with(SCENE)], ids=["file", "pixels"])
def test_options(address: str, item: Any) -> None:
    with Client(address) as client:
        nothing = client.predict("boxes", item, options={"score_threshold": 0.9})
        assert nothing.detections == () == nothing.answer
        with pytest.raises(InputError, match="found nothing"):
            _ = nothing.top
        options = {"iou_threshold": 1, "class_agnostic": True, "score_threshold": 0.1}
        assert len(client.predict("boxes", item, options=options, version=1).detections) == 6
        many = list(client.predict_many("boxes", [item] * 4, options=options, errors="raise"))
        assert [len(each.detections) for each in many] == [6] * 4
        with pytest.raises(InputError, match="score_threshold"):
            client.predict("boxes", item, options={"threshold": 0.9})
        with pytest.raises(InputError, match="0 to 1"):
            client.predict("boxes", item, options={"score_threshold": "nan"})


def test_the_asyncio_client(address: str) -> None:
    async def ask() -> list[Prediction]:
        async with AsyncClient(address) as client:
            one = await client.predict("boxes", PICTURE, options={"iou_threshold": 1.0})
            rest = client.predict_many(
                "boxes", [PICTURE] * 2, options={"score_threshold": 0.9}, errors="raise"
            )
            return [one, *[each async for each in rest]]

    assert [len(each.detections) for each in asyncio.run(ask())] == [6, 0, 0]


def test_a_classifier_has_no_boxes(address: str) -> None:
    with Client(address) as client:
        got = client.predict("colours", picture("red"))
        assert type(got.top) is Label
        with pytest.raises(InputError, match="no boxes"):
            _ = got.detections


def test_labels_are_numbers_where_the_model_has_no_names() -> None:
    tensors: dict[str, Any] = {
        "boxes": np.array([[1, 2, 3, 4], [0, 0, 0, 0]], np.float32),
        "scores": np.array([0.5, 0], np.float32),
        "classes": np.array([7, -1]),
        "count": np.array(1),
    }
    got = prediction_of(InferResult(tensors, model="m", version="1"))
    assert got.answer == (Detection("7", 0.5, 7, (1.0, 2.0, 3.0, 4.0)),)
    for name, odd in (("count", np.array([1, 1])), ("boxes", np.zeros((2, 5))), ("scores", np.zeros(3))):
        got = prediction_of(InferResult(tensors | {name: odd}, model="m", version="1"))
        assert got.answer == () and set(got.outputs) == set(tensors)
        with pytest.raises(InputError, match="no boxes"):
            _ = got.detections
    assert Prediction("m", "1", (), {}, Timing()).detections == ()
