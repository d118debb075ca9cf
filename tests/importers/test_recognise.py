"""Detectors are recognised by their outputs and the file's own words; what looks alike is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import modelport
from modelport.errors import Unsupported, UsageError
from modelport.importers.recognise import Recognised, recognise
from modelport.tensors import Array, Signature, Tensors, TensorSpec
from modelport.verify.replay import verify

from ..boxes import LABELS, write_detector

NAMES = str(dict(enumerate(["goose", "duck", "swan"])))
ULTRALYTICS = {"description": "Ultralytics YOLO11n", "task": "detect", "stride": "32", "imgsz": "[320, 320]"}
OPEN = ("batch", 3, "height", "width")


def network(*outputs: tuple[int | str, ...], item: tuple[int | str, ...] = (3, 640, 640)) -> Signature:
    return Signature(
        (TensorSpec("images", "float32", ("batch", *item)),),
        tuple(TensorSpec(f"out{index}", "float32", ("batch", *shape)) for index, shape in enumerate(outputs)),
    )


def found(signature: Signature, words: dict[str, str] | None = None, boxes: Any = None) -> Recognised | None:
    def probe() -> Any:
        if boxes is None:
            raise Unsupported("this network is not here")

        def run(batch: Tensors) -> dict[str, Array]:
            assert batch["images"].shape[:2] == (1, 3)
            return {"out0": boxes, "out1": np.zeros((1, len(boxes[0]), 2), np.float32)}

        return run

    return recognise(signature, words or {}, probe)


@pytest.mark.parametrize(
    ("signature", "words", "recipe"),
    [
        (network((25200, 85)), {}, "yolov5"),
        (network((25200, 6)), {}, "yolov5"),
        (network((2016, 7), item=(3, 128, 256)), {}, "yolov5"),
        (network((102000, 85), item=(3, 1280, 1280)), {}, "yolov5"),
        (network((25200, 85), (3, 80, 80, 85), (3, 40, 40, 85), (3, 20, 20, 85)), {}, "yolov5"),
        (network((84, 8400)), {}, "yolov8"),
        (network((5, 8400)), {}, "yolov8"),
        (network((84, 25200)), {}, "yolov8"),
        (network((84, 33600), item=(3, 640, 640)), {}, None),
        (network((84, 34000)), {}, "yolov8"),
        (network((84, 2100), item=(320, 320, 3)), {}, "yolov8"),
        (network((300, 6)), {}, "yolov10"),
        (network((3, 80, 80, 85), (3, 40, 40, 85), (3, 20, 20, 85)), {}, "yolov5-raw"),
        (network((2125, 112), item=(3, 320, 320)), {}, "nanodet"),
        (network((4420, 2), (4420, 4), item=(3, 240, 320)), {}, "ssd"),
        (network((100, 92), (100, 4), item=(3, "h", "w")), {}, "detr"),
        (network((300, 80), (300, 4)), {}, "rtdetr"),
        (network((7, "places"), item=(3, "h", "w")), {**ULTRALYTICS, "names": NAMES}, "yolov8"),
        (network(("places", 8), item=(3, "h", "w")), {"names": NAMES}, "yolov5"),
        (network((1000,), item=(3, 224, 224)), {}, None),
        (network((21, 640, 640)), {}, None),
        (network((84, 8400)), {"task": "classify"}, None),
        (network((25200, 85), item=(25200,)), {}, None),
    ],
    ids=str,
)
def test_by_shapes_and_words(signature: Signature, words: dict[str, str], recipe: str | None) -> None:
    got = found(signature, words)
    assert (got and got.recipe) == recipe
    if got is not None:
        assert got.why


def test_what_the_file_says_becomes_settings() -> None:
    words = {**ULTRALYTICS, "names": NAMES}
    got = found(network((7, "places"), item=(3, "h", "w")), words)
    assert got is not None
    assert got.settings == {"size": 320}
    got = found(network((7, "places"), item=(3, "h", "w")), words | {"imgsz": "[256, 320]"})
    assert got is not None
    assert got.settings == {"size": (256, 320)}
    got = found(network((39, 8400), (32, 160, 160)), words | {"task": "segment"})
    assert got is not None
    assert (got.recipe, got.settings) == ("yolov8", {"extra": 32})
    got = found(network((56, 8400)), words | {"task": "pose", "kpt_shape": "[17, 3]"})
    assert got is not None
    assert got.settings == {"extra": 51}


def test_sizes_that_are_open_are_looked_up_on_a_picture() -> None:
    """As Ultralytics exports them with `dynamic=True`."""
    opened = network(("width", "anchors"), item=(3, "h", "w"))
    for shape, recipe in (((1, 7, 2100), "yolov8"), ((1, 6300, 8), "yolov5"), ((1, 300, 6), "yolov10")):
        got = found(opened, {**ULTRALYTICS, "names": NAMES}, boxes=np.zeros(shape, np.float32))
        assert got is not None
        assert (got.recipe, got.settings) == (recipe, {"size": 320})
    assert found(opened, ULTRALYTICS, boxes=np.zeros((1, 50, 768), np.float32)) is None
    assert found(opened, ULTRALYTICS) is None


@pytest.mark.parametrize("word", ["imgsz", "names", "kpt_shape", "task"])
@pytest.mark.parametrize(
    "text", ["", "[", "{", "()", "[1]", "[None, 2]", "9" * 5000, "__import__('os')", "[[[["]
)
def test_words_that_make_no_sense_are_passed_over(word: str, text: str) -> None:
    for signature in (network((84, 8400)), network((84, "n"), item=(3, "h", "w"))):
        got = found(signature, {**ULTRALYTICS, "task": "pose", "names": NAMES} | {word: text})
        assert got is None or isinstance(got, Recognised)


@pytest.mark.parametrize("places", [4420, "n"])
def test_boxes_of_a_picture_tell_whether_ultraface_decodes_them(places: int | str) -> None:
    signature = network((places, 4), (places, 2), item=(3, 240, 320))
    corners = np.tile(np.array([0.1, 0.2, 0.3, 0.5], np.float32), (1, 4420, 1))
    raw = np.random.default_rng(0).normal(0, 1, corners.shape).astype(np.float32)
    for boxes, settings in ((corners, {}), (raw, {"priors": "ultraface-320"})):
        answer = found(signature, boxes=boxes)
        assert answer is not None and answer.recipe == "ssd" and answer.labels == ("face",)
        assert answer.settings == settings


def test_boxes_of_a_picture_tell_yolox_from_yolov6() -> None:
    raw = np.random.default_rng(0).uniform(-2, 2, (1, 8400, 85)).astype(np.float32)
    got = found(network((8400, 85)), boxes=raw)
    assert got is not None
    assert got.recipe == "yolox"
    pixels = raw.copy()
    pixels[..., :2] = 320 + 100 * raw[..., :2]
    got = found(network((8400, 85)), boxes=pixels)
    assert got is not None
    assert not got.recipe
    assert set(got.choices) == {"yolox --set decoded=true", "yolov5"}
    pixels[..., 4] = 1
    got = found(network((8400, 85)), boxes=pixels)
    assert got is not None
    assert got.recipe == "yolov5"
    assert "YOLOv6" in got.why


@pytest.mark.parametrize(
    ("signature", "words", "choices"),
    [
        (network(("n", 85), item=(3, "h", "w")), {}, {"yolov5", "yolox", "nanodet"}),
        (network((8732, 21), (8732, 4), item=(3, 300, 300)), {}, {"ssd", "detr", "rtdetr"}),
        (network((84, 8400)), {"task": "obb"}, {""}),
    ],
    ids=["no size", "boxes and scores", "turned boxes"],
)
def test_what_looks_alike_is_a_question(
    signature: Signature, words: dict[str, str], choices: set[str]
) -> None:
    got = found(signature, words)
    assert got is not None
    assert not got.recipe
    assert set(got.choices) == choices


# -- through pack ----------------------------------------------------------------------------------


def constant_detector(path: Path, shape: tuple[int, ...], words: dict[str, str], side: int = 64) -> Path:
    """A network of the right form that says the same of every picture but for a breath of its brightness."""
    values = np.random.default_rng(1).uniform(0, 1, (1, *shape)).astype(np.float32)
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], axes=[1, 2, 3], keepdims=1),
        helper.make_node("Mul", ["mean", "little"], ["breath"]),
        helper.make_node("Squeeze", ["breath", "last"], ["flat"]),
        helper.make_node("Add", ["flat", "values"], ["output0"]),
    ]
    graph = helper.make_graph(
        nodes,
        "constant",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, side, side])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, [1, *shape])],
        [
            helper.make_tensor("little", TensorProto.FLOAT, [1], [1e-3]),
            helper.make_tensor("last", TensorProto.INT64, [1], [3]),
            helper.make_tensor("values", TensorProto.FLOAT, list(values.shape), values.ravel()),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, words)
    onnx.save(model, path)
    return path


def test_a_detector_is_packed_without_a_word(tmp_path: Path) -> None:
    notes: list[str] = []
    words = {**ULTRALYTICS, "names": NAMES, "imgsz": "[64, 64]"}
    source = constant_detector(tmp_path / "birds.onnx", (7, 84), words)
    bundle = modelport.pack(source, out=tmp_path / "repo", progress=notes.append)
    manifest = bundle.manifest
    assert manifest.task == "object-detection"
    assert bundle.labels() == ("goose", "duck", "swan")
    assert [option.name for option in manifest.options] == [
        "score_threshold",
        "multi_label",
        "iou_threshold",
        "class_agnostic",
    ]
    assert manifest.graphs.net.batch
    assert any("recognised: output0: 84 places at strides 8, 16, 32" in note for note in notes)
    assert manifest.golden is not None
    assert manifest.golden.generated
    report = verify(bundle)
    assert report.ok, report.reason


def test_a_question_names_the_recipes(tmp_path: Path) -> None:
    source = constant_detector(tmp_path / "net.onnx", (84, 8), {})
    # Its boxes are small numbers, as those of YOLOX are.
    bundle = modelport.pack(source, out=tmp_path / "repo")
    assert next(iter(bundle.manifest.steps.post[0])) == "yolox"
    rotated = constant_detector(tmp_path / "obb.onnx", (7, 84), {"task": "obb"})
    with pytest.raises(UsageError, match="its boxes are rotated"):
        modelport.pack(rotated, out=tmp_path / "repo")
    queries = constant_detector(tmp_path / "rt.onnx", (300, 6), {"task": "detect", "head": "RTDETRDecoder"})
    with pytest.raises(UsageError, match="RT-DETR, whose form of boxes"):
        modelport.pack(queries, out=tmp_path / "repo")
    model = onnx.load(source)
    (values,) = (tensor for tensor in model.graph.initializer if tensor.name == "values")
    pixels = onnx.numpy_helper.to_array(values) + np.array([40, 40, 0, 0, 0, 0, 0, 0], np.float32)
    values.CopyFrom(onnx.numpy_helper.from_array(pixels, "values"))
    with pytest.raises(UsageError, match="the file does not say") as caught:
        modelport.pack(model, out=tmp_path / "repo", name="open")
    assert "--recipe yolov5 (anything that takes RGB" in str(caught.value.hint)
    assert "--recipe yolox --set decoded=true (" in str(caught.value.hint)
    model = onnx.load(write_detector(tmp_path / "boxes.onnx"))
    assert modelport.pack(model, out=tmp_path / "repo", name="boxes").labels() == tuple(LABELS)
    del model.metadata_props[:]
    with pytest.raises(UsageError, match="takes a picture by the look of it"):
        modelport.pack(model, out=tmp_path / "repo", name="unnamed", labels=LABELS)


def test_a_recipe_that_is_named_is_taken(tmp_path: Path) -> None:
    source = constant_detector(tmp_path / "net.onnx", (84, 8), {})
    bundle = modelport.pack(source, out=tmp_path / "repo", recipe="yolov5", settings={"max_detections": 20})
    assert next(iter(bundle.manifest.steps.post[0])) == "yolov5"
    assert bundle.manifest.outputs[0].shape == ("batch", 20, 4)


def test_golden_photos_in_which_nothing_is_found_raise_a_doubt(tmp_path: Path) -> None:
    notes: list[str] = []
    source = constant_detector(tmp_path / "net.onnx", (84, 8), {})
    modelport.pack(
        source,
        out=tmp_path / "repo",
        recipe="yolov5",
        settings={"score_threshold": 1.0},
        progress=notes.append,
    )
    assert any("nothing was found in the 4 made-up pictures" in note for note in notes)


def told(source: Path, recipe: str | Path, out: Path) -> list[str]:
    """The warnings of packing with a recipe that is named."""
    notes: list[str] = []
    modelport.pack(source, out=out, name="n", recipe=recipe, progress=notes.append)
    return [note for note in notes if note.startswith("warning: ")]


def test_a_named_recipe_with_another_head_is_warned_of(tmp_path: Path) -> None:
    source = constant_detector(tmp_path / "net.onnx", (252, 8), {})
    (warning,) = told(source, "yolov10", tmp_path / "a")
    assert "recognised as yolov5" in warning
    assert "recipe 'yolov10' is taken" in warning
    assert told(source, "yolov5", tmp_path / "b") == []
    assert told(source, "raw", tmp_path / "c") == []
    shipped = Path(modelport.__file__).parent / "steps" / "recipes"
    own = tmp_path / "birds.toml"
    own.write_bytes((shipped / "yolov5.toml").read_bytes())
    assert told(source, own, tmp_path / "d") == []
    own.write_bytes((shipped / "yolov10.toml").read_bytes())
    assert len(told(source, own, tmp_path / "e")) == 1


@pytest.mark.parametrize(
    ("shape", "recipe", "said", "hint"),
    [
        ((5376, 6), "yolov8", r"5376 numbers at each of 6 places: the axes look swapped", "--recipe yolov5"),
        ((6, 1344), "yolov5", r"1344 numbers at each of 6 places: the axes look swapped", "--recipe yolov8"),
        ((6, 1344), "yolov10", "the axes look swapped", "--recipe yolov8"),
        ((4032, 6), "imagenet", "'imagenet' is for classifiers, and the network is a detector", "yolov5"),
        ((5000, 6), "imagenet", r"a classifier gives \[batch, classes\]", "--recipe yolov5, yolov8"),
        ((4032, 6), "detr", "scored_boxes needs boxes", "--set boxes=NAME --set scores=NAME"),
        ((1000,), "yolov5", "this network has no detector output", "--recipe imagenet"),
    ],
)
def test_a_head_that_makes_no_sense_is_refused(
    tmp_path: Path, shape: tuple[int, ...], recipe: str, said: str, hint: str
) -> None:
    source = constant_detector(tmp_path / "net.onnx", shape if len(shape) > 1 else (*shape, 1, 1), {}, 256)
    with pytest.raises(UsageError, match=said) as refusal:
        modelport.pack(source, out=tmp_path / "repo", recipe=recipe)
    assert hint in str(refusal.value.hint)
    assert "placement" not in str(refusal.value)
    assert not (tmp_path / "repo").exists()
