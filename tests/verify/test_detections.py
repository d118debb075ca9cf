"""Found objects are compared as sets, forgiven exactly where a threshold or a tie explains a difference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from modelport.bundle.manifest import Tolerance
from modelport.bundle.store import Bundle
from modelport.runtimes.pipeline import Pipeline
from modelport.tensors import Array
from modelport.verify.detections import Thresholds, are_detections, compare_detections
from modelport.verify.replay import replay, verify

from ..boxes import pack_boxes

LOOSE = Tolerance(1e-3, 1e-4)
LIMITS = Thresholds(score=0.25, iou=0.5)
NAMES = np.array(["cat", "dog", ""], object)
Object = tuple[float, int, tuple[float, float, float, float]]
ONE: Object = (0.9, 0, (10, 10, 50, 50))
TWO: Object = (0.6, 1, (100, 30, 140, 90))


def answer(*objects: Object, places: int = 5) -> dict[str, Array]:
    boxes, scores = np.zeros((1, places, 4), np.float32), np.zeros((1, places), np.float32)
    classes = np.full((1, places), -1, np.int64)
    for index, (score, kind, box) in enumerate(objects):
        boxes[0, index], scores[0, index], classes[0, index] = box, score, kind
    count = np.array([len(objects)])
    return {"boxes": boxes, "scores": scores, "classes": classes, "count": count, "labels": NAMES[classes]}


def agree(got: dict[str, Array], want: dict[str, Array], limits: Thresholds = LIMITS) -> bool:
    found = compare_detections(got, want, LOOSE, limits)
    return all(parity.ok for parity in found.values())


def test_the_same_objects_agree_whatever_their_order() -> None:
    assert agree(answer(ONE, TWO), answer(ONE, TWO))
    assert agree(answer(), answer())
    near = (0.9005, 0, (200.0, 10.0, 240.0, 50.0))
    assert agree(answer(near, ONE), answer(ONE, near))
    assert agree(answer((0.8996, 0, (10.01, 10, 50, 50.01))), answer(ONE))


@pytest.mark.parametrize(
    "other",
    [
        (0.88, 0, (10, 10, 50, 50)),
        (0.9, 1, (10, 10, 50, 50)),
        (0.9, 0, (11, 10, 50, 50)),
        (0.9, 0, (10, 10, 50, 60)),
    ],
    ids=["score", "class", "left", "bottom"],
)
def test_another_object_is_a_difference(other: Object) -> None:
    found = compare_detections(answer(other), answer(ONE), LOOSE, LIMITS)
    assert not found["boxes"].ok
    assert "nothing answers to cat 0.9000 at [10.0, 10.0, 50.0, 50.0]" in found["boxes"].reason
    assert not agree(answer(other), answer(ONE), Thresholds(score=0.25, iou=0.5, agnostic=True))
    assert not agree(answer(), answer(ONE))
    assert (
        "was not expected: cat 0.9"
        in compare_detections(answer(ONE), answer(), LOOSE, LIMITS)["boxes"].reason
    )
    assert not agree(answer(ONE, other), answer(ONE))
    assert not agree(answer(ONE), answer(ONE, other))


def test_what_is_at_the_score_threshold_may_be_there_or_not() -> None:
    doubtful: Object = (0.2512, 0, (300, 10, 340, 50))
    assert agree(answer(ONE, doubtful), answer(ONE))
    assert agree(answer(ONE), answer(ONE, doubtful))
    assert not agree(answer(ONE), answer(ONE, doubtful), Thresholds(score=0.2, iou=0.5))
    assert not agree(answer(ONE), answer(ONE, doubtful), Thresholds())


def test_what_is_at_the_overlap_threshold_may_be_suppressed_or_not() -> None:
    # 40 x 40 pixels, moved by a third of that: the overlap is 0.5 and a hair.
    doubtful: Object = (0.5, 0, (100 + 40 / 3, 100, 140 + 40 / 3, 140))
    sure: Object = (0.5, 0, (110, 100, 150, 140))  # 0.6
    best: Object = (0.9, 0, (100, 100, 140, 140))
    far: Object = (0.9, 0, (300, 300, 340, 340))
    assert agree(answer(best, far, doubtful), answer(best, far))
    assert agree(answer(best, far), answer(best, far, doubtful))
    assert not agree(answer(best, far), answer(best, far, sure))
    assert not agree(answer(best, far, sure), answer(best, far))
    assert not agree(answer(best, far), answer(best, far, doubtful), Thresholds(score=0.25))


def test_of_two_that_tie_either_may_suppress_the_other() -> None:
    left: Object = (0.9000, 0, (100, 100, 140, 140))
    right: Object = (0.9004, 0, (105, 100, 145, 140))
    far: list[Object] = [(0.5, 1, (300, 50.0 * place, 340, 50.0 * place + 40)) for place in range(4)]
    # Only the right one suppressed this; where the left one wins it stays.
    after: Object = (0.6, 0, (117, 100, 157, 140))

    def both(one: list[Object], other: list[Object]) -> bool:
        return agree(answer(*one, places=20), answer(*other, places=20))

    assert both([left, *far], [right, *far])
    assert both([left, after, *far, *far], [right, *far, *far])
    clear: Object = (0.95, 0, (105, 100, 145, 140))
    assert not both([left, *far], [clear, *far])
    # With nothing else that agrees, it is as likely that the boxes are wrong.
    assert not both([left, *far[:3]], [right, *far[:3]])


def test_what_falls_off_a_full_answer_may_be_another() -> None:
    last, other = (0.5, 0, (200, 10, 240, 50)), (0.5004, 1, (300, 10, 340, 50))
    assert agree(answer(ONE, last, places=2), answer(ONE, other, places=2))
    assert not agree(answer(ONE, last, places=3), answer(ONE, other, places=3))


def test_a_label_is_the_one_of_its_class() -> None:
    got = answer(ONE, TWO)
    got["labels"][0, 1] = "cat"
    found = compare_detections(got, answer(ONE, TWO), LOOSE, LIMITS)
    assert found["boxes"].ok
    assert found["labels"].reason == "expected 'dog', got 'cat'"


def test_another_form_is_a_difference() -> None:
    found = compare_detections(answer(ONE, places=4), answer(ONE, places=5), LOOSE, LIMITS)
    assert "expected float32[1, 5, 4], got float32[1, 4, 4]" in found["boxes"].reason
    assert are_detections(answer(ONE))
    assert not are_detections({"scores": np.zeros((1, 5), np.float32)})


def test_a_bundle_s_replay_compares_objects(tmp_path: Path) -> None:
    repo = pack_boxes(tmp_path)
    report = verify(repo / "boxes")
    assert report.ok, report.reason
    assert report.taps["end_to_end"].max_abs < 0.01
    bundle = Bundle.open(repo / "boxes")
    with Pipeline.open(bundle) as pipeline:
        answers = pipeline.post

        def moved(raw: dict[str, Array], options: object = None) -> dict[str, Array]:
            made = answers(raw)
            return made | {"boxes": made["boxes"] + np.float32(2)}

        pipeline.post = moved  # type: ignore[method-assign, assignment]
        report = replay(pipeline)
    assert not report.ok
    assert report.first_divergence is not None
    assert report.first_divergence.tap == "post"
    assert "nothing answers to green 0.8" in report.reason
