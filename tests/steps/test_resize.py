"""The compiled kernels against the installed Pillow and OpenCV: not one byte may differ."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Literal

import msgspec
import numpy as np
import onnxruntime
import PIL
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from modelport.errors import UsageError
from modelport.steps import kernels, reference, sampling
from modelport.steps.compile import compile_pre, reference_pre
from modelport.steps.graph import Graph, Value
from modelport.steps.image import CenterCrop, Pad
from modelport.steps.resize import Letterbox, Resize
from modelport.steps.step import PreStep
from modelport.tensors import Array, TensorSpec

cv2 = pytest.importorskip("cv2", reason="OpenCV is not installed")

EDGES = [
    ((3000, 2), (5, 700)),
    ((2, 3000), (700, 5)),
    ((1, 1), (1, 1)),
    ((1, 1), (64, 33)),
    ((1, 97), (31, 1)),
    ((97, 1), (1, 31)),
    ((64, 48), (64, 48)),
    ((64, 48), (64, 31)),
    ((64, 48), (130, 48)),
    ((180, 320), (90, 160)),
    ((144, 240), (36, 60)),
    ((180, 320), (90, 80)),
    ((90, 100), (90, 50)),
    ((300, 200), (100, 66)),
    ((300, 201), (100, 67)),
    ((200, 300), (100, 150)),
    ((128, 128), (32, 32)),
    ((2000, 3), (2, 3)),
    ((501, 500), (1, 1)),
]
"""Sizes with one pixel, equal sides, whole-number scales and extreme ratios; from, to."""


def run_graph(build: Callable[[Graph], Value], inputs: dict[str, Array] | None = None) -> Any:
    """A function from input arrays to the result of the graph that `build` makes, in one session."""
    graph = Graph()
    y = build(graph)
    graph.output(TensorSpec("result", y.dtype, y.shape), y.name)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph.build("test"), options, providers=["CPUExecutionProvider"])
    return lambda **arrays: session.run(None, arrays)[0]


@cache
def compiled_kernel(kernel: str, channels: int, order: str = "pillow-13") -> Any:
    """A kernel with the target size as an input, so that one session serves every size."""

    def build(graph: Graph) -> Value:
        x = graph.input(TensorSpec("image", "uint8", ("height", "width", channels)))
        target = graph.input(TensorSpec("target", "int64", (2,)))
        sides = graph.ops("Split", target.name, outputs=2, axis=0, num_outputs=2)
        height, width = (sampling.Side(graph.size(x, i), sides[i], f"to_{i}") for i in (0, 1))
        return kernels.resize(graph, x, height, width, kernel, order=order)

    return run_graph(build)


def compiled_step(step: PreStep, channels: int = 3) -> Any:
    return run_graph(
        lambda graph: step.compile(
            graph, graph.input(TensorSpec("image", "uint8", ("height", "width", channels)))
        )
    )


def pictures(count: int, seed: int, largest: int = 400) -> Any:
    """Seeded pictures of noise, of black and white, and of a ramp, with a target size each."""
    random = np.random.default_rng(seed)
    sizes = [*EDGES]
    while len(sizes) < count:
        a, b, c, d = np.exp(random.uniform(0, np.log(largest), 4)).astype(int)
        sizes.append(((a, b), (c, d)))
    for index, (source, target) in enumerate(sizes):
        shape = (*source, 1 if index % 4 == 3 else 3)
        if index % 3 == 0:
            image = random.integers(0, 2, shape, dtype=np.uint8) * 255
        elif index % 3 == 1:
            image = random.integers(0, 256, shape, dtype=np.uint8)
        else:
            image = np.broadcast_to(np.linspace(0, 255, shape[1])[None, :, None], shape).astype(np.uint8)
        yield np.ascontiguousarray(image), (int(target[0]), int(target[1]))


def installed_pillow(image: Array, target: tuple[int, int], resample: int) -> Array:
    picture = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
    resized = np.asarray(picture.resize((target[1], target[0]), Image.Resampling(resample)))
    return resized.reshape(*target, image.shape[2])


def installed_order(image: Array, target: tuple[int, int]) -> str:
    """The order in which the installed Pillow makes its two passes, in the kernels' words."""
    version = tuple(int(part) for part in PIL.__version__.split(".")[:2])
    if version >= (13, 0):
        return "pillow-13"
    far_too_high = image.shape[0] > 100 * image.shape[1] and target[0] < image.shape[0]
    return "pillow-13" if version >= (12, 2) and far_too_high else "width-first"


@pytest.mark.parametrize(
    ("kernel", "resample"), [("pillow-bilinear", 2), ("pillow-bicubic", 3), ("nearest", 0)]
)
def test_equal_to_the_installed_pillow(kernel: str, resample: int) -> None:
    for image, target in pictures(260, seed=resample):
        resized = compiled_kernel(kernel, image.shape[2], installed_order(image, target))
        result = resized(image=image, target=np.array(target))
        expected = installed_pillow(image, target, resample)
        np.testing.assert_array_equal(result, expected, f"{image.shape} -> {target}")


@pytest.mark.parametrize("order", ["pillow-13", "width-first"])
@pytest.mark.parametrize("kernel", ["pillow-bilinear", "pillow-bicubic"])
def test_both_orders_of_passes_whatever_pillow_is_installed(kernel: str, order: str) -> None:
    differ = 0
    for image, target in pictures(60, seed=7, largest=200):
        result = compiled_kernel(kernel, image.shape[2], order)(image=image, target=np.array(target))
        expected = reference.resize_reference(image, *target, kernel, order)
        np.testing.assert_array_equal(result, expected, f"{image.shape} -> {target}")
        other = reference.resize_reference(image, *target, kernel, "width-first")
        differ += not np.array_equal(result, other)
    assert (differ > 0) == (order == "pillow-13"), "the pictures must tell the two orders apart"


def test_opencv_linear_equal_to_opencv_and_to_its_formula() -> None:
    for image, target in pictures(260, seed=11):
        expected = cv2.resize(image, target[::-1], interpolation=cv2.INTER_LINEAR)
        expected = expected.reshape(*target, image.shape[2])
        result = compiled_kernel("opencv-linear", image.shape[2])(image=image, target=np.array(target))
        np.testing.assert_array_equal(result, expected, f"{image.shape} -> {target}")
        np.testing.assert_array_equal(
            reference.opencv_linear(image, *target), expected, f"NumPy port, {image.shape} -> {target}"
        )


def test_fast_is_pillows_bilinear_within_one_level() -> None:
    random = np.random.default_rng(3)
    differing = total = 0
    for _ in range(40):
        source, shrink = random.integers(150, 600, 2), random.uniform(0.2, 1.0)
        height, width = (int(side * shrink) for side in source)
        noise = random.integers(0, 256, (*source, 3), dtype=np.uint8)
        image = cv2.GaussianBlur(noise, (0, 0), 1.5)
        result = compiled_kernel("fast", 3)(image=image, target=np.array([height, width]))
        expected = reference.resize_reference(image, height, width, "pillow-bilinear", "width-first")
        gap = np.abs(result.astype(int) - expected)
        assert gap.max() <= 1
        differing, total = differing + np.count_nonzero(gap), total + gap.size
        np.testing.assert_array_equal(result, reference.resize_reference(image, height, width, "fast"))
    assert 0 < differing <= 0.002 * total


@given(
    source=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    target=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    kernel=st.sampled_from(["pillow-bilinear", "pillow-bicubic", "opencv-linear", "nearest"]),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=150, deadline=None)
def test_every_kernel_equals_its_reference(
    source: tuple[int, int], target: tuple[int, int], kernel: str, seed: int
) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (*source, 3), dtype=np.uint8)
    result = compiled_kernel(kernel, 3)(image=image, target=np.array(target))
    np.testing.assert_array_equal(result, reference.resize_reference(image, *target, kernel))


@pytest.mark.parametrize(
    "step",
    [
        Resize(size=28),
        Resize(size=(20, 33), kernel="opencv-linear"),
        Resize(shorter=40, kernel="pillow-bicubic"),
        Resize(shorter=35, crop_fraction=0.875),
        Resize(shorter=40, rounding="nearest"),
        Resize(shorter=40, multiple=16),
        Resize(shorter=40, longest=60, multiple=8),
        Resize(longer=20),
        Resize(longer=50, kernel="nearest"),
        Resize(shorter=30, kernel="fast"),
    ],
    ids=str,
)
def test_resize_steps_with_sizes_from_the_picture(step: Resize) -> None:
    run = compiled_step(step)
    for image, _ in pictures(40, seed=5, largest=150):
        if image.shape[2] == 3 and max(image.shape) < 30 * min(image.shape[:2]):
            np.testing.assert_array_equal(run(image=image), step.reference(image), str(image.shape))


@pytest.mark.parametrize(
    ("step", "source", "target"),
    [
        (Resize(shorter=256), (1080, 1920), (256, 455)),
        (Resize(shorter=256), (1920, 1080), (455, 256)),
        (Resize(shorter=224, crop_fraction=0.875), (300, 400), (256, 341)),
        (Resize(shorter=224, crop_fraction=0.95), (500, 500), (235, 235)),
        (Resize(shorter=256, rounding="nearest"), (1078, 1917), (256, 455)),  # 455.24
        (Resize(shorter=256, rounding="nearest"), (1917, 1075), (457, 256)),  # 456.51
        (Resize(shorter=4, rounding="nearest"), (8, 9), (4, 4)),  # 4.5 to even
        (Resize(shorter=4, rounding="nearest"), (11, 8), (6, 4)),  # 5.5 to even
        (Resize(longer=20), (10, 20), (10, 20)),
        (Resize(longer=20), (8, 320), (1, 20)),
        (Resize(longer=20), (5, 40), (2, 20)),  # 2.5 to even
        (Resize(longer=20), (7, 40), (4, 20)),  # 3.5 to even
        (Resize(size=(7, 9)), (40, 40), (7, 9)),
    ],
)
def test_target_sizes(step: Resize, source: tuple[int, int], target: tuple[int, int]) -> None:
    assert step.target(*source) == target
    assert compiled_step(step)(image=np.zeros((*source, 3), np.uint8)).shape == (*target, 3)


def test_shapes_are_numbers_where_they_are_known() -> None:
    graph = Graph()
    dynamic = graph.input(TensorSpec("a", "uint8", ("height", "width", 3)))
    static = graph.input(TensorSpec("b", "uint8", (100, 200, 1)))
    assert Resize(size=(5, 6)).compile(graph, dynamic).shape == (5, 6, 3)
    assert Resize(shorter=50).compile(graph, static).shape == (50, 100, 1)
    assert Letterbox(size=(32, 64)).compile(graph, dynamic).shape == (32, 64, 3)
    shape = Resize(shorter=50).compile(graph, dynamic).shape
    assert all(isinstance(side, str) for side in shape[:2])
    assert shape[0] != shape[1]


@pytest.mark.parametrize("shape", [(61, 47, 3), (60, 40, 3), (90, 60, 1), (20, 30, 3), (300, 7, 3)], ids=str)
def test_a_static_picture_gives_the_same_bytes(shape: tuple[int, int, int]) -> None:
    """Every condition in the graph is a constant then, and ONNX Runtime inlines the branches."""
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    spec = TensorSpec("image", "uint8", shape)
    opencv = Resize(size=(30, 20), kernel="opencv-linear")
    for step in (Resize(shorter=20), Resize(size=12, kernel="pillow-bicubic"), opencv, Letterbox(size=64)):
        run = run_graph(lambda graph, step=step: step.compile(graph, graph.input(spec)))
        np.testing.assert_array_equal(run(image=image), step.reference(image))


@pytest.mark.parametrize(
    ("kernel", "rounding"),
    [
        *((name, "nearest") for name in ("pillow-bilinear", "pillow-bicubic", "opencv-linear")),
        *((name, "nearest") for name in ("nearest", "fast")),
        ("pillow-bicubic", "down"),
    ],
)
def test_the_middle_alone_equals_the_middle_of_all(kernel: str, rounding: Literal["nearest", "down"]) -> None:
    step = Resize(shorter=40, kernel=kernel)  # type: ignore[arg-type]
    for height, width in ((40, 40), (33, 40), (17, 8)):

        def build(graph: Graph, height: int = height, width: int = width) -> Value:
            x = graph.input(TensorSpec("image", "uint8", ("height", "width", 3)))
            value = step.compile_center(graph, x, CenterCrop((height, width), rounding))
            assert value is not None
            assert value.shape == (height, width, 3)
            return value

        run = run_graph(build)
        for image, _ in pictures(40, seed=9, largest=150):
            if image.shape[2] == 3 and max(image.shape[:2]) < 30 * min(image.shape[:2]):
                whole = step.reference(image)
                over = (whole.shape[0] - height, whole.shape[1] - width)
                top, left = (round(each / 2) if rounding == "nearest" else each // 2 for each in over)
                np.testing.assert_array_equal(
                    run(image=image), whole[top : top + height, left : left + width], str(image.shape)
                )


@pytest.mark.parametrize("kernel", ["pillow-bilinear", "pillow-bicubic", "opencv-linear"])
def test_a_crop_after_a_resize_is_compiled_with_it(kernel: str) -> None:
    steps = [Resize(shorter=40, kernel=kernel), CenterCrop(size=36)]  # type: ignore[arg-type]
    compiled = compile_pre(steps, "x")
    session = onnxruntime.InferenceSession(compiled.data, providers=["CPUExecutionProvider"])
    assert compiled.signature.outputs[0].shape == (36, 36, 3)
    # Of a strip of 4 million pixels' height only the middle is made: the whole would be 480 MB of uint8.
    for shape in ((50, 70, 3), (70, 50, 3), (40, 40, 3), (20000, 1, 3), (2, 30000, 3)):
        image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        result = session.run(None, {"image": image})[0]
        if max(shape) < 100:
            np.testing.assert_array_equal(result, reference_pre(steps, image))
        assert result.shape == (36, 36, 3)


def test_no_middle_where_the_picture_may_be_too_small() -> None:
    graph = Graph()
    x = graph.input(TensorSpec("image", "uint8", ("height", "width", 3)))
    assert Resize(shorter=40).compile_center(graph, x, CenterCrop((41, 10))) is None
    assert Resize(longer=400).compile_center(graph, x, CenterCrop(10)) is None
    assert Resize(size=(30, 50)).compile_center(graph, x, CenterCrop(31)) is None


def ultralytics_letterbox(image: Array, size: tuple[int, int], scaleup: bool, center: bool) -> Array:
    """The published formula, with OpenCV's own resize and border."""
    shape = image.shape[:2]
    r = min(size[0] / shape[0], size[1] / shape[1])
    if not scaleup:
        r = min(r, 1.0)
    new_unpad = max(1, round(shape[1] * r)), max(1, round(shape[0] * r))
    dw, dh = size[1] - new_unpad[0], size[0] - new_unpad[1]
    if center:
        dw, dh = dw / 2, dh / 2
    if shape[::-1] != new_unpad:
        image = cv2.resize(image, new_unpad, interpolation=cv2.INTER_LINEAR)
    top, bottom = round(dh - 0.1) if center else 0, round(dh + 0.1)
    left, right = round(dw - 0.1) if center else 0, round(dw + 0.1)
    framed = cv2.copyMakeBorder(image, top, bottom, left, right, cv2.BORDER_CONSTANT, value=(114,) * 3)
    return framed.reshape(*size, -1)


@pytest.mark.parametrize(
    ("size", "scaleup", "center"),
    [((320, 320), True, True), ((96, 160), True, True), ((256, 200), False, False)],
)
def test_letterbox_equal_to_the_published_formula(size: tuple[int, int], scaleup: bool, center: bool) -> None:
    step = Letterbox(size=size, scaleup=scaleup, center=center)
    runs = {channels: compiled_step(step, channels) for channels in (1, 3)}
    for image, _ in pictures(210, seed=size[1], largest=500):
        expected = ultralytics_letterbox(image, size, scaleup, center)
        np.testing.assert_array_equal(step.reference(image), expected, str(image.shape))
        np.testing.assert_array_equal(runs[image.shape[2]](image=image), expected, str(image.shape))


def test_letterbox_of_every_size_has_the_frames_shape() -> None:
    """The margins alone, for thousands of sizes: float64 sizes agree with Python's."""
    step = Letterbox(size=(64, 96), kernel="nearest", fill=7)
    run = compiled_step(step, 1)
    random = np.random.default_rng(1)
    for height, width in random.integers(1, 400, (1500, 2)):
        image = np.zeros((height, width, 1), np.uint8)
        np.testing.assert_array_equal(run(image=image), step.reference(image), f"{height} x {width}")


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({}, "exactly one"),
        ({"size": 3, "longer": 4}, "exactly one"),
        ({"size": 3, "crop_fraction": 0.9}, "goes with `shorter`"),
        ({"shorter": 3, "crop_fraction": 0.0}, "> 0"),
        ({"longer": 3, "rounding": "nearest"}, "goes with `shorter`"),
        ({"size": 0}, "1 to 16384 pixels"),
        ({"size": [3, 99999]}, "1 to 16384 pixels"),
        ({"shorter": 0}, ">= 1"),
        ({"size": 3, "kernel": "lanczos"}, "lanczos"),
        ({"size": 3, "antialias": True}, "antialias"),
    ],
)
def test_parameters_that_make_no_sense(parameters: dict[str, Any], words: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=words):
        msgspec.convert(parameters, Resize)


@pytest.mark.parametrize(
    "spec", [("float32", ("h", "w", 3)), ("uint8", ("h", "w", 4)), ("uint8", ("h", "w"))]
)
@pytest.mark.parametrize("step", [Resize(size=3), Letterbox(size=3)])
def test_values_that_are_no_picture(step: PreStep, spec: tuple[str, tuple[int | str, ...]]) -> None:
    graph = Graph()
    x = graph.input(TensorSpec("x", *spec))
    with pytest.raises(UsageError, match="takes"):
        step.compile(graph, x)


@pytest.mark.parametrize("step", [Resize, Letterbox, CenterCrop, Pad])
def test_one_pixel_is_a_size(step: type[PreStep]) -> None:
    """A bounded int beside a tuple of fixed length makes msgspec 0.22 read and write stray memory."""
    for size in (1, [1, 1], [3, 16384]):
        read = msgspec.to_builtins(msgspec.convert({"size": size}, step))["size"]
        assert (list(read) if isinstance(size, list) else read) == size
    for wrong in (0, [0, 1], [1, 16385], [1], [1, 2, 3]):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert({"size": wrong}, step)
