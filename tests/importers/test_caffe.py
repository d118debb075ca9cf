"""Caffe networks: older forms, detectors, wrong files, and real detectors of faces."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import modelport
from modelport.cli.main import run
from modelport.errors import InputError, NotFound, Unsupported, UsageError
from modelport.importers.caffe import CaffeImporter, is_description, is_weights
from modelport.importers.source import SourceOptions, find_importer
from modelport.isolation.child.caffemodel import fields, read_mean, read_weights
from modelport.isolation.child.converter import Refused
from modelport.isolation.child.prototxt import parse, written
from modelport.isolation.worker import Worker
from modelport.runtimes.pipeline import Pipeline
from modelport.tensors import Array

from .caffe_files import CONV, Blobs, blob, caffemodel, double_blob, field, layer, net, numbers, pair, varint
from .opencv4 import both, converter, opencv4


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with converter("caffe") as found:
        yield found


def question(path: Path, **more: Any) -> dict[str, Any]:
    return {"prototxt": str(path), "caffemodel": str(path.with_suffix(".caffemodel")), **more}


OLD = """
name: "old"
input: "data" input_dim: 1 input_dim: 3 input_dim: 8 input_dim: 8
layers { bottom: "data" top: "c" name: "c" type: CONVOLUTION blobs_lr: 1
         convolution_param { num_output: 4 kernel_size: 3 } }
layers { bottom: "c" top: "c" name: "r" type: RELU }
layers { bottom: "c" top: "i" name: "i" type: INNER_PRODUCT inner_product_param { num_output: 5 } }
layers { bottom: "i" top: "prob" name: "prob" type: SOFTMAX }
"""


def test_layers_in_the_form_of_2014_are_read(worker: Worker, tmp_path: Path) -> None:
    blobs = {"c": [numbers(4, 3, 3, 3), numbers(4)], "i": [numbers(5, 144), numbers(5)]}
    got, want, _ = both(worker, question(pair(tmp_path, OLD, blobs, old=True)))
    np.testing.assert_allclose(got["prob"], want["prob"], rtol=1e-4, atol=1e-6)


PRIORS = "min_size: 8 max_size: 14 aspect_ratio: 2 variance: 0.1 variance: 0.1 variance: 0.2 variance: 0.2"


def ssd(code: str = "CENTER_SIZE") -> tuple[str, Blobs]:
    """A detector of two classes and no object: 4 boxes at each of 4 x 4 places."""
    conv = "convolution_param {{ num_output: {} kernel_size: 1 }}"
    heads = ""
    for name, count in (("loc", 16), ("conf", 12)):
        heads += layer("Convolution", conv.format(count), "f", f"{name}.c", f"{name}.c")
        heads += layer(
            "Permute",
            "permute_param { order: 0 order: 2 order: 3 order: 1 }",
            f"{name}.c",
            f"{name}.p",
            f"{name}.p",
        )
        heads += layer("Flatten", "", f"{name}.p", f"{name}.f", f"{name}.f")
    text = net(
        layer(
            "Convolution", "convolution_param { num_output: 4 kernel_size: 8 stride: 8 }", tops="f", name="f"
        ),
        heads,
        layer("PriorBox", f"prior_box_param {{ {PRIORS} clip: true }}", "f data", "priors", "priors"),
        layer("Reshape", "reshape_param { shape { dim: 0 dim: -1 dim: 3 } }", "conf.f", "conf.r", "conf.r"),
        layer("Softmax", "softmax_param { axis: 2 }", "conf.r", "conf.s", "conf.s"),
        layer("Flatten", "", "conf.s", "conf", "conf"),
        layer(
            "DetectionOutput",
            f"detection_output_param {{ num_classes: 3 code_type: {code} nms_param {{ nms_threshold: 0.3 }} "
            "share_location: true background_label_id: 0 keep_top_k: 50 confidence_threshold: 0.4 }",
            "loc.f conf priors",
            "found",
            "found",
        ),
        shape=(1, 3, 32, 32),
    )
    blobs = {
        "f": [numbers(4, 3, 8, 8) / 4, numbers(4)],
        "loc.c": [numbers(16, 4, 1, 1), numbers(16)],
        "conf.c": [numbers(12, 4, 1, 1) * 4, numbers(12)],
    }
    return text, blobs


@pytest.mark.parametrize("code", ["CENTER_SIZE", "CORNER"])
def test_the_boxes_of_ssd_are_decoded(worker: Worker, tmp_path: Path, code: str) -> None:
    got, want, about = both(worker, question(pair(tmp_path, *ssd(code))))
    assert got["boxes"].shape == (2, 64, 4) and got["scores"].shape == (2, 64, 3)
    for name in ("boxes", "scores"):
        np.testing.assert_allclose(got[name], want[name], rtol=1e-4, atol=1e-5)
    assert "DetectionOutput" in about["notes"][0]


def test_a_detector_packs_and_finds_what_opencv_chooses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opencv_detections: Any
) -> None:
    opencv4(monkeypatch)
    path = pair(tmp_path, *ssd())
    settings = {"mean": 127.5, "std": 127.5, "channels": "bgr", "iou_threshold": 0.3, "score_threshold": 0.4}
    settings["multi_label"] = True
    bundle = modelport.pack(path, out=tmp_path / "out", recipe="ssd", settings=settings)
    picture = np.random.default_rng(5).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    with Pipeline.open(bundle) as pipeline:
        answer = pipeline.answer({"image": picture})
    seen = ((picture[..., ::-1].astype(np.float32) - 127.5) / 127.5).transpose(2, 0, 1)[None]
    want = opencv_detections(path, seen)
    count = int(answer["count"])
    assert count == len(want) > 3
    np.testing.assert_allclose(answer["scores"][:count], want[:, 2], rtol=1e-4)
    np.testing.assert_allclose(answer["boxes"][:count], np.clip(want[:, 3:] * 32, 0, 32), atol=1e-3)


@pytest.fixture
def opencv_detections(tmp_path: Path) -> Any:
    """OpenCV's own `DetectionOutput`: [n, 7], computed in its environment."""
    import subprocess

    from modelport.isolation import environments

    code = (
        "import sys, cv2, numpy\n"
        "net = cv2.dnn.readNetFromCaffe(sys.argv[1], sys.argv[2])\n"
        "net.setInput(numpy.load(sys.argv[3]))\n"
        "numpy.save(sys.argv[4], net.forward().reshape(-1, 7))\n"
    )

    def detect(path: Path, seen: Array) -> Array:
        python = environments.python_of(environments.table("opencv4"))
        np.save(tmp_path / "seen.npy", seen)
        files = [path, path.with_suffix(".caffemodel"), tmp_path / "seen.npy", tmp_path / "found.npy"]
        subprocess.run([str(python or "python"), "-c", code, *map(str, files)], check=True)
        found = np.load(tmp_path / "found.npy")
        found = found[found[:, 2] > 0]
        return np.asarray(found[np.argsort(-found[:, 2], kind="stable")])

    return detect


def test_what_is_not_converted_is_named_all_at_once(worker: Worker, tmp_path: Path) -> None:
    text = net(layer("ROIPooling", name="roi"), layer("Proposal", name="rpn"), layer("Python", name="mine"))
    with pytest.raises(
        Unsupported, match=r"'roi' \(ROIPooling\), 'rpn' \(Proposal\), 'mine' \(Python\)"
    ) as told:
        worker.call({"do": "open", **question(pair(tmp_path, text, {"one": [[1.0]]}))})
    assert "Convolution" in (told.value.hint or "")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (layer("Convolution", CONV, bottoms="other"), "takes 'other', which no layer above makes"),
        (
            layer("Convolution", CONV.replace("4", "8")),
            "takes 8 x 6 x 3 x 3 weights, the caffemodel holds 4 x 6",
        ),
        (
            layer("Convolution", CONV, name="two"),
            "none of the 1 layers with weights .* is named in the caffemodel",
        ),
        (layer("Convolution", "convolution_param { num_output: 4 }"), "does not state its kernel_size"),
        (
            layer("Convolution", CONV).replace("stride: 2", "stride: two"),
            "stride is 'two' where a whole number",
        ),
        (
            layer("Reshape", "reshape_param { shape { dim: 0 dim: 7 } }") + layer("Convolution", CONV),
            "cannot be",
        ),
        (layer("Convolution", CONV)[:-30], "may be cut short"),
        (layer("Concat", bottoms="data data") + "layer { name: 'x", "is no part of such a text"),
    ],
)
def test_a_description_that_cannot_be_right_is_refused(
    worker: Worker, tmp_path: Path, text: str, reason: str
) -> None:
    blobs = {"one": [numbers(4, 6, 3, 3), numbers(4)]}
    with pytest.raises(InputError, match=reason):
        worker.call({"do": "open", **question(pair(tmp_path, net(text), blobs))})


def test_a_description_for_training_is_refused(worker: Worker, tmp_path: Path) -> None:
    data = 'layer { name: "d" type: "Data" top: "data" include { phase: TEST } }\n'
    path = pair(tmp_path, data + layer("Convolution", CONV), {"one": [[1.0]]})
    with pytest.raises(Unsupported, match=r"for training.*'d' \(Data\)"):
        worker.call({"do": "open", **question(path)})


def test_another_size_may_be_asked_for(worker: Worker, tmp_path: Path) -> None:
    path = pair(tmp_path, net(layer("Convolution", CONV)), {"one": [numbers(4, 6, 3, 3), numbers(4)]})
    given = [{"name": "data", "dtype": "float32", "shape": [1, 6, 21, 33]}]
    got, want, _ = both(worker, question(path, inputs=given))
    assert got["out"].shape == (2, 4, 11, 17)
    np.testing.assert_allclose(got["out"], want["out"], rtol=1e-4, atol=1e-5)
    with pytest.raises(Unsupported, match="no input 'x'"):
        worker.call({"do": "open", **question(path, inputs=[{"name": "x", "shape": [1]}])})


def test_a_caffemodel_is_read_within_its_bounds() -> None:
    data = memoryview(caffemodel({"a": [numbers(2, 3)], "b": [numbers(4), [1.0]]}))
    held = read_weights(data)
    assert [blob.shape for blob in held["b"].blobs] == [(4,), (1,)]
    np.testing.assert_array_equal(held["a"].blobs[0], numbers(2, 3))
    for end in range(1, len(data), 7):
        try:
            read_weights(data[:end])
        except Refused:
            continue
    doubles = field(100, field(1, b"c") + field(7, double_blob([[1.5, 2]])))
    np.testing.assert_array_equal(read_weights(memoryview(doubles))["c"].blobs[0], [[1.5, 2]])
    short = field(7, field(7, field(1, b"\2\3")) + field(5, b"\0\0\0\0"))
    with pytest.raises(Refused, match=r"states \[2, 3\] weights and holds 1"):
        read_weights(memoryview(field(100, field(1, b"c") + short)))
    with pytest.raises(Refused, match="cut short"):
        list(fields(memoryview(varint(100 << 3 | 2) + varint(1 << 40))))
    assert read_mean(memoryview(blob(numbers(3, 4, 5), old=True))).shape == (3, 4, 5)


def test_the_text_form_is_read_and_written() -> None:
    text = 'a: 1 b: -2.5e3 # c\nc { d: "x\\"y" "z" e: MAX } c < e: true > f: [1, 2 , 3]; g: 1.5f'
    found = parse(text)
    assert found.integers("a") == [1] and found.numbers("b") == [-2500.0] and found.integers("f") == [1, 2, 3]
    first, second = found.messages("c")
    assert first.text("d") == 'x"yz' and first.text("e") == "MAX" and second.flag("e", False)
    assert found.number("g", 0) == 1.5
    assert parse(written(found)).messages("c")[0].text("d") == 'x"yz'
    for wrong in ("a", "a: {", "a { b: 1", "}", "a: ]", "a: 'x", "a {" * 40, "{"):
        with pytest.raises(Refused):
            parse(wrong)


def test_files_are_told_by_their_content(tmp_path: Path) -> None:
    path = pair(tmp_path, net(layer("ReLU")), {"one": [[1.0]]})
    moved = path.rename(tmp_path / "net.txt")
    weights = path.with_suffix(".caffemodel").rename(tmp_path / "net.bin")
    assert is_description(moved) and not is_weights(moved)
    assert is_weights(weights) and not is_description(weights)
    assert isinstance(find_importer(moved), CaffeImporter) and isinstance(
        find_importer(weights), CaffeImporter
    )
    assert isinstance(find_importer(tmp_path), CaffeImporter)


def test_the_other_file_is_found_or_asked_for(tmp_path: Path) -> None:
    path = pair(tmp_path, net(layer("ReLU")), {"one": [[1.0]]})
    weights = path.with_suffix(".caffemodel").rename(tmp_path / "net_iter_500.caffemodel")
    deploy = path.rename(tmp_path / "net_deploy.prototxt")
    for source in (deploy, weights, tmp_path):
        found = CaffeImporter().question(source)
        assert (found["prototxt"], found["caffemodel"]) == (str(deploy.resolve()), str(weights.resolve()))
    elsewhere = weights.rename(tmp_path / "x.weights")
    deploy = deploy.rename(tmp_path / "net.prototxt")
    with pytest.raises(NotFound, match="weights are not beside it") as told:
        CaffeImporter().question(deploy)
    assert told.value.hint is not None and "--weights" in told.value.hint
    importer = CaffeImporter()
    importer.choose(SourceOptions(weights=elsewhere))
    assert importer.question(deploy)["caffemodel"] == str(elsewhere.resolve())
    importer.choose(SourceOptions(weights=deploy))
    with pytest.raises(InputError, match="is not a Caffe network's weights"):
        importer.question(deploy)
    with pytest.raises(UsageError, match="--signature means nothing"):
        importer.choose(SourceOptions(signature="x"))
    (tmp_path / "second.prototxt").write_text(net(layer("ReLU")))
    with pytest.raises(UsageError, match="holds 2 files"):
        CaffeImporter().question(tmp_path)


@pytest.mark.parametrize(
    ("damage", "reason", "code"),
    [
        (lambda data: data[: len(data) // 2], "is cut short", 3),
        (lambda data: b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer", 3),
        (lambda data: caffemodel({"other": [[1.0]]}), "are no pair", 3),
        (lambda data: caffemodel({"one": [numbers(2, 2)]}), "are the two files a pair", 3),
    ],
    ids=["cut short", "pointer", "another network", "other sizes"],
)
def test_wrong_weights_have_a_reason_of_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any, damage: Any, reason: str, code: int
) -> None:
    opencv4(monkeypatch)
    path = pair(tmp_path, net(layer("Convolution", CONV)), {"one": [numbers(4, 6, 3, 3), numbers(4)]})
    weights = path.with_suffix(".caffemodel")
    weights.write_bytes(damage(weights.read_bytes()))
    assert run(["pack", str(path), "--out", str(tmp_path / "out"), "--recipe", "raw"]) == code
    said = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(said) == 1 and reason in said[0]
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def classifier() -> tuple[str, Blobs]:
    text = net(
        layer(
            "Convolution", "convolution_param { num_output: 4 kernel_size: 3 stride: 2 }", tops="c", name="c"
        ),
        layer("ReLU", bottoms="c", tops="c", name="r"),
        layer("InnerProduct", "inner_product_param { num_output: 5 }", "c", "i", "i"),
        layer("Softmax", "", "i", "prob", "prob"),
        shape=(10, 3, 17, 17),
    )
    return text, {"c": [numbers(4, 3, 3, 3) / 50, numbers(4)], "i": [numbers(5, 256), numbers(5)]}


def test_a_mean_picture_beside_it_settles_the_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opencv4(monkeypatch)
    path = pair(tmp_path, *classifier())
    mean = np.array([104, 117, 123], np.float32)
    (tmp_path / "mean.binaryproto").write_bytes(blob(np.tile(mean[:, None, None], (1, 6, 6)), old=True))
    said: list[str] = []
    bundle = modelport.pack(path, out=tmp_path / "out", progress=said.append)
    assert any("mean.binaryproto" in note for note in said)
    assert bundle.manifest.task == "image-classification" and bundle.manifest.graphs.net.batch
    assert bundle.manifest.lineage.source.format == "caffe"
    picture = np.random.default_rng(1).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    with Pipeline.open(bundle) as pipeline:
        answer = pipeline.answer({"image": picture})
    assert answer["scores"].sum() == pytest.approx(1, abs=1e-5) and len(answer["scores"]) == 5


def test_what_the_prototxt_says_of_preparing_settles_a_detectors_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opencv4(monkeypatch)
    text, blobs = ssd()
    stated = "transform_param { scale: 0.0078125 mean_value: 104 mean_value: 117 mean_value: 123 }"
    path = pair(tmp_path, text.replace("input_param", f"{stated} input_param", 1), blobs)
    bundle = modelport.pack(path, out=tmp_path / "out")
    steps = {
        name: step
        for entry in bundle.manifest.steps.pre
        if isinstance(entry, dict)
        for name, step in entry.items()
    }
    assert steps["channels"]["order"] == "bgr"
    assert steps["normalize"] == {"mean": [104, 117, 123], "std": 128}
    head = bundle.manifest.steps.post[0]["scored_boxes"]
    assert head["score_threshold"] == 0.4 and head["background"] == "first" and head["multi_label"]


def test_ultraface_finds_the_faces_that_its_onnx_form_finds(
    tmp_path: Path, shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    caffe = shared_data / "face" / "caffe" / "RFB-320.prototxt"
    if not caffe.is_file():
        pytest.skip("there is no UltraFace")
    opencv4(monkeypatch)
    photos = sorted((shared_data / "face" / "images").glob("*.jpg"))
    said: list[str] = []
    bundles = [
        modelport.pack(caffe, out=tmp_path, name="caffe", golden=photos[:2], progress=said.append),
        modelport.pack(shared_data / "face" / "onnx" / "version-RFB-320.onnx", out=tmp_path, name="onnx"),
    ]
    assert any("boxes told from priors" in note for note in said)
    seen = 0
    with Pipeline.open(bundles[0]) as first, Pipeline.open(bundles[1]) as second:
        for photo in photos:
            picture = {"image": np.asarray(Image.open(photo).convert("RGB"))}
            got, want = first.answer(picture), second.answer(picture)
            count = int(got["count"])
            assert count == int(want["count"])
            np.testing.assert_allclose(got["boxes"][:count], want["boxes"][:count], atol=0.1)
            np.testing.assert_allclose(got["scores"][:count], want["scores"][:count], atol=1e-4)
            seen += count
    assert seen > 50


@pytest.mark.parametrize("name", ["det1", "det2", "det3"])
def test_mtcnn_computes_what_opencv_does(worker: Worker, shared_data: Path, name: str) -> None:
    path = shared_data / "mtcnn" / f"{name}.prototxt"
    if not path.is_file():
        pytest.skip("there is no MTCNN")
    got, want, _ = both(worker, question(path))
    assert set(got) == set(want)
    for output, array in want.items():
        np.testing.assert_allclose(got[output], array, rtol=1e-4, atol=1e-5)
