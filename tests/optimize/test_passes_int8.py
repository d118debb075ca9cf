"""How 8-bit values are placed: folded pictures, one scale around what moves values, OpenVINO."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from modelport.errors import Unsupported
from modelport.optimize.calibration import Calibration
from modelport.optimize.candidate import NotApplicable
from modelport.optimize.explain import fused
from modelport.optimize.passes.fold import folded
from modelport.optimize.passes.int8 import StaticInt8
from modelport.optimize.passes.offline import rewritten
from modelport.optimize.passes.single import only
from modelport.optimize.passes.swish import shown
from modelport.optimize.passes.ties import tied
from modelport.optimize.ranges import Range
from modelport.optimize.sensitivity import layers
from modelport.runtimes.onnxruntime import OnnxRuntime
from modelport.runtimes.openvino import OpenVinoRuntime
from modelport.tensors import Array


def stem(size: int, kernel: int, pads: list[int], *, swish: bool = False) -> onnx.ModelProto:
    """A convolution of stride 2 over a picture, and another one behind it."""
    random = np.random.default_rng(kernel)
    weights = {
        "w": random.normal(0, 0.2, (8, 3, kernel, kernel)).astype(np.float32),
        "b": random.normal(0, 0.2, 8).astype(np.float32),
        "v": random.normal(0, 0.3, (8, 8, 1, 1)).astype(np.float32),
    }
    between = [helper.make_node("Relu", ["a"], ["r"], name="relu")]
    if swish:
        between = [
            helper.make_node("Sigmoid", ["a"], ["s"], name="sigmoid"),
            helper.make_node("Mul", ["a", "s"], ["r"], name="mul"),
        ]
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["a"], name="stem", strides=[2, 2], pads=pads),
        *between,
        helper.make_node("Conv", ["r", "v"], ["y"], name="next"),
    ]
    graph = helper.make_graph(
        nodes,
        "stem",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, size, size])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 8, "h", "w"])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def items(size: int, count: int = 8) -> Calibration:
    random = np.random.default_rng(0)
    prepared = tuple({"x": random.random((3, size, size), np.float32)} for _ in range(count))
    return Calibration(tuple(map(str, range(count))), (), prepared)


def answer(network: onnx.ModelProto, batch: Array) -> Array:
    return OnnxRuntime().open(network.SerializeToString()).run({"x": batch})["y"]


@pytest.mark.parametrize("size", [16, 17])
@pytest.mark.parametrize(
    ("kernel", "pads"),
    [(6, [2] * 4), (3, [0] * 4), (3, [1] * 4), (3, [0, 0, 1, 1]), (7, [3] * 4), (5, [2] * 4)],
)
def test_folded_pixels_give_the_same_sums(kernel: int, pads: list[int], size: int) -> None:
    network = stem(size, kernel, pads)
    before = network.SerializeToString()
    made, said = StaticInt8().ready(network)
    assert network.SerializeToString() == before
    onnx.checker.check_model(made)
    assert "at stride 2 is one of 12x" in said[0]
    batch = np.random.default_rng(1).random((2, 3, size, size), np.float32)
    np.testing.assert_allclose(answer(made, batch), answer(network, batch), rtol=1e-4, atol=1e-5)


def test_what_cannot_be_folded_is_left_alone() -> None:
    assert folded(stem(16, 3, [1] * 4), kept=["stem"]) == []
    left_out = stem(17, 2, [0] * 4)
    assert folded(left_out) == []  # of 17 pixels the last is not looked at
    older = stem(16, 3, [1] * 4)
    older.opset_import[0].version = 12
    assert folded(older) == []
    unknown = stem(16, 3, [1] * 4)
    unknown.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"
    assert folded(unknown) == []


@pytest.mark.parametrize("size", [16, 17])
def test_eight_bits_are_folded_after_they_are_rounded(size: int) -> None:
    network, calibration, step = stem(size, 3, [1] * 4), items(size), StaticInt8()
    made = step.apply(network, calibration)
    kinds = [node.op_type for node in made.network.graph.node]
    moved = ["Pad"] * (size % 2) + ["SpaceToDepth"]
    assert kinds[kinds.index(moved[0]) - 1] == "QuantizeLinear"
    assert kinds[kinds.index(moved[0]) :][: len(moved)] == moved
    whole = fused(made.network.SerializeToString())
    assert (whole.integer, whole.floating, whole.pairs) == (2, (), 2)  # the picture's and the answer's
    batch = np.stack([item["x"] for item in calibration.prepared])
    want = answer(network, batch)
    assert float(np.abs(answer(made.network, batch) - want).max()) < 0.05 * float(np.abs(want).max())
    own, _ = step.ready(network)
    alone = only(own, made.network, "stem")
    assert alone is not None
    assert float(np.abs(answer(alone, batch) - want).max()) < 0.05 * float(np.abs(want).max())
    assert {layer.name for layer in layers(own, made.network, calibration)} == {"stem", "next"}


@pytest.mark.parametrize("groups", [1, 4])
def test_biases_take_off_what_rounding_adds(groups: int) -> None:
    """Kernels with one large weight each lose the small ones: the means of what they gave come back."""
    random = np.random.default_rng(2)
    kernels = random.uniform(0.001, 0.003, (8, 8 // groups, 3, 3)).astype(np.float32)
    kernels[:, 0, 0, 0] = 1.0
    nodes = [helper.make_node("Conv", ["x", "w", "b"], ["y"], name="conv", group=groups)]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 8, 12, 12])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 8, 10, 10])],
        [numpy_helper.from_array(kernels, "w"), numpy_helper.from_array(np.zeros(8, np.float32), "b")],
    )
    network = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    prepared = tuple({"x": random.random((8, 12, 12), np.float32) + 1} for _ in range(8))
    calibration = Calibration(tuple(map(str, range(8))), (), prepared)
    batch = np.stack([item["x"] for item in prepared])
    made = StaticInt8().apply(network, calibration).network
    plain = onnx.ModelProto()
    plain.CopyFrom(made)
    bias = next(tensor for tensor in plain.graph.initializer if tensor.name.startswith("b_quantized"))
    bias.CopyFrom(numpy_helper.from_array(np.zeros(8, np.int32), bias.name))
    want = answer(network, batch).mean(axis=(0, 2, 3))
    lost = [float(np.abs(answer(each, batch).mean(axis=(0, 2, 3)) - want).max()) for each in (plain, made)]
    assert lost[1] < 0.2 * lost[0]


def test_one_scale_around_what_moves_values_unless_one_is_much_smaller() -> None:
    nodes = [
        helper.make_node("Concat", ["a", "b"], ["ab"], axis=1),
        helper.make_node("MaxPool", ["ab"], ["p"], kernel_shape=[2, 2]),
        helper.make_node("Concat", ["p", "small"], ["all"], axis=1),
        helper.make_node("Add", ["all", "other"], ["y"]),
    ]
    network = helper.make_model(helper.make_graph(nodes, "g", [], []))
    seen = {
        "a": Range(-1, 2),
        "b": Range(0, 3),
        "ab": Range(-1, 3),
        "p": Range(0, 3),
        "small": Range(0, 0.5),
        "all": Range(0, 3),
        "other": Range(0, 9),
        "y": Range(0, 12),
    }
    found = tied(network, seen)
    assert {name for name in seen if found[name] == Range(-1, 3)} == {"a", "b", "ab", "p"}
    assert all(found[name] == seen[name] for name in ("small", "all", "other", "y"))
    network.graph.node[0].name = "join"
    alone = tied(network, seen, ["join"])
    assert alone["a"] == seen["a"] and alone["b"] == seen["b"] and alone["p"] == Range(-1, 3)


@pytest.mark.parametrize("kind", ["Swish", "HardSwish"])
def test_what_goes_into_a_swish_is_kept_as_far_as_its_result_shows_it(kind: str) -> None:
    parts = [
        helper.make_node("Sigmoid", ["x"], ["s"], name="gate"),
        helper.make_node("Mul", ["s", "x"], ["y"], name="swish"),
    ]
    if kind == "HardSwish":
        parts = [helper.make_node("HardSwish", ["x"], ["y"], name="swish")]
    network = helper.make_model(helper.make_graph(parts, "g", [], []))
    seen = {"x": Range(-1200.0, 30.0), "s": Range(0.0, 1.0), "y": Range(-0.28, 10.0)}
    found = shown(network, seen)
    assert (found["s"], found["y"]) == (seen["s"], seen["y"])
    low = found["x"].low
    assert found["x"].high == 30
    if kind == "HardSwish":
        assert low == pytest.approx(-3, abs=0.5)
    else:  # where the result is a quarter of one of its 255 steps
        assert -low / (1 + np.exp(-low)) == pytest.approx(10.28 / 255 / 4, rel=0.3)
    small = seen | {"x": Range(-1.0, 30.0)}
    assert shown(network, small)["x"].low == -1.0
    assert shown(network, seen, ["swish"]) == seen
    given = onnx.ModelProto()
    given.CopyFrom(network)
    given.graph.output.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, None))
    network.graph.node.append(helper.make_node("Add", ["x", "y"], ["z"], name="beside"))
    assert shown(network, seen) == seen == shown(given, seen)  # somebody else takes it as it is


def test_a_swish_behind_large_negative_numbers_keeps_its_eight_bits() -> None:
    network, calibration = stem(16, 3, [1] * 4, swish=True), items(16, 16)
    biases = network.graph.initializer[1]
    values = numpy_helper.to_array(biases).copy()
    values[0] = -200.0
    biases.CopyFrom(numpy_helper.from_array(values, "b"))
    batch = np.stack([item["x"] for item in calibration.prepared])
    want = answer(network, batch)
    made = answer(StaticInt8().apply(network, calibration).network, batch)
    assert float(np.abs(made - want).max()) < 0.05 * float(np.abs(want).max())


def test_for_openvino_activations_stay_with_their_layer() -> None:
    pytest.importorskip("openvino", reason="openvino is not installed: pip install 'modelport[openvino]'")
    network, calibration = stem(16, 3, [1] * 4, swish=True), items(16)
    step = StaticInt8(runtime="openvino")
    made = step.apply(network, calibration)
    assert (step.id, made.runtime, made.machine_bound) == (
        "static-int8-minmax-u8s8-openvino",
        "openvino",
        True,
    )
    made_by = {name: node for node in made.network.graph.node for name in node.output}
    assert made_by["s"].op_type == "Sigmoid" and made_by["s"].input[0] == "a"
    session = OpenVinoRuntime().open(made.network.SerializeToString(), profile=True)
    batch = np.stack([item["x"] for item in calibration.prepared])
    want = answer(network, batch)
    assert float(np.abs(session.run({"x": batch})["y"] - want).max()) < 0.05 * float(np.abs(want).max())
    kernels = {kernel for _, kind, kernel, _ in session.profile() if kind == "Convolution"}
    assert kernels and all(kernel.endswith("I8") for kernel in kernels)
    plain = step.apply(stem(16, 3, [1] * 4), calibration).network
    assert "SpaceToDepth" not in [node.op_type for node in plain.graph.node]  # which it gains nothing by
    np.testing.assert_array_equal(answer(plain, batch).shape, want.shape)


def test_planes_that_come_last_are_not_moved() -> None:
    """8-bit convolutions have them last; the Transpose behind them goes away, the picture's stays."""
    network, calibration = stem(16, 3, [1] * 4), items(16)
    network.graph.node.append(helper.make_node("Transpose", ["y"], ["z"], name="turn", perm=[0, 2, 3, 1]))
    network.graph.output[0].CopyFrom(helper.make_tensor_value_info("z", TensorProto.FLOAT, ["N", 8, 8, 8]))
    made = StaticInt8().apply(network, calibration)
    kinds = [node.op_type for node in rewritten(made.network, {}).graph.node]
    assert kinds.count("Transpose") == 1
    assert kinds.index("Transpose") < kinds.index("QLinearConv")


def test_without_openvino_there_is_nothing_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def describe(self: OpenVinoRuntime) -> str:
        raise Unsupported("openvino is not installed here", hint="pip install 'modelport[openvino]'")

    monkeypatch.setattr(OpenVinoRuntime, "describe", describe)
    with pytest.raises(NotApplicable, match=r"not installed here; pip install 'modelport\[openvino\]'"):
        StaticInt8(runtime="openvino").apply(stem(16, 3, [1] * 4, swish=True), items(16))


def test_the_tests_network_is_not_folded_by_accident(tmp_path: Path) -> None:
    """Its convolutions have stride 1."""
    from .networks import network

    assert folded(network()) == []
