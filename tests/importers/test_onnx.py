"""ONNX files of all ages: what is taken, what is changed, what is refused and why."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from modelport.errors import InputError, NotFound, Unsupported, UsageError
from modelport.importers.onnx import OnnxImporter
from modelport.importers.source import Imported, find_importer, parse_input
from modelport.runtimes.onnxruntime import OnnxRuntime
from modelport.tensors import TensorSpec

from .networks import convnet, fixed_batch, leaking, model


def load(source: object, **options: object) -> Imported:
    return OnnxImporter().load(source, example=None, **options)


def header(imported: Imported) -> tuple[int, int]:
    read = onnx.load_model_from_string(imported.onnx)
    return read.opset_import[0].version, read.ir_version


def check_same(imported: Imported, rows: int) -> None:
    """The converted network gives what the reference gives, for `rows` rows together."""
    session = OnnxRuntime().open(imported.onnx)
    spec = imported.signature.inputs[0]
    x = np.random.default_rng(7).normal(size=(rows, *spec.shape[1:])).astype(np.float32)
    got, want = session.run({spec.name: x}), imported.reference({spec.name: x})
    assert got.keys() == want.keys()
    for name in want:
        np.testing.assert_allclose(got[name], want[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "source",
    [
        fixed_batch(rows=1),
        fixed_batch(rows=4),
        fixed_batch(rows=1, target=[1, 48]),
        fixed_batch(rows=1, opset=9, ir=4),
        fixed_batch(rows=1, opset=7, ir=4),
        convnet(batch=1),
        convnet(batch="N"),
        convnet(batch="N", opset=25, ir=12),
        # What `helper.make_model` writes today, and no ONNX Runtime takes.
        fixed_batch(rows=1, opset=40, ir=14),
    ],
)
def test_the_batch_becomes_any_size(source: onnx.ModelProto) -> None:
    imported = load(source)
    assert imported.batch
    assert {spec.shape[0] for spec in (*imported.signature.inputs, *imported.signature.outputs)} == {"batch"}
    opset, ir = header(imported)
    assert 7 <= opset <= 21
    assert ir <= 10
    for rows in (1, 3, 8):
        check_same(imported, rows)


def test_what_was_changed_is_said() -> None:
    notes = " / ".join(load(fixed_batch(rows=1, opset=40, ir=14)).notes)
    assert "opset 40 became 21" in notes
    assert "the batch of 1 became a batch of any size" in notes
    assert "reference evaluator" in notes


def test_a_flatten_written_with_allowzero_is_freed() -> None:
    source = fixed_batch(rows=1, opset=14)
    source.graph.node[1].attribute.append(helper.make_attribute("allowzero", 1))
    assert load(source).batch


def test_rows_that_leak_into_each_other_keep_the_batch() -> None:
    imported = load(leaking(1))
    assert not imported.batch
    assert imported.signature.inputs[0].shape == (1, 4)
    assert any("the batch stays 1: row 0 of 'y'" in note for note in imported.notes)


def test_a_model_that_says_any_batch_and_does_not_keep_it_runs_row_by_row() -> None:
    imported = load(leaking("N"))
    assert not imported.batch
    assert imported.signature.inputs[0].shape == (1, 4)


def test_a_fixed_shape_that_merges_the_batch_keeps_it() -> None:
    shape = {"shape": np.array([48], np.int64)}
    nodes = [
        helper.make_node("Reshape", ["x", "shape"], ["f"]),
        helper.make_node("Unsqueeze", ["f", "a"], ["y"]),
    ]
    source = model(nodes, ("x", [1, 3, 4, 4]), ("y", [1, 48]), shape | {"a": np.array([0])}, 13, 8)
    imported = load(source)
    assert not imported.batch
    check_same(imported, 1)


def test_training_leftovers_among_the_inputs_are_dropped() -> None:
    source = convnet()
    source.ir_version = 3
    for tensor in source.graph.initializer:
        info = helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
        source.graph.input.append(info)
    source.opset_import[0].version = 8
    imported = load(source)
    assert [spec.name for spec in imported.signature.inputs] == ["input"]
    assert any("2 weights were listed as inputs" in note for note in imported.notes)
    check_same(imported, 2)


def test_open_sizes_can_be_fixed() -> None:
    source = convnet()
    for axis in (2, 3):
        source.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = "side"
    assert load(source).signature.inputs[0].shape == ("batch", 3, "side", "side")
    spec = parse_input("input:float32[batch,3,48,48]")
    assert load(source, inputs=[spec]).signature.inputs[0].shape == ("batch", 3, 48, 48)


@pytest.mark.parametrize(
    "text", ["other:float32[batch,3,32,32]", "input:float32[batch,3,64,64]", "input:uint8[batch,3,32,32]"]
)
def test_input_specifications_that_do_not_fit_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="input"):
        load(convnet(), inputs=[parse_input(text)])


def test_weights_beside_the_model_come_inside(tmp_path: Path) -> None:
    save_with_weights(tmp_path / "net.onnx", "weights.bin")
    imported = load(tmp_path / "net.onnx")
    check_same(imported, 3)
    assert len(imported.onnx) > (tmp_path / "net.onnx").stat().st_size
    assert not any(
        tensor.external_data for tensor in onnx.load_model_from_string(imported.onnx).graph.initializer
    )


@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("../weights.bin", "outside the model's folder"),
        ("sub/../../weights.bin", "outside the model's folder"),
        ("/etc/hostname", "outside the model's folder"),
        ("C:\\weights.bin", "outside the model's folder"),
        ("linked.bin", "a link"),
        ("linked/weights.bin", "a link"),
        ("gone.bin", "no such file"),
        ("", "outside the model's folder"),
        ("sub", "sub"),
    ],
)
def test_weights_elsewhere_are_refused(tmp_path: Path, location: str, said: str) -> None:
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    save_with_weights(folder / "net.onnx", "weights.bin")
    (folder / "weights.bin").rename(tmp_path / "weights.bin")
    (folder / "linked.bin").symlink_to(tmp_path / "weights.bin")
    (folder / "linked").symlink_to(tmp_path)
    damaged = onnx.load(folder / "net.onnx", load_external_data=False)
    for tensor in damaged.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    onnx.save(damaged, folder / "net.onnx")
    with pytest.raises(InputError, match=said):
        load(folder / "net.onnx")


def test_weights_that_are_cut_short_are_refused(tmp_path: Path) -> None:
    save_with_weights(tmp_path / "net.onnx", "weights.bin")
    data = (tmp_path / "weights.bin").read_bytes()
    (tmp_path / "weights.bin").write_bytes(data[:-4])
    with pytest.raises(InputError, match="of a file of"):
        load(tmp_path / "net.onnx")


def test_unknown_operators_are_named() -> None:
    source = convnet()
    source.graph.node[1].domain = "acme.ops"
    source.opset_import.append(helper.make_opsetid("acme.ops", 1))
    with pytest.raises(Unsupported, match=r"'Relu' of the domain 'acme\.ops'"):
        load(source)


def test_local_functions_become_plain_operators() -> None:
    function = helper.make_function(
        "acme.ops",
        "Double",
        ["a"],
        ["b"],
        [helper.make_node("Add", ["a", "a"], ["b"])],
        [helper.make_opsetid("", 17)],
    )
    source = model(
        [helper.make_node("Double", ["x"], ["y"], domain="acme.ops")],
        ("x", ["N", 4]),
        ("y", ["N", 4]),
        {},
        17,
        8,
    )
    source.opset_import.append(helper.make_opsetid("acme.ops", 1))
    source.functions.append(function)
    imported = load(source)
    assert not onnx.load_model_from_string(imported.onnx).functions
    check_same(imported, 2)


def test_outputs_that_are_no_tensors_are_refused() -> None:
    source = model(
        [helper.make_node("SequenceConstruct", ["x"], ["y"])], ("x", ["N", 4]), ("y", ["N", 4]), {}, 13, 8
    )
    kind = helper.make_tensor_type_proto(TensorProto.FLOAT, None)
    source.graph.output[0].type.CopyFrom(helper.make_sequence_type_proto(kind))
    with pytest.raises(Unsupported, match="'y' is a sequence, not a tensor"):
        load(source)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    whole = fixed_batch().SerializeToString()
    broken = fixed_batch()
    broken.graph.node[0].input[0] = "nothing"
    onnx.save(broken, tmp_path / "broken.onnx")
    with pytest.raises(InputError, match="not a valid ONNX model"):
        load(tmp_path / "broken.onnx")
    (tmp_path / "cut.onnx").write_bytes(whole[:-40])
    with pytest.raises((InputError, Unsupported)):
        find_importer(tmp_path / "cut.onnx").load(tmp_path / "cut.onnx", example=None)


def test_files_are_recognised_by_their_content(tmp_path: Path) -> None:
    onnx.save(convnet(), tmp_path / "network.bin")
    assert isinstance(find_importer(tmp_path / "network.bin"), OnnxImporter)
    assert isinstance(find_importer(convnet()), OnnxImporter)
    # A TensorFlow SavedModel begins like an ONNX model: field 1 is a number.
    (tmp_path / "saved_model.pb").write_bytes(b"\x08\x01\x12\x02\x0a\x00")
    (tmp_path / "text.onnx").write_text("not a model")
    assert not isinstance(find_importer(tmp_path / "saved_model.pb"), OnnxImporter)
    with pytest.raises(InputError, match="no model that Modelport reads"):
        find_importer(tmp_path / "text.onnx")
    (tmp_path / "plain").mkdir()
    with pytest.raises(InputError, match="a folder without a model"):
        find_importer(tmp_path / "plain")
    with pytest.raises(NotFound, match="no such file"):
        find_importer(tmp_path / "gone.onnx")
    with pytest.raises(Unsupported, match=r"an object of builtins\.int"):
        find_importer(3)


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("{0: 'cat', 1: 'dog'}", ("cat", "dog")),
        ('["cat", "dog"]', ("cat", "dog")),
        ('{"1": "dog", "0": "cat"}', ("cat", "dog")),
        ("{1: 'cat', 2: 'dog'}", ()),
        ("__import__('os')", ()),
        ("cat", ()),
    ],
)
def test_class_names_in_the_metadata(text: str, labels: tuple[str, ...]) -> None:
    source = convnet()
    helper.set_model_props(source, {"names": text})
    assert load(source).labels == labels


def test_input_specifications() -> None:
    assert parse_input(" x : float32[batch, 3, 224,224] ") == TensorSpec(
        "x", "float32", ("batch", 3, 224, 224)
    )
    for text in (
        "x",
        "x:float32",
        "x:float32[]",
        "x:nonsense[1]",
        "x:float32[0]",
        "x:float32[-1]",
        "x:float32[1,]",
    ):
        with pytest.raises(UsageError):
            parse_input(text)


def save_with_weights(path: Path, location: str) -> None:
    onnx.save(
        convnet(),
        path,
        save_as_external_data=True,
        location=location,
        size_threshold=0,
        all_tensors_to_one_file=True,
    )
    first = onnx.load(path, load_external_data=False).graph.initializer[0]
    assert first.external_data
    assert numpy_helper.to_array(first, str(path.parent)).size
