"""Packing as a whole: what a bundle holds, what is refused, and that a wrong conversion is never written."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from PIL import Image

from modelport.bundle.store import Bundle
from modelport.errors import InputError, NotFound, ParityFailed, Unsupported, UsageError
from modelport.importers import golden
from modelport.importers.labels import read_labels
from modelport.importers.pack import pack
from modelport.runtimes.npz import read_npz
from modelport.runtimes.pipeline import Pipeline
from modelport.verify.replay import verify

from .networks import CLASSES, convnet, fixed_batch, model

LABELS = [f"class {n}" for n in range(CLASSES)]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    random = np.random.default_rng(5)
    for number in range(20):
        coarse = Image.fromarray(random.integers(0, 256, (6, 6, 3), np.uint8))
        coarse.resize((40 + number, 60), Image.Resampling.BICUBIC).save(folder / f"{number:02d}.jpg")
    (folder / "notes.txt").write_text("no picture")
    return folder


def test_what_a_bundle_holds(tmp_path: Path, photos: Path) -> None:
    source = tmp_path / "My network (v2).onnx"
    onnx.save(convnet(batch=1), source)
    notes: list[str] = []
    stages: list[tuple[str, float]] = []
    bundle = pack(
        source,
        out=tmp_path / "repo",
        recipe="imagenet",
        labels=LABELS,
        golden=photos,
        description="five classes",
        progress=notes.append,
        stage=lambda what, share: stages.append((what, share)),
    )
    manifest = bundle.manifest
    assert bundle.path == tmp_path / "repo" / "My-network-v2" / "1"
    assert (manifest.name, manifest.version, manifest.description) == ("My-network-v2", "1", "five classes")
    assert manifest.task == "image-classification"
    assert bundle.labels() == tuple(LABELS)
    assert manifest.graphs.net.batch
    assert manifest.lineage.source is not None
    assert (manifest.lineage.source.format, manifest.lineage.source.file) == ("onnx", source.name)
    assert manifest.golden is not None
    assert not manifest.golden.generated
    assert manifest.golden.source.startswith("onnxruntime ")
    assert len(manifest.golden.cases) == 16
    assert manifest.golden.pre.absolute == manifest.golden.decode.absolute == 0.0
    first, last = manifest.golden.cases[0], manifest.golden.cases[-1]
    assert bundle.read(first.input) == (photos / "00.jpg").read_bytes()
    assert bundle.read(last.input) == (photos / "19.jpg").read_bytes()
    taps = read_npz(bundle.read(first.taps), limit=1 << 24)
    assert {name: array.shape for name, array in taps.items()} == {
        "decoded.image": (60, 40, 3),
        "pre.input": (3, 32, 32),
        "raw.logits": (1, 5),
        "answer.scores": (1, 5),
        "answer.indices": (1, 5),
        "answer.labels": (1, 5),
    }
    assert taps["answer.labels"].dtype.kind == "U"
    assert "the batch of 1 became a batch of any size" in notes
    assert "golden cases are recorded from 16 of 20 files" in notes
    assert "answers as in onnxruntime" in notes[-1]
    assert [share for _, share in stages] == sorted(share for _, share in stages)
    assert stages[-1][1] == 1.0
    card = bundle.read("README.md").decode()
    for said in ("My-network-v2", "five classes", "class 0, class 1", "float32[batch, 3, 32, 32]", "predict"):
        assert said in card
    assert sorted(path.name for path in (tmp_path / "repo" / "My-network-v2").iterdir()) == ["1"]
    assert verify(bundle).ok


def test_an_answer_is_what_the_steps_say(tmp_path: Path, photos: Path) -> None:
    bundle = pack(convnet(), out=tmp_path / "repo", name="n", recipe="imagenet", labels=LABELS)
    with Pipeline.open(bundle) as pipeline:
        answer = pipeline.answer(pipeline.decode((photos / "03.jpg").read_bytes()))
    assert answer["labels"].tolist() == [LABELS[index] for index in answer["indices"]]
    assert float(answer["scores"].sum()) == pytest.approx(1.0)


def test_cases_are_made_up_where_none_are_given(tmp_path: Path) -> None:
    notes: list[str] = []
    repo = tmp_path / "repo"
    picture = pack(convnet(), out=repo, name="p", recipe="imagenet", progress=notes.append)
    tensors = pack(fixed_batch(), out=repo, name="t", recipe="raw", progress=notes.append)
    for bundle in (picture, tensors):
        assert bundle.manifest.golden is not None
        assert bundle.manifest.golden.generated
        assert len(bundle.manifest.golden.cases) >= 4
        assert "generated inputs" in verify(bundle).summary()
    assert sum("were made up" in note for note in notes) == 2


def test_the_same_arguments_give_the_same_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    bundles = [pack(convnet(), out=tmp_path / n, name="n", recipe="imagenet") for n in ("a", "b")]
    assert bundles[0].digest == bundles[1].digest
    assert bundles[0].manifest.created == "2023-11-14T22:13:20Z"


def test_a_network_that_takes_a_picture_needs_a_recipe(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"float32\[N, 3, 32, 32\]") as refusal:
        pack(convnet(), out=tmp_path, name="n")
    assert "imagenet" in (refusal.value.hint or "")
    notes: list[str] = []
    flat = model([helper.make_node("Relu", ["x"], ["y"])], ("x", ["N", 4]), ("y", ["N", 4]), {}, 17, 8)
    assert pack(flat, out=tmp_path, name="n", progress=notes.append).manifest.decode.kind == "tensors"
    assert "no recipe was given" in notes[0]
    assert pack(convnet(), out=tmp_path, name="r", recipe="raw").manifest.decode.kind == "tensors"


def test_a_softmax_is_not_taken_twice(tmp_path: Path) -> None:
    source = convnet()
    source.graph.node.append(helper.make_node("Softmax", ["logits"], ["chances"], axis=-1))
    source.graph.output[0].name = "chances"
    bundle = pack(source, out=tmp_path, name="n", recipe="imagenet")
    assert not any("softmax" in step for step in bundle.manifest.steps.post)
    assert any(
        "softmax" in step
        for step in pack(convnet(), out=tmp_path, name="l", recipe="imagenet").manifest.steps.post
    )


def test_names_that_the_steps_use_are_moved_aside(tmp_path: Path) -> None:
    source = convnet()
    for node in source.graph.node:
        node.input[:] = ["image" if name == "input" else name for name in node.input]
        node.output[:] = ["scores" if name == "logits" else name for name in node.output]
    source.graph.input[0].name, source.graph.output[0].name = "image", "scores"
    bundle = pack(source, out=tmp_path, name="n", recipe="imagenet")
    net = bundle.manifest.graphs.net.signature
    assert (net.inputs[0].name, net.outputs[0].name) == ("net_image", "raw_scores")
    assert verify(bundle).ok
    raw = pack(source, out=tmp_path, name="raw", recipe="raw").manifest.graphs.net.signature
    assert (raw.inputs[0].name, raw.outputs[0].name) == ("image", "scores")


def test_labels_inside_the_model_are_used(tmp_path: Path) -> None:
    source = convnet()
    helper.set_model_props(source, {"names": json.dumps(LABELS)})
    assert pack(source, out=tmp_path, name="n", recipe="imagenet").labels() == tuple(LABELS)


def test_a_card_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "card.md").write_text("# Mine\n鸟\n", encoding="utf-8")
    repo = tmp_path / "repo"
    assert (
        pack(fixed_batch(), out=repo, name="a", recipe="raw", card=tmp_path / "card.md")
        .read("README.md")
        .decode()
        == "# Mine\n鸟\n"
    )
    assert pack(fixed_batch(), out=repo, name="b", recipe="raw", card="# Text").read("README.md") == b"# Text"
    with pytest.raises(NotFound, match="no model card"):
        pack(fixed_batch(), out=repo, name="c", recipe="raw", card=tmp_path / "gone.md")


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"name": "../up"}, UsageError, "no model name"),
        ({"recipe": "imagnet"}, UsageError, "no recipe named 'imagnet'"),
        ({"labels": ["one"]}, UsageError, "1 labels for the 5 classes"),
        ({"labels": "gone.txt"}, NotFound, "no labels file"),
        ({"golden": "gone"}, NotFound, "no such file or directory"),
        ({"golden": []}, UsageError, "no golden inputs"),
        ({"settings": {"colour": 1}}, UsageError, "colour"),
        ({"inputs": ["input=1"]}, UsageError, "expected NAME:DTYPE"),
    ],
)
def test_mistakes_leave_nothing_behind(
    tmp_path: Path, options: dict[str, Any], error: type[Exception], said: str
) -> None:
    arguments: dict[str, Any] = {"name": "n", "recipe": "imagenet"} | options
    with pytest.raises(error) as refusal:
        pack(convnet(), out=tmp_path / "repo", **arguments)
    assert said in str(refusal.value)
    assert not (tmp_path / "repo").exists()


def test_a_version_is_never_replaced(tmp_path: Path) -> None:
    first = pack(fixed_batch(), out=tmp_path, name="n", recipe="raw")
    with pytest.raises(UsageError, match="exists; a bundle is never changed") as refusal:
        pack(convnet(), out=tmp_path, name="n", recipe="raw")
    assert "the folder may be deleted" in (refusal.value.hint or "")
    for recipe, said in (("imagenett", "no recipe named"), (tmp_path / "none.toml", "cannot be read")):
        with pytest.raises(UsageError, match=said):
            pack(convnet(), out=tmp_path, name="n", recipe=recipe)
    assert Bundle.open(tmp_path / "n" / "1").digest == first.digest
    assert pack(fixed_batch(), out=tmp_path, name="n", version="2", recipe="raw").manifest.version == "2"


def test_a_golden_file_that_is_no_picture_is_named(tmp_path: Path, photos: Path) -> None:
    with pytest.raises(InputError, match=r"notes\.txt"):
        pack(convnet(), out=tmp_path / "repo", name="n", recipe="imagenet", golden=[photos / "notes.txt"])


def test_golden_tensors(tmp_path: Path) -> None:
    for number in range(3):
        np.save(tmp_path / f"{number}.npy", np.full((3, 4, 4), number, np.float32))
    bundle = pack(fixed_batch(), out=tmp_path / "repo", name="n", recipe="raw", golden=tmp_path)
    assert bundle.manifest.golden is not None
    assert [case.input for case in bundle.manifest.golden.cases] == [f"golden/{n:04d}.npy" for n in range(3)]
    np.save(tmp_path / "9.npy", np.zeros((1, 3, 4, 4), np.float32))
    with pytest.raises(InputError, match=r"9\.npy"):
        pack(fixed_batch(), out=tmp_path / "repo", name="m", recipe="raw", golden=tmp_path)


def test_no_batch_axis_is_refused(tmp_path: Path) -> None:
    shape = {"shape": np.array([3, 16], np.int64)}
    source = model(
        [helper.make_node("Reshape", ["x", "shape"], ["y"])], ("x", [1, 48]), ("y", [3, 16]), shape, 17, 8
    )
    with pytest.raises(Unsupported, match="the first axis of every input and output must be the batch"):
        pack(source, out=tmp_path, name="n", recipe="raw")


def test_a_network_that_suppresses_boxes_itself_is_told_how_to_leave_it_out(tmp_path: Path) -> None:
    constants = {
        "scores": np.ones((1, 2, 6), np.float32),
        "most": np.array([3], np.int64),
        "iou": np.array([0.5], np.float32),
    }
    suppress = helper.make_node("NonMaxSuppression", ["x", "scores", "most", "iou"], ["chosen"])
    cast = helper.make_node("Cast", ["chosen"], ["y"], to=onnx.TensorProto.FLOAT)
    source = model([suppress, cast], ("x", [1, 6, 4]), ("y", ["found", 3]), constants, 17, 8)
    with pytest.raises(Unsupported, match="must be the batch") as refusal:
        pack(source, out=tmp_path, name="n", recipe="raw")
    assert "exclude_nms=True" in (refusal.value.hint or "")


def test_large_pictures_are_recorded_as_far_as_they_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, photos: Path
) -> None:
    # Two photos of about 42 x 60 pixels with what the network takes of them, and not a third.
    monkeypatch.setattr(golden, "MAX_TAPPED_BYTES", 5 * (42 * 60 * 3 + 4 * 32 * 32 * 3) // 2)
    notes: list[str] = []
    bundle = pack(
        convnet(), out=tmp_path / "repo", name="n", recipe="imagenet", golden=photos, progress=notes.append
    )
    assert bundle.manifest.golden is not None
    assert len(bundle.manifest.golden.cases) == 2
    assert any("recorded from the first 2" in note for note in notes)


@pytest.mark.frameworks
def test_a_conversion_that_is_another_model_is_refused(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")

    class Branching(torch.nn.Module):
        """Decides by the values: a trace keeps the one branch that it saw."""

        def forward(self, x: Any) -> Any:
            return x * 2 if x.sum() > 0 else x - 1

    with pytest.raises(ParityFailed, match="not the same model") as refusal:
        pack(Branching(), out=tmp_path / "a" / "repo", name="n", inputs=["x:float32[batch,4]"])
    assert refusal.value.exit_code == 1
    assert refusal.value.at == "net"
    assert not any(tmp_path.iterdir())


@pytest.mark.frameworks
@pytest.mark.parametrize("channels", [1, 3])
def test_a_torch_module_is_packed_with_nothing_but_a_recipe(tmp_path: Path, channels: int) -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    pool = [torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()]
    net = torch.nn.Sequential(
        torch.nn.Conv2d(channels, 8, 3), torch.nn.BatchNorm2d(8), *pool, torch.nn.Linear(8, 10)
    )
    bundle = pack(net, out=tmp_path, name="n", recipe="digits" if channels == 1 else "imagenet")
    assert bundle.manifest.graphs.net.batch
    assert bundle.manifest.golden is not None
    assert bundle.manifest.golden.source.startswith("torch ")
    assert net.training  # as it was
    report = verify(bundle)
    assert report.ok
    assert report.max_difference < 1e-5


@pytest.mark.frameworks
def test_a_keras_model_is_packed_channels_last(tmp_path: Path) -> None:
    pytest.importorskip("tensorflow")
    import keras

    keras.utils.set_random_seed(0)
    layers = [keras.layers.Conv2D(4, 5, activation="relu"), keras.layers.GlobalAveragePooling2D()]
    net = keras.Sequential(
        [keras.Input((32, 32, 3)), *layers, keras.layers.Dense(CLASSES, activation="softmax")]
    )
    bundle = pack(net, out=tmp_path, name="n", recipe="imagenet-tf", labels=LABELS)
    assert bundle.manifest.graphs.net.signature.inputs[0].shape == ("batch", 32, 32, 3)
    assert not any("softmax" in step for step in bundle.manifest.steps.post)
    assert verify(bundle).ok


def test_squeezenet(tmp_path: Path, shared_data: Path) -> None:
    labels = read_labels(shared_data / "imagenet200" / "imagenet_labels.txt")[1:]  # the first is `background`
    pictures = sorted((shared_data / "imagenet200").glob("*.JPEG"))[:4]
    bundle = pack(
        shared_data / "squeezenet" / "squeezenet1.1.onnx",
        out=tmp_path,
        recipe="imagenet-caffe",
        labels=labels,
        golden=pictures,
    )
    assert bundle.manifest.name == "squeezenet1.1"
    assert verify(bundle).ok
    with Pipeline.open(bundle) as pipeline:
        shown = pipeline.readable(pipeline.answer(pipeline.decode(pictures[0].read_bytes())))
    assert isinstance(shown, list)
    assert any(entry["label"].startswith("tench") for entry in shown)


@pytest.mark.frameworks
@pytest.mark.parametrize(("name", "labels"), [("pretrainedResnet.h5", 10), ("vww_96.h5", 2)])
def test_keras_2_files(tmp_path: Path, shared_data: Path, name: str, labels: int) -> None:
    pytest.importorskip("tensorflow")
    bundle = pack(
        shared_data / "keras" / name,
        out=tmp_path,
        recipe="imagenet-tf",
        labels=[f"{n}" for n in range(labels)],
    )
    net = bundle.manifest.graphs.net
    assert net.batch and net.signature.outputs[0].shape == ("batch", labels)
    report = verify(bundle)
    assert report.ok
    assert report.max_difference < 1e-4


def test_recordings_have_the_same_bytes_whatever_the_clock_says(monkeypatch: pytest.MonkeyPatch) -> None:
    arrays = {"a.b": np.arange(6.0), "c": np.array(["x", "鸟"], dtype=object), "file": np.zeros(1)}
    first = golden.npz(arrays)
    monkeypatch.setattr("time.time", lambda: 2_000_000_000.0)
    assert golden.npz(arrays) == first
    read = read_npz(first, limit=1000)
    assert read["c"].tolist() == ["x", "鸟"]
    assert list(read) == list(arrays)


def test_the_source_file_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(fixed_batch(opset=9, ir=4), path)
    path.chmod(0o400)
    before, stamp = path.read_bytes(), os.stat(path).st_mtime_ns
    pack(path, out=tmp_path / "repo", recipe="raw")
    assert path.read_bytes() == before
    assert os.stat(path).st_mtime_ns == stamp


def test_outputs_of_a_different_scale(tmp_path: Path) -> None:
    """Boxes in pixels and scores up to 1: a wrong score is found though boxes are 600 times as large."""
    weights = {"b": np.full((4, 4), 150, np.float32), "s": np.full((4, 2), 0.1, np.float32)}
    nodes = [
        helper.make_node("MatMul", ["x", "b"], ["boxes"]),
        helper.make_node("MatMul", ["x", "s"], ["found"]),
    ]
    source = model(nodes, ("x", ["N", 4]), ("boxes", ["N", 4]), weights, 17, 8)
    source.graph.output.append(helper.make_tensor_value_info("found", onnx.TensorProto.FLOAT, ["N", 2]))
    bundle = pack(source, out=tmp_path, name="n", recipe="raw")
    damaged = onnx.load_model_from_string(bundle.read("net.onnx"))
    scores = next(tensor for tensor in damaged.graph.initializer if tensor.name == "s")
    scores.CopyFrom(numpy_helper.from_array(np.full((4, 2), 0.1005, np.float32), "s"))
    report = verify(bundle.derive(tmp_path / "2", {"net.onnx": damaged.SerializeToString()}, version="2"))
    assert report.first_divergence is not None
    assert (report.first_divergence.tap, report.first_divergence.tensor) == ("net", "found")


def test_made_up_pictures_are_pictures() -> None:
    shapes = {Image.open(io.BytesIO(item.data)).size for item in golden.made_up_pictures()}
    assert shapes == set(golden.GENERATED_SIZES)
    assert [item.data for item in golden.made_up_pictures()] == [
        item.data for item in golden.made_up_pictures()
    ]
