"""Options: what a caller may set, as the manifest offers it and as the graph has it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest

from modelport.bundle.manifest import Manifest, Option, decode_manifest, encode_manifest
from modelport.bundle.options import check_options, option_tensors
from modelport.bundle.rules import check_manifest
from modelport.bundle.store import Bundle
from modelport.errors import BundleError, InputError
from modelport.runtimes.pipeline import Pipeline
from modelport.tensors import TensorSpec

from ..boxes import SCENE, pack_boxes, picture_with

OFFERED = (
    Option("threshold", "float32", 0.25, 0.0, 1.0),
    Option("most", "int64", 10, 1, None),
    Option("strict", "bool", False),
)


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack_boxes(tmp_path_factory.mktemp("boxes"))


@pytest.fixture
def manifest(repo: Path) -> Manifest:
    return msgspec.structs.replace(Bundle.open(repo / "boxes").manifest, options=OFFERED)


@pytest.mark.parametrize(
    ("name", "value", "want"),
    [
        ("threshold", "0.4", 0.4),
        ("threshold", 1, 1.0),
        ("threshold", " 5e-1 ", 0.5),
        ("threshold", np.float32(0.5), 0.5),
        ("most", "7", 7),
        ("most", 7.0, 7),
        ("strict", "true", True),
        ("strict", "0", False),
        ("strict", True, True),
    ],
)
def test_values_are_brought_to_their_type(manifest: Manifest, name: str, value: Any, want: Any) -> None:
    got = check_options(manifest, {name: value})
    assert got == {name: want}
    assert type(got[name]) is type(want)
    dtype = {"threshold": np.float32, "most": np.int64, "strict": np.bool_}[name]
    tensor = option_tensors(manifest, {name: value})[name]
    assert (tensor.dtype, tensor.shape) == (dtype, ())


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("threshold", "much", "a number from 0 to 1, got 'much'"),
        ("threshold", 1.5, "a number from 0 to 1, got 1.5"),
        ("threshold", "nan", "from 0 to 1"),
        ("threshold", float("inf"), "from 0 to 1"),
        ("threshold", True, "got True"),
        ("threshold", None, "got None"),
        ("threshold", [0.5], "got"),
        ("most", "7.5", "a whole number of at least 1"),
        ("most", 0, "of at least 1, got 0"),
        ("most", 1e30, "whole number"),
        ("strict", "maybe", "true or false, got 'maybe'"),
        ("strict", 1, "true or false"),
    ],
)
def test_other_values_are_refused(manifest: Manifest, name: str, value: Any, expected: str) -> None:
    with pytest.raises(InputError) as caught:
        check_options(manifest, {name: value})
    assert expected in caught.value.message
    assert caught.value.at == f"$.parameters.{name}"


def test_an_unknown_option_gets_the_known_ones(manifest: Manifest) -> None:
    with pytest.raises(InputError, match=r"no option 'treshold'; it has threshold, most, strict") as caught:
        check_options(manifest, {"treshold": 0.5})
    assert caught.value.hint == "did you mean 'threshold'?"
    plain = msgspec.structs.replace(manifest, options=())
    with pytest.raises(InputError, match="it has none"):
        check_options(plain, {"threshold": 0.5})
    assert option_tensors(plain, None) == {}


def test_options_survive_the_manifest(manifest: Manifest) -> None:
    assert decode_manifest(encode_manifest(manifest)).options == OFFERED


@pytest.mark.parametrize(
    "option",
    [
        Option("boxes", "float32", 0.5),
        Option("output0", "float32", 0.5),
        Option("x", "float32", 2.0, 0.0, 1.0),
        Option("x", "float32", True),
        Option("x", "int64", 0.5),
        Option("x", "bool", 1),
        Option("x", "bool", True, 0, 1),
    ],
    ids=str,
)
def test_options_that_do_not_fit_are_refused(manifest: Manifest, option: Option) -> None:
    with pytest.raises(BundleError) as caught:
        check_manifest(msgspec.structs.replace(manifest, options=(option,)))
    assert caught.value.at == "$.options[0]"
    with pytest.raises(BundleError, match="stands twice"):
        check_manifest(msgspec.structs.replace(manifest, options=(OFFERED[0], OFFERED[0])))


# -- carried tensors -------------------------------------------------------------------------------


def carrying(manifest: Manifest, *specs: TensorSpec) -> Manifest:
    pre = manifest.graphs.pre
    signature = msgspec.structs.replace(pre.signature, outputs=(pre.signature.outputs[0], *specs))
    graphs = msgspec.structs.replace(manifest.graphs, pre=msgspec.structs.replace(pre, signature=signature))
    return msgspec.structs.replace(manifest, graphs=graphs)


def test_what_is_carried_is_made_and_taken(manifest: Manifest) -> None:
    placement = TensorSpec("placement", "float32", (6,))
    check_manifest(carrying(manifest, placement))
    with pytest.raises(BundleError, match="nothing before `post` gives its input 'placement'"):
        check_manifest(carrying(manifest))
    with pytest.raises(BundleError, match="which neither `net` nor `post` takes"):
        check_manifest(carrying(manifest, placement, TensorSpec("more", "float32", (1,))))
    with pytest.raises(BundleError, match="is an output of it too"):
        check_manifest(carrying(manifest, placement, TensorSpec("output0", "float32", (1,))))
    with pytest.raises(BundleError, match="as float32 and is given int64"):
        check_manifest(carrying(manifest, TensorSpec("placement", "int64", (6,))))


# -- the graph -------------------------------------------------------------------------------------


def spoiled(repo: Path, folder: Path, change: Callable[[onnx.ModelProto], None]) -> Bundle:
    """The bundle with another `post.onnx`, its digests right."""
    bundle = Bundle.open(shutil.copytree(repo / "boxes" / "1", folder / "copy"))
    model = onnx.load_from_string(bundle.read("post.onnx"))
    change(model)
    return bundle.derive(folder / "other", {"post.onnx": model.SerializeToString()}, version="2")


def _other_default(model: onnx.ModelProto) -> None:
    (tensor,) = (tensor for tensor in model.graph.initializer if tensor.name == "score_threshold")
    tensor.CopyFrom(onnx.numpy_helper.from_array(np.array(0.9, np.float32), tensor.name))


def _one_more(model: onnx.ModelProto) -> None:
    name = next(tensor.name for tensor in model.graph.initializer if tensor.name.startswith("modelport/"))
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name == name)
    model.graph.input.append(onnx.helper.make_tensor_value_info(name, tensor.data_type, list(tensor.dims)))


def _one_less(model: onnx.ModelProto) -> None:
    kept = [value for value in model.graph.input if value.name != "iou_threshold"]
    del model.graph.input[:]
    model.graph.input.extend(kept)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_other_default, "'score_threshold' is float32 0.25; the graph has float32 0.89"),
        (_one_more, "inputs with a default are"),
        (_one_less, "inputs with a default are score_threshold, multi_label, class_agnostic"),
    ],
)
def test_the_graph_has_the_manifest_s_options(
    repo: Path, tmp_path: Path, change: Callable[[onnx.ModelProto], None], reason: str
) -> None:
    bundle = spoiled(repo, tmp_path, change)
    with pytest.raises(BundleError) as caught:
        bundle.graph("post")
    assert reason in caught.value.message
    with pytest.raises(BundleError):
        Pipeline.open(bundle)


def test_a_caller_sets_them_for_one_request(repo: Path) -> None:
    with Pipeline.open(repo / "boxes") as pipeline:
        assert pipeline.carried == ("placement",)
        item = pipeline.decode(picture_with(SCENE))
        assert pipeline.answer(item)["count"] == 3
        assert pipeline.answer(item, {"iou_threshold": "1"})["count"] == 6
        assert pipeline.answer(item, {"score_threshold": 0.9})["count"] == 0
        assert [a["count"].item() for a in pipeline.answer_many([item, item], {"iou_threshold": 1.0})] == [
            6,
            6,
        ]
        assert pipeline.answer(item)["count"] == 3
        with pytest.raises(InputError, match="no option 'score'"):
            pipeline.answer(item, {"score": 0.5})
        batch = {name: array[None] for name, array in pipeline.pre(item).items()}
        raw = pipeline.net(batch)
        assert raw.keys() == {"output0"}
        with pytest.raises(InputError, match="missing input 'placement'"):
            pipeline.post(raw)
        assert pipeline.post(raw | {"placement": batch["placement"]})["count"].tolist() == [3]


def test_pictures_of_different_sizes_share_a_batch(repo: Path) -> None:
    with Pipeline.open(repo / "boxes") as pipeline:
        small = [("green", 10, 12, 60, 90)]
        pictures = [
            picture_with(SCENE),
            picture_with(small, size=(100, 140)),
            picture_with([], size=(9, 300)),
        ]
        items = [pipeline.decode(picture) for picture in pictures]
        prepared = [pipeline.pre(item) for item in items]
        assert len({array.shape for item in prepared for array in item.values()}) == 2
        together = pipeline.answer_many(items)
        for item, answer in zip(items, together, strict=True):
            alone = pipeline.answer(item)
            for name, array in alone.items():
                np.testing.assert_array_equal(answer[name], array)
        found = [pipeline.readable(answer) for answer in together]
        assert [len(objects) for objects in found] == [3, 1, 0]
        assert found[1][0]["label"] == "green"  # type: ignore[index]
        assert found[1][0]["box"] == pytest.approx([10, 12, 60, 90], abs=2)  # type: ignore[index]
