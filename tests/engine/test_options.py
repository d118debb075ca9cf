"""Options of a request in the engine: they share the network's batches; each caller has its own answer."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from modelport.bundle.options import check_options
from modelport.bundle.store import Bundle
from modelport.engine.executor import _by_row
from modelport.engine.model import LiveModel
from modelport.engine.repository import Repository
from modelport.engine.settings import EngineSettings
from modelport.errors import InputError
from modelport.runtimes.pipeline import Pipeline

from ..boxes import SCENE, pack_boxes, picture_with, pixels_with

SETTINGS = EngineSettings(executors=1, wide=False)


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack_boxes(tmp_path_factory.mktemp("options"))


def count(model: LiveModel, answer: dict[str, np.ndarray]) -> int:
    found = model.readable(answer)
    assert isinstance(found, list)
    return len(found)


async def test_each_caller_has_its_own_options_in_one_batch(repo: Path) -> None:
    repository = Repository(repo, SETTINGS)
    await repository.open()
    try:
        model = repository.model("boxes")
        picture = picture_with(SCENE)
        wanted = [{"score_threshold": 0.9}, None, {"iou_threshold": 1.0}, {"score_threshold": 0.75}] * 16
        answers = await asyncio.gather(*(model.answer(picture, options=each) for each in wanted))
        assert [count(model, each.tensors) for each in answers] == [0, 3, 6, 3] * 16
        assert len({each.tensors["boxes"].shape for each in answers}) == 1
        # One run for several callers with different options: there are fewer runs than callers.
        counted = repository.metrics.snapshot().model("boxes", "1")
        assert counted is not None
        statistics = counted.statistics()
        assert statistics["inference_count"] == 64 and statistics["execution_count"] < 32
    finally:
        await repository.close()


async def test_an_answer_does_not_depend_on_its_neighbours(repo: Path) -> None:
    """Pictures of different sizes, each with options of its own, against the plain pipeline one by one."""
    pictures = [
        picture_with([("red", 5, 5, 40, 60)], size=(100, 140)),
        picture_with(SCENE),
        picture_with([("blue", 400, 10, 600, 300), ("green", 1, 1, 90, 90)], size=(640, 320), strength=0.6),
        picture_with([], size=(33, 20)),
    ]
    wanted = [None, {"iou_threshold": 0.99}, {"score_threshold": 0.55}, {"multi_label": True}]
    repository = Repository(repo, SETTINGS)
    await repository.open()
    try:
        model = repository.model("boxes")
        asked = list(zip(pictures * 4, wanted * 4, strict=True))
        answers = await asyncio.gather(*(model.answer(item, options=each) for item, each in asked))
        with Pipeline.open(repo / "boxes" / "1") as pipeline:
            for (item, options), answered in zip(asked, answers, strict=True):
                alone = pipeline.answer(pipeline.decode(item), options)
                assert alone.keys() == answered.tensors.keys()
                for name, array in alone.items():
                    assert np.array_equal(array, answered.tensors[name]), name
    finally:
        await repository.close()


async def test_a_thousand_thresholds_are_one_lane(repo: Path) -> None:
    repository = Repository(repo, SETTINGS)
    await repository.open()
    try:
        model = repository.model("boxes")
        small = picture_with([("red", 2, 2, 9, 9)], size=(16, 16))
        for start in range(0, 1000, 100):
            thresholds = [number / 1000 for number in range(start, start + 100)]
            work = [model.answer(small, options={"score_threshold": each}) for each in thresholds]
            found = [count(model, each.tensors) for each in await asyncio.gather(*work)]
            assert found == [int(each < 0.8) for each in thresholds]
        assert list(model._lanes) == [("encoded", ())]
        assert set(model.costs()) == {"encoded"}
    finally:
        await repository.close()


async def test_decoded_items_of_all_sizes_share_a_lane_and_take_options_too(repo: Path) -> None:
    repository = Repository(repo, SETTINGS)
    await repository.open()
    try:
        model = repository.model("boxes")
        pixels = [
            pixels_with([("green", 3, 4, 5 + size, 20)], size=(40 + size, 30 + size)) for size in range(64)
        ]
        wanted = [None, {"score_threshold": 0.85}] * 32
        work = [
            model.answer_decoded({"image": each}, options=options)
            for each, options in zip(pixels, wanted, strict=True)
        ]
        answers = await asyncio.gather(*work)
        assert [count(model, each.tensors) for each in answers] == [1, 0] * 32
        with Pipeline.open(repo / "boxes" / "1") as pipeline:
            for each, options, answered in zip(pixels, wanted, answers, strict=True):
                alone = pipeline.answer({"image": each}, options)
                assert np.array_equal(alone["boxes"], answered.tensors["boxes"])
        assert len(model._lanes) == 1
        counted = repository.metrics.snapshot().model("boxes", "1")
        assert counted is not None and counted.statistics()["execution_count"] < 32
    finally:
        await repository.close()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"threshold": "0.5"}, "score_threshold"),
        ({"score_threshold": "nan"}, "0 to 1"),
        ({"score_threshold": "inf"}, "0 to 1"),
        ({"score_threshold": "1e400"}, "0 to 1"),
        ({"score_threshold": "9" * 5000}, "0 to 1"),
        ({"score_threshold": 10**400}, "0 to 1"),
        ({"score_threshold": float("nan")}, "0 to 1"),
        ({"score_threshold": -0.1}, "0 to 1"),
        ({"score_threshold": True}, "0 to 1"),
        ({"score_threshold": [0.5]}, "0 to 1"),
        ({"score_threshold": None}, "0 to 1"),
        ({"score_threshold": ""}, "0 to 1"),
        ({"class_agnostic": "perhaps"}, "true or false"),
        ({"class_agnostic": 1}, "true or false"),
    ],
)
def test_what_is_no_option_is_refused_at_the_door(repo: Path, given: dict[str, object], says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        check_options(Bundle.open(repo / "boxes" / "1").manifest, given)
    assert caught.value.at == f"$.parameters.{next(iter(given))}"
    assert len(str(caught.value)) < 300


def test_options_of_rows_are_those_of_their_submissions() -> None:
    assert _by_row(None, [1, 2], 0, 2) is None
    low, high = {"score_threshold": 0.1}, {"score_threshold": 0.9}
    assert _by_row([low, None, high], [2, 1, 3], 0, 3) == [low, low, None, high, high, high]
    assert _by_row([low, None, high], [2, 1, 3], 1, 2) == [None]
