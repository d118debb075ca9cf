"""Passes: what they make answers like its source, and what they cannot change is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import modelport
from modelport.bundle.store import Bundle
from modelport.errors import InputError, NotFound
from modelport.optimize.calibration import Calibration, read_calibration
from modelport.optimize.candidate import NotApplicable, Pass, apply, network_of
from modelport.optimize.explain import fused
from modelport.optimize.passes.half import Half
from modelport.optimize.passes.int8 import DynamicInt8, StaticInt8
from modelport.optimize.passes.low_rank import LowRank
from modelport.optimize.passes.simplify import Simplify
from modelport.optimize.passes.single import only
from modelport.optimize.passes.weights import WeightOnly
from modelport.optimize.rewriting import drop_unused, named, sort
from modelport.optimize.sensitivity import layers
from modelport.optimize.tail import LAYERS
from modelport.runtimes.onnxruntime import OnnxRuntime
from modelport.runtimes.pipeline import Pipeline

from .networks import CHANNELS, LABELS, RECIPE, network, packed, pictures


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("optimize")


@pytest.fixture(scope="module")
def start(place: Path) -> Bundle:
    return packed(place)


@pytest.fixture(scope="module")
def calibration(place: Path, start: Bundle) -> Calibration:
    return read_calibration(start, pictures(place / "pictures"))


@pytest.mark.parametrize(
    ("step", "tolerance"),
    [
        (Half(), 0.01),
        (DynamicInt8(), 0.03),
        (StaticInt8(), 0.05),
        (StaticInt8(calibrator="percentile"), 0.05),
        (StaticInt8(calibrator="entropy"), 0.08),
        (StaticInt8(reduced=True), 0.08),
        (StaticInt8(weights="u8", per_channel=False), 0.08),
    ],
    ids=lambda value: value.id if hasattr(value, "id") else "",
)
def test_a_pass_keeps_the_answers_and_leaves_its_source_alone(
    step: Pass, tolerance: float, start: Bundle, calibration: Calibration, tmp_path: Path
) -> None:
    made = apply(step, start, calibration, tmp_path)
    assert made.bundle.manifest.files["net.onnx"] != start.manifest.files["net.onnx"]
    assert made.bundle.manifest.lineage.parent == start.digest
    with Pipeline.open(start) as first, Pipeline.open(made.bundle) as second:
        for item in calibration.items[:12]:
            one, other = (each.answer(each.decode(item)) for each in (first, second))
            assert one["indices"][0] == other["indices"][0]
            assert float(np.abs(one["scores"] - other["scores"]).max()) < tolerance
    start.verify_files()


def test_eight_bits_are_named_as_what_runs(start: Bundle, calibration: Calibration, tmp_path: Path) -> None:
    whole = fused(apply(StaticInt8(), start, calibration, tmp_path).bundle.graph("net"))
    assert (whole.integer, whole.floating) == (3, ())
    mixed = fused(apply(StaticInt8(kept=("second",)), start, calibration, tmp_path).bundle.graph("net"))
    assert mixed.integer == 2 and len(mixed.floating) == 1
    assert "2 of 3 layers run in 8 bits" in mixed.sentence()


def test_one_layer_alone_is_in_eight_bits(start: Bundle, calibration: Calibration, tmp_path: Path) -> None:
    own = named(network_of(start))
    quantized = network_of(apply(StaticInt8(), start, calibration, tmp_path).bundle)
    batch = next(calibration.batches(4))
    whole = OnnxRuntime().open(own.SerializeToString()).run(batch)["logits"]
    for layer in [node.name for node in own.graph.node if node.op_type in LAYERS]:
        alone = only(own, quantized, layer)
        assert alone is not None
        onnx.checker.check_model(alone)
        got = OnnxRuntime().open(alone.SerializeToString()).run(batch)["logits"]
        assert not np.array_equal(got, whole)
        assert np.allclose(got, whole, atol=0.12)
    assert only(own, quantized, "relu") is None


def test_every_node_has_a_name_of_its_own() -> None:
    """Also where some are called as others would be by their place."""
    nodes = [helper.make_node("Neg", ["x"], [f"y{place}"]) for place in range(5)]
    nodes[0].name, nodes[1].name, nodes[2].name = "Neg_4", "twice", "twice"
    graph = helper.make_graph(nodes, "names", [], [])
    found = [node.name for node in named(helper.make_model(graph)).graph.node]
    assert found == ["Neg_4", "twice", "Neg_2", "Neg_3", "Neg_5"]


def test_a_weight_that_a_subgraph_takes_is_kept() -> None:
    """Of an If, whose branches take values from around them."""
    number = [TensorProto.FLOAT, [1]]
    branches = {
        branch: helper.make_graph(
            [helper.make_node("Add", ["x", weight], [branch])],
            branch,
            [],
            [helper.make_tensor_value_info(branch, *number)],
        )
        for branch, weight in (("then_branch", "one"), ("else_branch", "two"))
    }
    graph = helper.make_graph(
        [helper.make_node("If", ["yes"], ["y"], **branches)],
        "branches",
        [helper.make_tensor_value_info("x", *number)],
        [helper.make_tensor_value_info(name, *number) for name in ("y", "given")],
        [numpy_helper.from_array(np.ones(1, np.float32), name) for name in ("one", "two", "given", "nobody")]
        + [numpy_helper.from_array(np.array(True), "yes")],
    )
    network = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    drop_unused(network)
    assert [tensor.name for tensor in network.graph.initializer] == ["one", "two", "given", "yes"]
    graph.initializer.remove(graph.initializer[0])
    graph.node.append(helper.make_node("Identity", ["x"], ["one"]))
    sort(graph)
    assert [node.op_type for node in graph.node] == ["Identity", "If"]


def test_the_layer_that_8_bits_hurt_most_comes_first(tmp_path: Path, calibration: Calibration) -> None:
    """A layer with one large weight, on a channel that is always 0: 8 bits leave nothing of the others."""
    broken = network()
    changes = {"first": (slice(0, 1), 0.0), "second": ((0, 0, 0, 0), 300.0)}
    for name, (place, value) in changes.items():
        weight = next(tensor for tensor in broken.graph.initializer if tensor.name == name)
        array = numpy_helper.to_array(weight).copy()
        array[place] = value
        weight.CopyFrom(numpy_helper.from_array(array, name))
    made = StaticInt8(weights="u8", per_channel=False).apply(broken, calibration)
    ranked = layers(broken, made.network, calibration)
    worst, *others = sorted(ranked, key=lambda layer: -layer.deviation)
    assert worst.name == "second"
    assert all(worst.deviation > 3 * other.deviation for other in others)
    assert [layer.worth for layer in ranked] == sorted((layer.worth for layer in ranked), reverse=True)


def test_what_does_not_apply_says_why(start: Bundle, calibration: Calibration, tmp_path: Path) -> None:
    plain = helper.make_model(
        helper.make_graph(
            [helper.make_node("Relu", ["x"], ["y"])],
            "relu",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    for step, reason in (
        (Half(), "no float32 weights"),
        (DynamicInt8(), "no matrix products"),
        (StaticInt8(), "has none of"),
        (Simplify(), "nothing to simplify"),
    ):
        with pytest.raises(NotApplicable, match=reason):
            step.apply(plain, calibration)


def test_what_is_no_float32_is_named(tmp_path: Path) -> None:
    """Models of scikit-learn compute in float64."""
    random = np.random.default_rng(2)
    model = helper.make_model(
        helper.make_graph(
            [
                helper.make_node("MatMul", ["x", "w"], ["y"], name="only"),
                helper.make_node("Relu", ["y"], ["z"]),
            ],
            "double",
            [helper.make_tensor_value_info("x", TensorProto.DOUBLE, ["N", 300])],
            [helper.make_tensor_value_info("z", TensorProto.DOUBLE, ["N", 300])],
            [numpy_helper.from_array(random.normal(size=(300, 300)), "w")],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    onnx.save(model, tmp_path / "double.onnx")
    own = modelport.pack(tmp_path / "double.onnx", out=tmp_path / "repo", recipe="raw")
    items = tmp_path / "items"
    items.mkdir()
    for number in range(9):
        np.save(items / f"{number}.npy", random.normal(size=300))
    known = read_calibration(own, items)
    for step, reason in (
        (StaticInt8(), "none of its layers is put into 8 bits: they stay in float or are no float32"),
        (WeightOnly(), "weights of float32 or more"),
        (LowRank(), "weights of float32 or more"),
    ):
        with pytest.raises(NotApplicable, match=reason):
            step.apply(network_of(own), known)


def test_simplifying_folds_and_fuses_and_keeps_the_answers(calibration: Calibration, tmp_path: Path) -> None:
    """A batch normalisation goes into its convolution, and nodes that do nothing go."""
    model = network()
    convolution = next(node for node in model.graph.node if node.name == "first")
    convolution.output[0] = "before"
    random = np.random.default_rng(1)
    for name, low in (("scale", 0.5), ("shift", 0.0), ("mean_of", 0.0), ("spread", 0.5)):
        values = random.uniform(low, low + 0.5, CHANNELS).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    normal = ["before", "scale", "shift", "mean_of", "spread"]
    model.graph.node.extend(
        [
            helper.make_node("BatchNormalization", normal, ["normal"], name="normal"),
            helper.make_node("Identity", ["normal"], ["same"], name="same"),
            helper.make_node("Identity", ["same"], ["a"], name="again"),
        ]
    )
    sort(model.graph)
    onnx.save(model, tmp_path / "colours.onnx")
    (tmp_path / "colours.toml").write_text(RECIPE)
    own = modelport.pack(
        tmp_path / "colours.onnx", out=tmp_path / "repo", recipe=tmp_path / "colours.toml", labels=LABELS
    )
    made = apply(Simplify(), own, calibration, tmp_path / "work")
    kinds = [node.op_type for node in network_of(made.bundle).graph.node]
    assert "Identity" not in kinds and "BatchNormalization" not in kinds and kinds.count("Conv") == 2
    (said,) = made.notes
    assert said.startswith("9 nodes became ") and "2 Identity" in said and "1 BatchNormalization" in said
    with Pipeline.open(own) as first, Pipeline.open(made.bundle) as second:
        for item in calibration.items[:4]:
            one, other = (each.answer(each.decode(item)) for each in (first, second))
            np.testing.assert_allclose(one["scores"], other["scores"], rtol=1e-4, atol=1e-6)
    own.verify_files()


def test_weights_beyond_float16_are_refused(calibration: Calibration) -> None:
    large = network()
    weight = next(tensor for tensor in large.graph.initializer if tensor.name == "last")
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(1e6), "last"))
    with pytest.raises(NotApplicable, match="beyond what float16 holds"):
        Half().apply(large, calibration)


def test_a_network_in_8_bits_has_no_float16_where_its_scales_are_float32(calibration: Calibration) -> None:
    quantized = StaticInt8().apply(network(), calibration).network
    with pytest.raises(NotApplicable, match="scales of its 8-bit values are float32 before opset 19"):
        Half().apply(quantized, calibration)
    for entry in quantized.opset_import:
        entry.domain = entry.domain or "ai.onnx"  # the same operators by their other name
    with pytest.raises(NotApplicable, match="before opset 19"):
        Half().apply(quantized, calibration)


def test_calibration_data_that_says_nothing(start: Bundle, place: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        read_calibration(start, tmp_path / "missing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotFound, match="no file in"):
        read_calibration(start, tmp_path / "empty")
    few = pictures(tmp_path / "few", 5)
    with pytest.raises(InputError, match="5 items could be read, and at least 8"):
        read_calibration(start, few)
    (tmp_path / "alike").mkdir()
    one = next((few / "red").iterdir()).read_bytes()
    for number in range(10):
        (tmp_path / "alike" / f"{number}.png").write_bytes(one)
    with pytest.raises(InputError, match="all 10 items are alike"):
        read_calibration(start, tmp_path / "alike")
    (tmp_path / "alike" / "other.png").write_bytes(next((few / "blue").iterdir()).read_bytes())
    found = read_calibration(start, tmp_path / "alike")
    assert found.notes == ("to the network only 2 of the 11 items are different ones",)
    some = pictures(tmp_path / "some", 12)
    (some / "red" / "broken.png").write_bytes(b"no picture")
    found = read_calibration(start, some)
    assert len(found.items) == 12 and "broken.png" in found.notes[-1]
    start.verify_files()
