"""Detectors that are packed with a form that ends where their decoding begins."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from onnx import helper

from modelport.bundle.store import Bundle, write_bundle
from modelport.errors import BundleError
from modelport.importers.decoding import OtherDecoding, undecoded
from modelport.importers.ending import NAME, POST
from modelport.importers.pack import pack
from modelport.runtimes.onnxruntime import OnnxRuntime
from modelport.runtimes.outputs import ending_in
from modelport.runtimes.pipeline import Pipeline
from modelport.steps.grids import YoloV5Raw
from modelport.steps.heads import YoloV5, YoloV8
from modelport.verify.replay import verify

from ..yolo import ANCHORS, yolov5

RANDOM = np.random.default_rng(3)
ITEMS = [{"images": RANDOM.random((3, 64, 64), np.float32)} for _ in range(2)]


def packed(folder: Path, model: onnx.ModelProto, recipe: str = "yolov5") -> Bundle:
    return pack(model, out=folder, name="boxes", recipe=recipe, labels=["a", "b", "c"])


@pytest.mark.parametrize(("turned", "head"), [(False, YoloV5()), (True, YoloV8())], ids=["v5", "v8"])
def test_the_decoding_is_found_by_its_numbers(turned: bool, head: YoloV5 | YoloV8) -> None:
    found = undecoded(yolov5(turned=turned), [head], ITEMS)
    assert [spec.shape for spec in found.outputs] == [("batch", 24, n, n) for n in (8, 4, 2)]
    (step,) = found.steps
    assert isinstance(step, YoloV5Raw)
    np.testing.assert_allclose(step.anchors, ANCHORS, rtol=1e-4)
    assert step.size == 64 and step.score_threshold == head.score_threshold


def test_another_decoding_is_left_as_it_is(tmp_path: Path) -> None:
    other = yolov5(power=1.5)
    with pytest.raises(OtherDecoding, match="another way"):
        undecoded(other, [YoloV5()], ITEMS)
    with pytest.raises(OtherDecoding, match="not decoded as YOLOv5's"):
        undecoded(yolov5(), [YoloV8(extra=32)], ITEMS)
    assert packed(tmp_path, other).manifest.variants == ()


def test_a_detector_gets_the_form_and_the_answers_stay(tmp_path: Path) -> None:
    told: list[str] = []
    model = yolov5(seed=1)
    bundle = pack(
        model, out=tmp_path, name="boxes", recipe="yolov5", labels=["a", "b", "c"], progress=told.append
    )
    (variant,) = bundle.manifest.variants
    assert (variant.name, variant.file, variant.post, variant.chosen) == (NAME, "net.onnx", POST, True)
    assert any("decode boxes" in line for line in told)
    assert verify(bundle).ok
    picture = RANDOM.integers(0, 255, (50, 70, 3), np.uint8)
    with Pipeline.open(bundle) as early, Pipeline.open(bundle, variant="") as whole:
        assert (early.variant, whole.variant) == (NAME, "")
        for options in (None, {"score_threshold": 0.05}, {"multi_label": True, "score_threshold": 0.4}):
            got, want = (each.answer({"image": picture}, options) for each in (early, whole))
            assert want["count"] > 0
            np.testing.assert_array_equal(got["classes"], want["classes"])
            np.testing.assert_allclose(got["scores"], want["scores"], rtol=1e-5)
            np.testing.assert_allclose(got["boxes"], want["boxes"], rtol=1e-4, atol=1e-2)


def test_the_network_s_own_tensors_are_still_there(tmp_path: Path) -> None:
    bundle = packed(tmp_path, yolov5())
    batch = {"images": np.stack([item["images"] for item in ITEMS])}
    with Pipeline.open(bundle) as early, Pipeline.open(bundle, variant="") as whole:
        assert set(early.net(batch)) == set(bundle.manifest.variants[0].outputs)
        np.testing.assert_array_equal(early.packed(batch)["output0"], whole.net(batch)["output0"])


def test_a_wrong_form_does_not_verify(tmp_path: Path) -> None:
    """One with larger anchors: every box is another one."""
    bundle = packed(tmp_path / "1", yolov5())
    files = {name: bundle.read(name) for name in bundle.manifest.files}
    (variant,) = bundle.manifest.variants
    model = onnx.load_model_from_string(bundle.read(POST))
    for value in model.graph.initializer:
        array = onnx.numpy_helper.to_array(value)
        if array.dtype == np.float32 and array.shape == (3, 2):
            value.CopyFrom(onnx.numpy_helper.from_array(array * np.float32(1.5), value.name))
    files[POST] = model.SerializeToString()
    manifest = msgspec.structs.replace(bundle.manifest, version="2", variants=(variant,))
    report = verify(write_bundle(tmp_path / "2", manifest, files))
    assert not report.ok and "variant 'heads'" in report.reason


def test_values_that_are_not_there_are_named(tmp_path: Path) -> None:
    bundle = packed(tmp_path, yolov5())
    (variant,) = bundle.manifest.variants
    wrong = msgspec.structs.replace(variant, outputs=("nothing", *variant.outputs[1:]))
    derived = bundle.derive(tmp_path / "2", {}, version="2", variants=(wrong,))
    with pytest.raises(BundleError, match="no value 'nothing'"):
        Pipeline.open(derived)


def test_a_network_that_ends_earlier_keeps_what_it_needs() -> None:
    model = yolov5()
    convolutions = [node.output[0] for node in model.graph.node if node.op_type == "Conv"]
    cut = ending_in(model, convolutions[:1])
    assert [node.op_type for node in cut.graph.node] == ["Conv"]
    assert len(cut.graph.initializer) == 2
    batch = {"images": ITEMS[0]["images"][None]}
    got = OnnxRuntime().open(cut.SerializeToString()).run(batch)
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    shown.graph.output.append(helper.make_tensor_value_info(convolutions[0], 1, None))
    want = OnnxRuntime().open(shown.SerializeToString()).run(batch)
    np.testing.assert_array_equal(got[convolutions[0]], want[convolutions[0]])
