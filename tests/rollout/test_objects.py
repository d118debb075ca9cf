"""Detectors in a rollout: answers compared by their objects, and options that reach the shadow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import httpx
import numpy as np
import pytest

from modelport.rollout.compare import compare
from modelport.tensors import Array

from ..boxes import SCENE, pack_boxes, picture_with
from ..colours import served
from .test_served import modelport, until

Object = tuple[float, int, tuple[float, float, float, float]]
CAT: Object = (0.9, 3, (0, 0, 10, 10))
DOG: Object = (0.8, 5, (50, 50, 90, 90))


def answer(*rows: Sequence[Object], size: int = 6) -> dict[str, Array]:
    tensors: dict[str, Array] = {
        "boxes": np.zeros((len(rows), size, 4), np.float32),
        "scores": np.zeros((len(rows), size), np.float32),
        "classes": np.full((len(rows), size), -1, np.int64),
        "labels": np.full((len(rows), size), "", object),
        "count": np.array([len(row) for row in rows]),
    }
    for number, row in enumerate(rows):
        for place, (score, kind, box) in enumerate(row):
            tensors["boxes"][number, place] = box
            tensors["scores"][number, place] = score
            tensors["classes"][number, place] = kind
            tensors["labels"][number, place] = f"class {kind}"
    return tensors


@pytest.mark.parametrize(
    ("one", "two", "agree", "difference"),
    [
        ([], [], True, 0.0),
        ([CAT, DOG], [CAT, DOG], True, 0.0),
        ([CAT, DOG], [DOG, CAT], True, 0.0),
        ([CAT], [(0.7, 3, (1, 1, 10, 10))], True, 0.2),
        ([CAT], [(0.9, 4, (0, 0, 10, 10))], False, 0.9),
        ([CAT], [(0.9, 3, (6, 0, 16, 10))], False, 0.9),
        ([CAT], [], False, 0.9),
        ([], [DOG], False, 0.8),
        ([CAT, CAT], [CAT], False, 0.9),
        ([CAT, (0.3, 3, (0, 0, 10, 9))], [CAT, (0.2, 3, (0, 0, 10, 9))], True, 0.1),
        ([(0.5, 1, (4, 4, 4, 4))], [(0.5, 1, (4, 4, 4, 4))], False, 0.5),
    ],
)
def test_answers_agree_by_their_objects(
    one: list[Object], two: list[Object], agree: bool, difference: float
) -> None:
    found = compare(answer(one), answer(two))
    assert (found.agree, found.difference) == (agree, pytest.approx(difference, abs=1e-6))
    assert compare(answer([CAT], one), answer([CAT], two)).agree is agree


def test_another_limit_on_their_number_is_another_answer() -> None:
    found = compare(answer([CAT]), answer([CAT], size=7))
    assert not found.agree and found.difference == math.inf


def test_the_shadow_is_asked_with_the_callers_options(tmp_path: Path) -> None:
    pack_boxes(tmp_path, version="1")
    repo = pack_boxes(tmp_path, version="2")
    name = 'modelport_shadow_compared_total{model="boxes",result="%s",version="2"} '
    with served(repo, "--executors", "1") as (url, _), httpx.Client(base_url=url, timeout=30) as http:

        def compared(result: str) -> float:
            lines = http.get("/metrics").text.splitlines()
            return sum(float(line[len(name % result) :]) for line in lines if line.startswith(name % result))

        def asked() -> bool:
            for query in ("?score_threshold=0.9", "?iou_threshold=1", ""):
                reply = http.post(f"/predict/boxes{query}", content=picture_with(SCENE))
                assert reply.status_code == 200 and reply.json()["version"] in "12"
            return compared("agreed") >= 3

        modelport("rollout", str(repo / "boxes"), "--stable", "1", "--shadow", "2")
        until(asked)
        assert compared("differed") == compared("failed") == 0
