"""Native preparation gives the graph's bytes, or is not used."""

from __future__ import annotations

import logging
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from modelport.steps.compile import PRE_STEPS, compile_pre, reference_pre
from modelport.steps.lowering import TRIALS, Lowering
from modelport.steps.step import parse_steps
from modelport.tensors import Array

from .graphs import session as session_of

NORMALIZE = {"normalize": {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}}
IMAGENET = [{"resize": {"shorter": 64}}, {"center_crop": 56}, {"scale": {"divide": 255}}, NORMALIZE]
RECIPES: list[list[Any]] = [
    [*IMAGENET, {"layout": "chw"}],
    [{"resize": {"size": [40, 30], "kernel": "pillow-bicubic"}}, {"channels": "bgr"}, NORMALIZE],
    [{"resize": {"size": 48, "kernel": "nearest"}}, {"layout": "chw"}],
    [{"resize": {"shorter": 64, "crop_fraction": 0.875}}, {"center_crop": [64, 60]}, {"cast": "float16"}],
    [{"resize": {"shorter": 50, "order": "width-first"}}, {"center_crop": 50}, {"layout": "chw"}],
    [{"resize": {"shorter": 50}}, {"center_crop": {"size": 43, "rounding": "down"}}, {"layout": "chw"}],
]
SIZES = [(80, 80), (375, 500), (500, 375), (33, 700), (700, 33), (64, 64), (1, 9), (900, 61)]


def picture(height: int, width: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("size", SIZES)
def test_every_byte_is_that_of_the_graph_and_of_the_reference(
    recipe: list[Any], size: tuple[int, int]
) -> None:
    steps = parse_steps(recipe, PRE_STEPS, "$")
    lowering = Lowering.of(steps, "x")
    assert lowering is not None
    image = picture(*size)
    expected = session_of(compile_pre(steps, "x").data).run(None, {"image": image})[0]
    got = lowering.run(image)
    assert got.dtype == expected.dtype
    np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(got, reference_pre(steps, image))


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_bytes_are_written_where_the_caller_wants_them(recipe: list[Any]) -> None:
    lowering = Lowering.of(parse_steps(recipe, PRE_STEPS, "$"), "x")
    assert lowering is not None
    image = picture(375, 500)
    right = lowering.run(image)
    batch = np.zeros((3, *right.shape), right.dtype)
    got = lowering.run(image, batch[1])
    assert np.shares_memory(got, batch)
    np.testing.assert_array_equal(batch[1], right)
    assert not batch[0].any() and not batch[2].any()
    for unfit in (np.zeros((*right.shape, 1), right.dtype), np.zeros(right.shape, np.int64)):
        np.testing.assert_array_equal(lowering.run(image, unfit), right)
        assert not unfit.any()


@pytest.mark.parametrize("crop", [[], [{"center_crop": 51}], [{"center_crop": [51, 90]}]], ids=str)
@pytest.mark.parametrize("kind", ["resize", "letterbox"])
def test_opencv_is_native_where_it_is_installed(kind: str, crop: list[Any]) -> None:
    pytest.importorskip("cv2", reason="OpenCV is not installed")
    first: dict[str, Any] = {kind: {"size": [64, 96], "kernel": "opencv-linear"}}
    steps = parse_steps([first, *crop, {"scale": {"divide": 255}}, {"layout": "chw"}], PRE_STEPS, "$")
    lowering = Lowering.of(steps, "x")
    assert lowering is not None
    graph = session_of(compile_pre(steps, "x").data)
    for size in SIZES:
        image = picture(*size)
        np.testing.assert_array_equal(lowering.run(image), graph.run(None, {"image": image})[0])


@pytest.mark.parametrize(
    "recipe",
    [
        [],
        [{"resize": {"size": 8, "kernel": "fast"}}],
        [{"grayscale": {}}, {"resize": {"size": 8}}],
        [{"resize": {"size": 8}}, {"grayscale": {}}, {"layout": "hw"}],
        [{"resize": {"longer": 64}}, {"center_crop": 64}],
        [{"resize": {"size": 8}}, {"layout": "flat"}],
    ],
)
def test_what_has_no_native_form_is_left_to_the_graph(recipe: list[Any]) -> None:
    assert Lowering.of(parse_steps(recipe, PRE_STEPS, "$"), "x") is None


def test_the_first_pictures_of_a_size_are_the_graphs_and_the_quicker_serves_the_rest() -> None:
    lowering = Lowering.of(parse_steps(RECIPES[0], PRE_STEPS, "$"), "x")
    assert lowering is not None
    image = picture(80, 90)
    right, graphs = lowering.run(image), []

    def graph() -> dict[str, Array]:
        graphs.append(1)
        # Far slower than preparing a picture of 80 x 90 natively.
        for _ in range(200):
            right.copy().sum()
        return {"x": right}

    for _ in range(TRIALS + 5):
        np.testing.assert_array_equal(lowering.prepare(image, graph)["x"], right)
    assert len(graphs) == TRIALS
    batch = np.zeros((2, *right.shape), right.dtype)
    assert np.shares_memory(lowering.prepare(image, graph, {"x": batch[1]})["x"], batch)
    np.testing.assert_array_equal(batch[1], right)
    # Another size is tried for itself.
    lowering.prepare(picture(300, 400), lambda: {"x": lowering.run(picture(300, 400))})


def test_one_difference_ends_it(caplog: pytest.LogCaptureFixture) -> None:
    lowering = Lowering.of(parse_steps(RECIPES[0], PRE_STEPS, "$"), "x")
    assert lowering is not None
    image, calls = picture(80, 90), []
    wrong = lowering.run(image)
    wrong[0, 0, 0] += 1

    def graph() -> dict[str, Array]:
        calls.append(1)
        return {"x": wrong}

    with caplog.at_level(logging.WARNING, "modelport.steps"):
        for _ in range(TRIALS + 3):
            assert lowering.prepare(image, graph)["x"] is wrong
    assert len(calls) == TRIALS + 3
    assert len(caplog.records) == 1 and "otherwise than the graph" in caplog.text


def test_a_picture_that_would_grow_beyond_measure_is_left_to_the_graph() -> None:
    lowering = Lowering.of(parse_steps(RECIPES[0], PRE_STEPS, "$"), "x")
    assert lowering is not None
    mark = np.zeros(1)
    for _ in range(TRIALS + 2):
        # Its shorter side made 64 it would have 64 x 1,280,000 pixels, of which the graph makes 56 x 56.
        assert lowering.prepare(picture(1, 20_000), lambda: {"x": mark})["x"] is mark


@pytest.mark.parametrize(
    ("first", "imported"), [({"shorter": 64}, False), ({"size": 64, "kernel": "opencv-linear"}, True)]
)
def test_opencv_is_imported_only_where_it_resizes(first: dict[str, Any], imported: bool) -> None:
    pytest.importorskip("cv2", reason="OpenCV is not installed")
    program = (
        "import sys\n"
        "from modelport.steps.compile import PRE_STEPS\n"
        "from modelport.steps.lowering import Lowering\n"
        "from modelport.steps.step import parse_steps\n"
        f"steps = parse_steps([{{'resize': {first!r}}}, {{'layout': 'chw'}}], PRE_STEPS, '$')\n"
        "assert Lowering.of(steps, 'x') is not None\n"
        "print('cv2' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(imported)
