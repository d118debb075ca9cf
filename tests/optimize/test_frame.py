"""The pass that gives a detector frames no larger than the photo in them needs."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from PIL import Image

from modelport.bundle.store import Bundle
from modelport.errors import BundleError
from modelport.importers.pack import pack
from modelport.optimize.calibration import Calibration, read_calibration
from modelport.optimize.candidate import START, Candidate, NotApplicable, apply, network_of, opened
from modelport.optimize.intervals import Interval
from modelport.optimize.measure import Figures
from modelport.optimize.outcome import Entry, Status
from modelport.optimize.passes.frame import Frame
from modelport.optimize.passes.heads import Heads
from modelport.optimize.passes.int8 import StaticInt8
from modelport.optimize.variants import write_version
from modelport.runtimes.machine import machine_class
from modelport.runtimes.pipeline import Pipeline
from modelport.tensors import Array
from modelport.verify.replay import verify

from ..yolo import yolov5

SIDE = 256
SIZES = [(60, 80), (80, 60), (20, 80), (64, 64), (37, 111), (200, 90), (90, 91), (8, 300)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("frame")
    (folder / "photos").mkdir()
    random = np.random.default_rng(1)
    for number, (height, width) in enumerate(SIZES):
        pixels = random.integers(0, 255, (height, width, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "photos" / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def start(place: Path) -> Bundle:
    photos = sorted((place / "photos").iterdir())[:2]
    model = yolov5(SIDE)
    return pack(model, out=place, name="boxes", recipe="yolov5", labels=["a", "b", "c"], golden=photos)


@pytest.fixture(scope="module")
def calibration(place: Path, start: Bundle) -> Calibration:
    return read_calibration(start, place / "photos")


@pytest.fixture(scope="module")
def heads(place: Path, start: Bundle, calibration: Calibration) -> Candidate:
    step = Heads(start.manifest.steps.post, channels_last=True)
    return apply(step, start, calibration, place / "work")


def framed(base: Bundle, calibration: Calibration, folder: Path) -> Candidate:
    steps = base.manifest.steps
    return apply(Frame(prepares=steps.pre, steps=steps.post), base, calibration, folder)


@pytest.fixture(scope="module")
def frame(place: Path, calibration: Calibration, heads: Candidate) -> Candidate:
    return framed(heads.bundle, calibration, place / "work")


def test_the_cells_of_the_photo_are_what_they_were(
    calibration: Calibration, heads: Candidate, frame: Candidate
) -> None:
    shapes = set()
    with opened(heads) as whole, opened(frame) as less:
        for item in calibration.items:
            prepared = [each.pre(each.decode(item)) for each in (whole, less)]
            (one, around), (other, beside) = ((each["images"], each["placement"]) for each in prepared)
            shapes.add(other.shape)
            top, left = (int(around[place] - beside[place]) for place in (3, 2))
            assert max(one.shape[1] - other.shape[1] - 2 * top, one.shape[2] - other.shape[2] - 2 * left) == 0
            raws = [each.net({"images": picture[None]}) for each, picture in ((whole, one), (less, other))]
            for name, cells in raws[1].items():
                stride = SIDE // raws[0][name].shape[1]
                rows, columns = (slice(at // stride, at // stride + n) for at, n in _corner(top, left, cells))
                np.testing.assert_allclose(cells, raws[0][name][:, rows, columns], rtol=1e-4, atol=1e-4)
    assert shapes == {(3, 192, 256), (3, 256, 192), (3, 64, 256), (3, 256, 256), (3, 128, 256), (3, 256, 128)}


def _corner(top: int, left: int, cells: Array) -> list[tuple[int, int]]:
    return [(top, cells.shape[1]), (left, cells.shape[2])]


def test_boxes_are_in_the_photo_s_own_pixels(
    calibration: Calibration, heads: Candidate, frame: Candidate
) -> None:
    found = 0
    with opened(heads) as whole, opened(frame) as less:
        answers = [
            each.answer_many([each.decode(item) for item in calibration.items], {"score_threshold": 0.55})
            for each in (whole, less)
        ]
    for before, after in zip(*answers, strict=True):
        for box, score in zip(after["boxes"], after["scores"], strict=True):
            near = np.abs(before["boxes"] - box).max(axis=1) < 0.01
            found += bool(np.any(near & (np.abs(before["scores"] - score) < 1e-3)))
    # Boxes of the grey border may have hidden some of them before.
    assert found > 0.9 * sum(int(after["count"]) for after in answers[1]) > 20


def test_other_passes_work_on_it(place: Path, calibration: Calibration, frame: Candidate) -> None:
    candidate = apply(StaticInt8(), frame.bundle, calibration, place / "work")
    with opened(candidate) as eight, opened(frame) as float32:
        for item in calibration.items:
            one, other = (
                each.net({"images": each.pre(each.decode(item))["images"][None]}) for each in (eight, float32)
            )
            for name, cells in other.items():
                assert one[name].shape == cells.shape
                assert np.abs(one[name] - cells).mean() < 0.2 * np.abs(cells).mean()


def test_it_is_a_variant_with_a_pre_of_its_own(
    tmp_path: Path, start: Bundle, calibration: Calibration, frame: Candidate
) -> None:
    entry = Entry(id=frame.id, title=frame.title, status="chosen", reason="")
    made = write_version(start, tmp_path / "2", [entry], {frame.id: frame, START: frame}, frame.id)
    variant = next(each for each in made.manifest.variants if each.name == "frame")
    assert (variant.pre, variant.post) == ("pre.frame.onnx", "post.frame.onnx")
    assert variant.prepares[0]["letterbox"]["multiple"] == 64
    assert verify(made).ok
    with opened(frame) as alone, Pipeline.open(made) as pipeline:
        assert pipeline.variant == "frame"
        for item in calibration.items:
            got, want = (each.answer(each.decode(item)) for each in (pipeline, alone))
            np.testing.assert_array_equal(got["boxes"], want["boxes"])
        # What asks for the network alone is given the packed one, in its own size.
        raw = pipeline.packed({"images": np.zeros((1, 3, SIDE, SIDE), np.float32)})
        assert set(raw) == {spec.name for spec in start.manifest.graphs.net.signature.outputs}
    with pytest.raises(BundleError, match=r"'pre\.frame\.onnx' is used but not among"):
        made.derive(tmp_path / "3", {str(variant.pre): None}, version="3")


def test_other_machines_have_the_fastest_in_floats(
    tmp_path: Path, start: Bundle, heads: Candidate, frame: Candidate
) -> None:
    def entry(name: str, status: Status, share: float) -> Entry:
        figures = Figures(
            p50_ms=share,
            p95_ms=share,
            ratio=Interval(share, share - 0.01, share + 0.01),
            throughput=1 / share,
            batch=1,
            peak_bytes=1,
            start_seconds=1,
            size_bytes=1,
        )
        return Entry(id=name, title=name, status=status, reason="", figures=figures)

    eight = msgspec.structs.replace(heads, id="static-int8", machine_bound=False)
    made = {each.id: each for each in (heads, frame, eight)}
    found = [
        entry("static-int8", "chosen", 0.5),
        entry("heads-last", "dominated", 0.8),
        entry("frame", "tie", 0.6),
    ]
    new = write_version(start, tmp_path / "2", found, made, "static-int8")
    chosen = [(each.name, each.machine) for each in new.manifest.variants if each.chosen]
    assert chosen == [("static-int8", machine_class()), ("frame", ""), ("heads", "")]
    slower = [found[0], entry("frame", "tie", 1.2)]
    new = write_version(start, tmp_path / "3", slower, made, "static-int8")
    assert "frame" not in [each.name for each in new.manifest.variants]


def test_networks_of_one_size_are_left(
    tmp_path: Path, place: Path, start: Bundle, calibration: Calibration, heads: Candidate, frame: Candidate
) -> None:
    with pytest.raises(NotApplicable, match="decoded in the network"):
        framed(start, calibration, tmp_path)
    with pytest.raises(NotApplicable, match="not put into a frame of one size"):
        framed(frame.bundle, calibration, tmp_path)
    network = network_of(heads.bundle)
    name = network.graph.input[0].name
    network.graph.initializer.append(
        numpy_helper.from_array(np.zeros((1, 3, SIDE, SIDE), np.float32), "fixed")
    )
    for node in network.graph.node:
        node.input[:] = ["shifted" if each == name else each for each in node.input]
    network.graph.node.insert(0, helper.make_node("Add", [name, "fixed"], ["shifted"]))
    steps = heads.bundle.manifest.steps
    with pytest.raises(NotApplicable, match="it takes pictures of no other size"):
        Frame(prepares=steps.pre, steps=steps.post).apply(network, calibration)
    small = pack(yolov5(64), out=tmp_path, name="small", recipe="yolov5", labels=["a", "b", "c"])
    own = read_calibration(small, place / "photos")
    cut = apply(Heads(small.manifest.steps.post, channels_last=True), small, own, tmp_path / "work")
    with pytest.raises(NotApplicable, match="hardly larger than its cells"):
        framed(cut.bundle, own, tmp_path / "work")


def test_what_is_enlarged_by_sizes_is_enlarged_by_factors(calibration: Calibration, heads: Candidate) -> None:
    """As PyTorch exports `Upsample`: sizes computed from shapes, with the last two written down."""
    network = network_of(heads.bundle)
    before = onnx.ModelProto.FromString(network.SerializeToString())
    coarse = min(network.graph.output, key=lambda value: value.type.tensor_type.shape.dim[1].dim_value)
    rows = coarse.type.tensor_type.shape.dim[1].dim_value
    planes = coarse.type.tensor_type.shape.dim[3].dim_value
    for node in network.graph.node:
        node.output[:] = ["small" if each == coarse.name else each for each in node.output]
    for name, values in {"one": [0], "two": [2], "end": [rows, rows], "perm": []}.items():
        network.graph.initializer.append(numpy_helper.from_array(np.array(values, np.int64), name))
    network.graph.node.extend(
        [
            helper.make_node("Transpose", ["small"], ["planes"], perm=[0, 3, 1, 2]),
            helper.make_node("Shape", ["planes"], ["shape"]),
            helper.make_node("Slice", ["shape", "one", "two"], ["front"]),
            helper.make_node("Concat", ["front", "end"], ["sizes"], axis=0),
            helper.make_node("Resize", ["planes", "", "", "sizes"], ["resized"], mode="nearest"),
            helper.make_node("Transpose", ["resized"], [coarse.name], perm=[0, 2, 3, 1]),
        ]
    )
    assert planes == 24
    steps = heads.bundle.manifest.steps
    made = Frame(prepares=steps.pre, steps=steps.post).apply(network, calibration)
    kinds = [node.op_type for node in made.network.graph.node]
    assert "Resize" in kinds and "Shape" not in kinds
    assert made.post is not None and msgspec.to_builtins(made.post[0])["strides"] == (8, 16, 32)
    assert len(before.graph.node) < len(network.graph.node)


def test_items_are_prepared_as_the_network_takes_them(
    start: Bundle, calibration: Calibration, frame: Candidate
) -> None:
    own = calibration.of(frame.bundle)
    shapes = [item["images"].shape for item in own.prepared]
    assert shapes[0] == (3, 192, 256) and len(set(shapes)) == 6
    assert own.of(frame.bundle) is own and own.items is calibration.items
    assert {item["images"].shape for item in own.of(start).prepared} == {(3, SIDE, SIDE)}
    assert calibration.of(start) is calibration
