"""ONNX of old and too new opsets, and what is no tensor in it: rewritten and proven, or refused by name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from modelport.errors import InputError, Unsupported
from modelport.importers.onnx import OnnxImporter
from modelport.importers.pack import pack
from modelport.importers.source import Imported
from modelport.runtimes.onnxruntime import OnnxRuntime

from .networks import convnet, model

X = ("x", [1, 3, 4, 4])
ONES = np.array([1, 2, 3], np.float32)


def one(
    opset: int,
    node: onnx.NodeProto,
    shape: Sequence[int | str],
    weights: dict[str, np.ndarray] | None = None,
) -> onnx.ModelProto:
    return model([node], X, ("y", shape), weights or {}, opset, 4)


def load(source: object) -> Imported:
    return OnnxImporter().load(source, example=None)


def opset_of(imported: Imported) -> int:
    return onnx.load_model_from_string(imported.onnx).opset_import[0].version


def check_same(imported: Imported) -> None:
    x = np.random.default_rng(3).normal(size=(2, 3, 4, 4)).astype(np.float32)
    got, want = OnnxRuntime().open(imported.onnx).run({"x": x}), imported.reference({"x": x})
    np.testing.assert_allclose(got["y"], want["y"], rtol=1e-5, atol=1e-6)


OLD = {
    "softmax-9": one(9, helper.make_node("Softmax", ["x"], ["y"]), [1, 3, 4, 4]),
    "clip-6": one(6, helper.make_node("Clip", ["x"], ["y"], min=0.0, max=1.0), [1, 3, 4, 4]),
    "pad-9": one(9, helper.make_node("Pad", ["x"], ["y"], pads=[0, 0, 1, 1, 0, 0, 1, 1]), [1, 3, 6, 6]),
    "upsample-7": one(
        7,
        helper.make_node("Upsample", ["x"], ["y"], mode="nearest", scales=[1.0, 1.0, 2.0, 2.0]),
        [1, 3, 8, 8],
    ),
    # Dropout and BatchNormalization of opset 6 are run by no ONNX Runtime of today.
    "dropout-6": one(6, helper.make_node("Dropout", ["x"], ["y"], is_test=1), [1, 3, 4, 4]),
    "batch-normalization-6": one(
        6,
        helper.make_node("BatchNormalization", ["x", "a", "b", "c", "d"], ["y"], is_test=1),
        [1, 3, 4, 4],
        dict.fromkeys("abcd", ONES),
    ),
}


@pytest.mark.parametrize("name", sorted(OLD))
def test_old_opsets_are_upgraded_with_the_same_answers(name: str) -> None:
    imported = load(OLD[name])
    assert opset_of(imported) == 13
    assert any("became 13, with the same answers" in note for note in imported.notes)
    check_same(imported)


def test_a_broadcast_along_an_axis_means_what_it_meant() -> None:
    source = one(
        6, helper.make_node("Add", ["x", "b"], ["y"], axis=1, broadcast=1), [1, 3, 4, 4], {"b": ONES}
    )
    imported = load(source)
    assert opset_of(imported) == 13
    # No engine of today runs such an Add: what is not proven is said.
    assert any(note.startswith("warning: nothing here runs opset 6") for note in imported.notes)
    x = np.zeros((1, 3, 4, 4), np.float32)
    got = OnnxRuntime().open(imported.onnx).run({"x": x})["y"]
    np.testing.assert_array_equal(got[0, :, 0, 0], ONES)


@pytest.mark.parametrize("opset", [9, 10])
def test_an_upgrade_that_changes_answers_is_not_taken(opset: int) -> None:
    """onnx's converter makes another resize of these; with its coordinates set right it is the same."""
    node = helper.make_node("Upsample" if opset == 9 else "Resize", ["x", "s"], ["y"], mode="linear")
    source = one(opset, node, [1, 3, 8, 8], {"s": np.array([1, 1, 2, 2], np.float32)})
    plain = onnx.version_converter.convert_version(source, 13)
    x = np.random.default_rng(3).normal(size=(1, 3, 4, 4)).astype(np.float32)
    imported = load(source)
    want = imported.reference({"x": x})["y"]
    assert np.abs(OnnxRuntime().open(plain.SerializeToString()).run({"x": x})["y"] - want).max() > 0.1
    assert opset_of(imported) == 13
    check_same(imported)


def test_what_onnx_does_not_convert_is_kept_where_it_runs() -> None:
    node = helper.make_node("Scatter", ["x", "i", "x"], ["y"], axis=1)
    index = np.zeros((1, 3, 4, 4), np.int64)
    imported = load(one(9, node, [1, 3, 4, 4], {"i": index}))
    assert opset_of(imported) in (9, 13)
    assert any("opset 9" in note for note in imported.notes)


def test_an_operator_that_onnx_never_had_is_named() -> None:
    with pytest.raises(Unsupported, match=r"'Affine' of the domain 'ai\.onnx' \(node") as refusal:
        load(one(7, helper.make_node("Affine", ["x"], ["y"], alpha=1.0, beta=0.0), [1, 3, 4, 4]))
    assert "export the network without it" in str(refusal.value.hint)


def test_custom_operators_are_named_with_their_nodes() -> None:
    source = convnet()
    for number, node in enumerate(source.graph.node):
        node.name = f"layer/{number}"
        if number < 2:
            node.domain = "acme.ops"
    source.opset_import.append(helper.make_opsetid("acme.ops", 1))
    with pytest.raises(Unsupported) as refusal:
        load(source)
    first, second = source.graph.node[0].op_type, source.graph.node[1].op_type
    assert f"'{first}' of the domain 'acme.ops' (node layer/0)" in refusal.value.message
    assert f"'{second}' of the domain 'acme.ops' (node layer/1)" in refusal.value.message


def test_an_opset_that_onnx_does_not_bring_down_is_relabelled_where_it_means_the_same() -> None:
    """There is no adapter from Relu 14 down; nothing of these operators changed since opset 21."""
    source = convnet(opset=25, ir=12)
    imported = load(source)
    assert opset_of(imported) == 21


def test_an_operator_that_is_too_new_is_named() -> None:
    source = model([helper.make_node("Swish", ["x"], ["y"])], ("x", ["N", 4]), ("y", ["N", 4]), {}, 24, 10)
    with pytest.raises(
        Unsupported, match="opset 24 cannot be brought to 21: opset 21 has no operator 'Swish'"
    ):
        load(source)


def zipmap(*, strings: bool) -> onnx.ModelProto:
    """What skl2onnx writes for a classifier: a label, and a map of every row."""
    classes = (
        {"classlabels_strings": ["ham", "spam", "eggs"]} if strings else {"classlabels_int64s": [3, 5, 8]}
    )
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["z"]),
        helper.make_node("Softmax", ["z"], ["probabilities"], axis=1),
        helper.make_node("ArgMax", ["z"], ["label"], axis=1, keepdims=0),
        helper.make_node("ZipMap", ["probabilities"], ["output_probability"], domain="ai.onnx.ml", **classes),
    ]
    weights = {"w": np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32)}
    made = model(nodes, ("x", ["N", 4]), ("output_probability", ["N", 3]), weights, 15, 8)
    made.opset_import.append(helper.make_opsetid("ai.onnx.ml", 1))
    key = TensorProto.STRING if strings else TensorProto.INT64
    kind = helper.make_map_type_proto(key, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    made.graph.output[0].type.CopyFrom(helper.make_sequence_type_proto(kind))
    made.graph.output.insert(0, helper.make_tensor_value_info("label", TensorProto.INT64, ["N"]))
    return made


@pytest.mark.parametrize("strings", [True, False])
def test_a_map_of_classes_becomes_a_tensor(strings: bool, tmp_path: Path) -> None:
    imported = load(zipmap(strings=strings))
    assert [str(spec) for spec in imported.signature.outputs] == ["int64[batch]", "float32[batch, 3]"]
    assert imported.labels == (("ham", "spam", "eggs") if strings else ("3", "5", "8"))
    assert any("the map 'output_probability' became a tensor of 3 classes" in note for note in imported.notes)
    bundle = pack(zipmap(strings=strings), out=tmp_path / "repo", name="mail")
    assert bundle.manifest.golden is not None


def test_half_precision_goes_in_and_out(tmp_path: Path) -> None:
    source = model(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        ("x", ["N", 4]),
        ("y", ["N", 3]),
        {"w": np.random.default_rng(1).normal(size=(4, 3)).astype(np.float16)},
        17,
        8,
    )
    for value in (*source.graph.input, *source.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    bundle = pack(source, out=tmp_path / "repo", name="half")
    golden = bundle.manifest.golden
    assert golden is not None
    assert golden.net.relative == 1e-2


def test_bfloat16_at_the_ends_becomes_float32() -> None:
    source = model(
        [
            helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
            helper.make_node("Relu", ["f"], ["y"]),
        ],
        ("x", ["N", 4]),
        ("y", ["N", 4]),
        {},
        17,
        8,
    )
    source.graph.input[0].type.tensor_type.elem_type = TensorProto.BFLOAT16
    imported = load(source)
    assert str(imported.signature.inputs[0]) == "float32[batch, 4]"
    x = np.array([[1.00001, -1, 2, 0.1]], np.float32)
    got = OnnxRuntime().open(imported.onnx).run({"x": x})["y"]
    assert got[0, 0] == 1.0  # rounded as bfloat16 rounds


def test_arithmetic_in_bfloat16_is_refused_by_name() -> None:
    weights = {"w": np.ones((3, 3, 1, 1), np.float32)}
    source = model([helper.make_node("Conv", ["x", "w"], ["y"])], X, ("y", [1, 3, 4, 4]), weights, 22, 10)
    for value in (*source.graph.input, *source.graph.output):
        value.type.tensor_type.elem_type = TensorProto.BFLOAT16
    source.graph.initializer[0].CopyFrom(
        helper.make_tensor("w", TensorProto.BFLOAT16, [3, 3, 1, 1], [1.0] * 9)
    )
    with pytest.raises(Unsupported, match=r"bfloat16.*Conv"):
        load(source)


def test_a_sequence_is_refused_with_the_operator_that_makes_it() -> None:
    source = one(13, helper.make_node("SplitToSequence", ["x"], ["y"], axis=1), [1])
    kind = helper.make_tensor_type_proto(TensorProto.FLOAT, None)
    source.graph.output[0].type.CopyFrom(helper.make_sequence_type_proto(kind))
    with pytest.raises(Unsupported, match=r"'y' is a sequence.*'SplitToSequence' makes it"):
        load(source)


def test_a_file_over_2_gb_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "large.onnx"
    path.write_bytes(convnet().SerializeToString())
    with path.open("r+b") as stream:
        stream.truncate(3 << 30)  # a hole: it takes no room
    with pytest.raises(Unsupported, match="one ONNX file holds"):
        OnnxImporter().load(path)


def test_weights_over_2_gb_are_refused_before_they_are_read(tmp_path: Path) -> None:
    source = convnet()
    tensor = source.graph.initializer[0]
    del tensor.float_data[:]
    tensor.raw_data = b""
    onnx.external_data_helper.set_external_data(tensor, "w.bin", offset=0, length=3 << 30)
    path = tmp_path / "net.onnx"
    path.write_bytes(source.SerializeToString())
    with (tmp_path / "w.bin").open("wb") as stream:
        stream.truncate(3 << 30)
    with pytest.raises(Unsupported, match="with its weights inside") as refusal:
        load(path)
    assert "float16" in str(refusal.value.hint)


def test_weights_of_another_size_are_refused(tmp_path: Path) -> None:
    source = convnet()
    tensor = source.graph.initializer[0]
    data = numpy_helper.to_array(tensor).tobytes()
    onnx.external_data_helper.set_external_data(tensor, "w.bin", offset=0, length=len(data) - 4)
    tensor.ClearField("raw_data")
    path = tmp_path / "net.onnx"
    path.write_bytes(source.SerializeToString())
    (tmp_path / "w.bin").write_bytes(data)
    with pytest.raises(InputError, match="not a valid ONNX model"):
        load(path)
