"""Detection heads, NMS and the way back to pixels: compiled graphs against NumPy and against plain sense."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import pytest

from modelport.errors import UsageError
from modelport.steps.compile import (
    carried_by,
    compile_post,
    compile_pre,
    reference_carried,
    reference_post,
)
from modelport.steps.fit import Resolved
from modelport.steps.grids import YoloV5Raw, Yolox
from modelport.steps.heads import Head, YoloV5, YoloV8
from modelport.steps.image import CenterCrop, Layout, Scale
from modelport.steps.nms import Nms
from modelport.steps.placement import ToOriginal
from modelport.steps.post import Labels
from modelport.steps.resize import Letterbox, Resize
from modelport.steps.scored_boxes import Priors, ScoredBoxes
from modelport.steps.step import PostStep, PreStep
from modelport.tensors import Array, Tensors, TensorSpec

from .detectors import SIGNATURES, detection_recipes, raw_outputs, settled
from .graphs import session

LABELS = ("cat", "dog", "goose")
SETTINGS: list[dict[str, Any]] = [
    {},
    {"score_threshold": 0.6},
    {"score_threshold": 0.0, "multi_label": True, "iou_threshold": 0.7},
    {"multi_label": True, "class_agnostic": True, "iou_threshold": 0.2},
    {"score_threshold": 0.1, "class_agnostic": True, "iou_threshold": 1.0},
    {"score_threshold": 1.0},
]


def specs(name: str) -> list[TensorSpec]:
    return [*SIGNATURES[name].outputs, TensorSpec("placement", "float32", ("batch", 6))]


def run(graph: bytes, raw: Tensors, options: Mapping[str, Any] | None = None) -> dict[str, Array]:
    opened = session(graph)
    dtypes = {"tensor(float)": np.float32, "tensor(bool)": np.bool_}
    known = {node.name: dtypes[node.type] for node in opened.get_overridable_initializers()}
    given = {key: np.asarray(value, known[key]) for key, value in (options or {}).items() if key in known}
    names = [node.name for node in opened.get_outputs()]
    return dict(zip(names, opened.run(names, {**raw, **given}), strict=True))


def with_options(steps: tuple[PostStep, ...], options: Mapping[str, Any]) -> list[PostStep]:
    """The steps with other defaults: what the options do."""
    return [
        msgspec.structs.replace(
            step, **{key: value for key, value in options.items() if key in step.__struct_fields__}
        )
        for step in steps
    ]


def assert_alike(got: Tensors, want: Tensors) -> None:
    assert got.keys() == want.keys()
    np.testing.assert_array_equal(got["count"], want["count"])
    np.testing.assert_array_equal(got["classes"], want["classes"])
    np.testing.assert_allclose(got["scores"], want["scores"], rtol=2e-6, atol=1e-7)
    np.testing.assert_allclose(got["boxes"], want["boxes"], rtol=1e-5, atol=2e-4)
    for name in got:
        assert got[name].dtype == want[name].dtype
    if "labels" in got:
        np.testing.assert_array_equal(got["labels"], want["labels"])


@pytest.mark.parametrize("options", SETTINGS, ids=str)
@pytest.mark.parametrize("name", detection_recipes())
def test_recipes_equal_their_reference_whatever_the_options(name: str, options: dict[str, Any]) -> None:
    fitted = settled(name)
    graph = compile_post(fitted.post, specs(name))
    for rows, seed in ((1, 0), (3, 1), (5, 2)):
        raw = raw_outputs(name, rows, seed)
        want = reference_post(with_options(fitted.post, options), raw)
        got = run(graph.data, raw, options)
        assert_alike(got, want)
        if not options:
            assert want["count"].min() > 0, "nothing was found: the test says nothing"


@pytest.mark.parametrize("name", detection_recipes())
def test_the_answer_is_what_the_task_says(name: str) -> None:
    fitted = settled(name, max_detections=7)
    raw = raw_outputs(name, 4)
    graph = compile_post((*without_labels(fitted), Labels()), specs(name), (*LABELS, "other"))
    got = run(graph.data, raw)
    shapes = {spec.name: spec.shape for spec in graph.signature.outputs}
    assert shapes == {
        "boxes": ("batch", 7, 4),
        "scores": ("batch", 7),
        "classes": ("batch", 7),
        "count": ("batch",),
        "labels": ("batch", 7),
    }
    width, height = raw["placement"][:, 4], raw["placement"][:, 5]
    for row in range(4):
        count = int(got["count"][row])
        assert (np.diff(got["scores"][row, :count]) <= 0).all()
        assert (got["boxes"][row] >= 0).all()
        assert (got["boxes"][row][:, [0, 2]] <= width[row]).all()
        assert (got["boxes"][row][:, [1, 3]] <= height[row]).all()
        assert not got["boxes"][row, count:].any() and not got["scores"][row, count:].any()
        assert (got["classes"][row, count:] == -1).all() and (got["labels"][row, count:] == "").all()
        named = [(*LABELS, "other")[index] for index in got["classes"][row, :count]]
        assert got["labels"][row, :count].tolist() == named


def without_labels(fitted: Resolved) -> tuple[PostStep, ...]:
    return tuple(step for step in fitted.post if not isinstance(step, Labels))


@pytest.mark.parametrize("name", detection_recipes())
def test_rows_do_not_see_their_neighbours(name: str) -> None:
    graph = compile_post(settled(name).post, specs(name)).data
    raw = raw_outputs(name, 6)
    together = run(graph, raw)
    for row in range(6):
        alone = run(graph, {key: array[row : row + 1] for key, array in raw.items()})
        for key, array in alone.items():
            np.testing.assert_array_equal(array[0], together[key][row])


@pytest.mark.parametrize("name", detection_recipes())
def test_nothing_found_is_an_answer(name: str) -> None:
    graph = compile_post(settled(name).post, specs(name)).data
    raw = raw_outputs(name, 3)
    for row, value in ((0, 0.0), (2, -50.0)):
        for key in raw:
            if key != "placement":
                raw[key][row] = value
    if name == "detr":  # of softmax, equal logits are no zeros
        raw["logits"][:, :, -1] = 90.0
    got = run(graph, raw, {"score_threshold": 0.6})
    assert got["count"][0] == got["count"][2] == 0
    assert (got["count"][1] > 0) == (name != "detr")
    assert not got["boxes"][0].any()


@pytest.mark.parametrize("name", detection_recipes())
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38], ids=str)
def test_numbers_that_are_none_end_in_no_box(name: str, value: float) -> None:
    """A row that is spoiled gives finite answers, and leaves its neighbours alone."""
    graph = compile_post(settled(name).post, specs(name)).data
    raw = raw_outputs(name, 3)
    want = run(graph, raw)
    random = np.random.default_rng(5)
    for key, array in raw.items():
        if key != "placement":
            array[1].ravel()[random.random(array[1].size) < 0.3] = value
            array[1].ravel()[:4] = value
    for options in ({}, {"multi_label": True, "score_threshold": 0.0}):
        got = run(graph, raw, options)
        assert np.isfinite(got["boxes"]).all()
        assert np.isfinite(got["scores"]).all()
        if not options:
            for key in got:
                np.testing.assert_array_equal(got[key][[0, 2]], want[key][[0, 2]])


# -- suppression -----------------------------------------------------------------------------------

CHAIN = np.array(
    [  # center x, center y, width, height, objectness, three classes: each overlaps the next by 0.6
        [20, 20, 20, 20, 0.9, 1, 0, 0],
        [25, 20, 20, 20, 0.8, 1, 0, 0],
        [30, 20, 20, 20, 0.7, 1, 0.9, 0],
        [30, 20, 20, 20, 0.6, 0, 0, 1],
    ],
    np.float32,
)


def chain(**options: Any) -> list[tuple[float, int]]:
    steps = [YoloV5(), Nms(max_detections=10), ToOriginal()]
    graph = compile_post(steps, [TensorSpec("raw", "float32", ("batch", 4, 8)), specs("yolov5")[1]])
    placement = np.array([[1, 1, 0, 0, 64, 64]], np.float32)
    got = run(graph.data, {"raw": CHAIN[None], "placement": placement}, options)
    count = int(got["count"][0])
    scores = [round(float(score), 3) for score in got["scores"][0, :count]]
    return list(zip(scores, got["classes"][0, :count].tolist(), strict=True))


def test_nms_keeps_the_best_of_what_overlaps() -> None:
    assert chain(iou_threshold=0.5) == [(0.9, 0), (0.7, 0), (0.6, 2)]
    assert chain(iou_threshold=0.7) == [(0.9, 0), (0.8, 0), (0.7, 0), (0.6, 2)]
    assert chain(iou_threshold=0.5, class_agnostic=True) == [(0.9, 0), (0.7, 0)]
    assert chain(iou_threshold=0.5, multi_label=True) == [(0.9, 0), (0.7, 0), (0.63, 1), (0.6, 2)]
    assert chain(iou_threshold=0.5, multi_label=True, class_agnostic=True) == [(0.9, 0), (0.7, 0)]
    assert chain(iou_threshold=0.5, score_threshold=0.59) == [(0.9, 0), (0.7, 0), (0.6, 2)]
    assert chain(iou_threshold=0.5, score_threshold=0.6) == [(0.9, 0), (0.7, 0)]
    assert chain(iou_threshold=0.0) == [(0.9, 0), (0.6, 2)]


def test_only_the_best_candidates_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modelport.steps.nms.MOST", 40)
    fitted = settled("yolov5", score_threshold=0.0, multi_label=True)
    raw = raw_outputs("yolov5", 2)
    assert_alike(run(compile_post(fitted.post, specs("yolov5")).data, raw), reference_post(fitted.post, raw))


def test_equal_scores_stand_in_the_order_of_their_places() -> None:
    raw = np.zeros((1, 40, 8), np.float32)
    raw[0, :, :2] = np.arange(40)[:, None] * 40
    raw[0, :, 2:5] = [4, 4, 1]
    raw[0, :, 5] = 0.5
    graph = compile_post([YoloV5(), Nms()], [TensorSpec("raw", "float32", ("batch", 40, 8))]).data
    got = run(graph, {"raw": raw})
    assert got["boxes"][0, :40, 0].tolist() == [40 * place - 2 for place in range(40)]


# -- the way back ----------------------------------------------------------------------------------

PLACED: list[list[PreStep]] = [
    [Letterbox(64), Scale(divide=255), Layout("chw")],
    [Letterbox((48, 64), scaleup=False)],
    [Letterbox(64, center=False, rounding="down")],
    [Letterbox(64, multiple=16)],
    [Resize(size=(40, 60))],
    [Resize(shorter=80, longest=133)],
    [Resize(longer=50)],
    [Layout("chw")],
]
SIZES = [(48, 64), (64, 64), (1, 1), (1, 300), (37, 53), (810, 1080), (99, 98), (500, 499), (3, 2)]


@pytest.mark.parametrize("steps", PLACED, ids=lambda steps: steps[0].name)
def test_the_placement_is_the_reference_s_to_the_last_bit(steps: list[PreStep]) -> None:
    graph = session(compile_pre(steps, "x", carried=carried_by([ToOriginal()])).data)
    for height, width in SIZES:
        image = np.zeros((height, width, 3), np.uint8)
        got = graph.run(["placement"], {"image": image})[0]
        want = reference_carried(steps, image, ["placement"])["placement"]
        np.testing.assert_array_equal(got, want)
        assert want[4:].tolist() == [width, height]


@pytest.mark.parametrize("steps", PLACED, ids=lambda steps: steps[0].name)
@pytest.mark.parametrize("size", [(37, 53), (110, 90), (64, 64)], ids=str)
def test_a_mark_is_mapped_back_to_where_it_was(steps: list[PreStep], size: tuple[int, int]) -> None:
    """A white rectangle in the prepared picture lies where the placement says."""
    height, width = size
    image = np.zeros((height, width, 3), np.uint8)
    top, left, bottom, right = height // 4, width // 3, height // 2 + 2, width - 6
    image[top:bottom, left:right] = 255
    graph = session(compile_pre(steps, "x", carried=carried_by([ToOriginal()])).data)
    prepared, placement = graph.run(["x", "placement"], {"image": image})
    seen = prepared[0] if prepared.shape[0] == 3 else prepared[:, :, 0]
    white = seen > seen.max() * 0.6
    rows, columns = np.flatnonzero(white.any(1)), np.flatnonzero(white.any(0))
    boxes = np.array([[[columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]]], np.float32)
    answer = ToOriginal().reference(
        {"boxes": boxes, "classes": np.zeros((1, 1), np.int64), "placement": placement[None]}, ()
    )
    slack = 1 + 1 / min(placement[0], placement[1])
    np.testing.assert_allclose(answer["boxes"][0, 0], [left, top, right, bottom], atol=slack)


def test_a_frame_is_no_larger_than_the_picture_needs() -> None:
    random = np.random.default_rng(1)
    for center in (True, False):
        step = Letterbox(size=(64, 96), kernel="nearest", fill=7, center=center, multiple=16)
        graph = session(compile_pre([step], "x").data)
        for height, width in random.integers(1, 400, (300, 2)):
            image = np.zeros((height, width, 3), np.uint8)
            np.testing.assert_array_equal(graph.run(None, {"image": image})[0], step.reference(image))
        assert step.reference(np.zeros((10, 96, 3), np.uint8)).shape == (16, 96, 3)
        assert step.reference(np.zeros((64, 97, 3), np.uint8)).shape == (64, 96, 3)
    with pytest.raises(ValueError, match="does not divide 64 x 90"):
        Letterbox(size=(64, 90), multiple=16)


def test_boxes_are_not_mapped_through_what_cuts() -> None:
    with pytest.raises(UsageError, match="not mapped back through `center_crop`"):
        compile_pre([Resize(shorter=64), CenterCrop(60)], "x", carried=carried_by([ToOriginal()]))
    with pytest.raises(UsageError, match="not several"):
        compile_pre([Resize(size=64), Letterbox(60)], "x", carried=carried_by([ToOriginal()]))


def test_detr_s_sizes_are_hugging_face_s() -> None:
    """`get_size_with_aspect_ratio` of transformers, shorter 800 and at most 1333."""
    step = Resize(shorter=800, longest=1333)
    sizes = {(480, 640): (800, 1066), (300, 1000): (400, 1333), (1080, 1920): (750, 1333)}
    sizes |= {(1000, 300): (1333, 400), (800, 1333): (800, 1333), (50, 50): (800, 800)}
    graph = session(compile_pre([step], "x").data)
    for (height, width), want in sizes.items():
        assert step.target(height, width) == want
        made = graph.run(None, {"image": np.zeros((height, width, 3), np.uint8)})[0]
        assert made.shape[:2] == want


# -- what heads refuse and tell --------------------------------------------------------------------


def test_a_head_knows_its_classes() -> None:
    for name in detection_recipes():
        (head,) = (step for step in settled(name).post if isinstance(step, Head))
        known = {"yolov10": None, "ssd": 2, "detr": 4}.get(name, 3)
        assert head.classes(SIGNATURES[name].outputs) == known


def test_an_output_that_is_not_the_head_s_is_refused() -> None:
    flat = [TensorSpec("a", "float32", ("batch", 10))]
    two = [TensorSpec(name, "float32", ("batch", 10, 9)) for name in "ab"]
    with pytest.raises(UsageError, match=r"three|3 axes"):
        compile_post([YoloV5(), Nms()], flat)
    with pytest.raises(UsageError, match="must say `of`"):
        compile_post([YoloV8(), Nms()], two)
    with pytest.raises(UsageError, match="too few for boxes and classes"):
        compile_post([YoloV8(), Nms()], [TensorSpec("a", "float32", ("batch", 4, 100))])
    with pytest.raises(UsageError, match="make 84 places of 64 x 64 pixels; 'a' has 80"):
        compile_post([Yolox(size=64), Nms()], [TensorSpec("a", "float32", ("batch", 80, 8))])
    with pytest.raises(UsageError, match="there is none before it"):
        compile_post([Nms()], two)
    with pytest.raises(UsageError, match="needs boxes"):
        compile_post([ScoredBoxes(), Nms()], two)


def test_boxes_told_from_priors() -> None:
    """The formula of SSD on one prior, by hand."""
    priors = Priors(size=(24, 32), strides=(8,), sizes=((6.0, 12.0),))
    assert priors.boxes().shape == (3 * 4 * 2, 4)
    np.testing.assert_allclose(priors.boxes()[3], [12 / 32, 4 / 24, 12 / 32, 12 / 24], rtol=1e-6)
    step = ScoredBoxes(boxes="b", scores="s", background="first", priors=priors)
    raw = {"b": np.zeros((1, 24, 4), np.float32), "s": np.zeros((1, 24, 2), np.float32)}
    raw["b"][0, 3] = [1, -1, 0.5, 0]
    raw["s"][0, 3, 1] = 0.9
    outputs = [TensorSpec(name, "float32", ("batch", *array.shape[1:])) for name, array in raw.items()]
    steps = [step, Nms(max_detections=2)]
    got, want = run(compile_post(steps, outputs).data, raw), reference_post(steps, raw)
    x, y, w, h = 12 / 32 + 0.1 * 12 / 32, 4 / 24 - 0.1 * 0.5, 12 / 32 * np.exp(0.1), 0.5
    for answer in (got, want):
        expected = [x - w / 2, y - h / 2, x + w / 2, y + h / 2]
        np.testing.assert_allclose(answer["boxes"][0, 0], expected, rtol=1e-6)
        assert answer["count"].tolist() == [1]


def test_channels_behind_the_classes_are_passed_over() -> None:
    raw = raw_outputs("yolov8", 2)
    wide = np.concatenate([raw["output0"], np.full((2, 5, 84), 9.0, np.float32)], axis=1)
    steps = [YoloV8(extra=5), Nms()]
    outputs = [TensorSpec("output0", "float32", ("batch", 12, 84))]
    assert YoloV8(extra=5).classes(outputs) == 3
    got = run(compile_post(steps, outputs).data, {"output0": wide})
    assert_alike(got, reference_post(steps, {"output0": wide}))
    assert got["scores"].max() <= 1


def as_planes(raw: Tensors, *, last: bool) -> dict[str, Array]:
    """Logits as the last convolution gives them: anchor after anchor, number after number, on axis 1 or 3."""
    turned = {}
    for name, array in raw.items():
        if array.ndim == 5:
            array = array.transpose(0, 2, 3, 1, 4).reshape(len(array), *array.shape[2:4], -1)
            array = np.ascontiguousarray(array if last else array.transpose(0, 3, 1, 2))
        turned[name] = array
    return turned


@pytest.mark.parametrize("turned", [False, True], ids=["planes", "channels last"])
@pytest.mark.parametrize("options", SETTINGS, ids=str)
def test_logits_in_planes_are_the_lines_turned(options: dict[str, Any], turned: bool) -> None:
    steps = settled("yolov5-raw").post
    lines = compile_post(steps, specs("yolov5-raw"))
    steps = tuple(
        msgspec.structs.replace(step, channels_last=turned) if isinstance(step, YoloV5Raw) else step
        for step in steps
    )
    raw = raw_outputs("yolov5-raw", 3)
    own = as_planes(raw, last=turned)
    outputs = [
        TensorSpec(name, "float32", ("batch", *array.shape[1:]))
        for name, array in own.items()
        if array.ndim == 4
    ]
    planes = compile_post(steps, [*outputs, *specs("yolov5-raw")[3:]])
    got = run(planes.data, own, options)
    assert_alike(got, run(lines.data, raw, options))
    assert_alike(got, reference_post(with_options(steps, options), own))
    head = next(step for step in steps if isinstance(step, Head))
    assert head.classes(outputs) == 3
