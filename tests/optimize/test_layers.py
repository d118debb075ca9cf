"""Ranges and layers: extremes and distributions, what is behind the last layers, the fewest in float."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from modelport.optimize.calibration import Calibration
from modelport.optimize.mixed import fewest, most
from modelport.optimize.passes.int8 import StaticInt8
from modelport.optimize.ranges import NotFinite, Range, ranges
from modelport.optimize.sensitivity import Layer
from modelport.optimize.tail import behind, heads
from modelport.runtimes.onnxruntime import OnnxRuntime


def graph(
    nodes: list[onnx.NodeProto], inputs: list[str], outputs: list[str], **weights: object
) -> onnx.ModelProto:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 4, "H", "W"]) for name in inputs]
    made = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    tensors = [
        numpy_helper.from_array(np.asarray(array, np.float32), name) for name, array in weights.items()
    ]
    whole = helper.make_graph(nodes, "g", values, made, tensors)
    model = helper.make_model(whole, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return onnx.shape_inference.infer_shapes(model)


def node(kind: str, taken: str, given: str, **attributes: object) -> onnx.NodeProto:
    return helper.make_node(kind, taken.split(), given.split(), name=given.split()[0], **attributes)


def calibration(*items: np.ndarray) -> Calibration:
    prepared = tuple({"x": item.astype(np.float32)} for item in items)
    return Calibration(tuple(map(str, range(len(items)))), (b"",) * len(items), prepared)


def detector() -> onnx.ModelProto:
    """Two heads; scores by sigmoid, boxes by a sum and a mean over a distribution."""
    kernel = np.random.default_rng(0).normal(0, 0.3, (4, 4, 1, 1))
    return graph(
        [
            node("Conv", "x body", "a"),
            node("Relu", "a", "b"),
            node("Conv", "b head", "score"),
            node("Conv", "b head", "box"),
            node("Sigmoid", "score", "sure"),
            node("Softmax", "box", "shares", axis=1),
            node("Conv", "shares mean", "side"),
            node("Mul", "side stride", "pixels"),
        ],
        ["x"],
        ["sure", "pixels"],
        body=kernel,
        head=kernel,
        mean=np.ones((1, 4, 1, 1)),
        stride=640.0,
    )


def test_what_is_behind_the_last_layers() -> None:
    assert behind(detector()) == ("sure", "shares", "side", "pixels")
    assert heads(detector()) == ("score", "box")
    plain = graph(
        [node("Conv", "x k", "a"), node("Relu", "a", "b"), node("GlobalAveragePool", "b", "c")],
        ["x"],
        ["c"],
        k=np.ones((4, 4, 1, 1)),
    )
    assert behind(plain) == ("c",) and heads(plain) == ()
    nameless = graph(
        [
            helper.make_node("Clip", ["x", "", "top"], ["six"], name="six"),
            node("Conv", "six k", "a"),
            helper.make_node("MaxPool", ["a"], ["pooled", ""], name="pooled", kernel_shape=[2, 2]),
        ],
        ["x"],
        ["pooled"],
        k=np.ones((4, 4, 1, 1)),
        top=6.0,
    )
    assert behind(nameless) == ("pooled",)


def test_boxes_and_scores_stay_float() -> None:
    items = [np.random.default_rng(seed).normal(0, 1, (4, 8, 8)) for seed in range(12)]
    made = StaticInt8().apply(detector(), calibration(*items)).network
    rounded = {each.input[0] for each in made.graph.node if each.op_type == "QuantizeLinear"}
    assert rounded and not rounded & {"sure", "shares", "side", "pixels"}
    batch = {"x": np.stack(items).astype(np.float32)}
    one, other = (OnnxRuntime().open(each.SerializeToString()).run(batch) for each in (detector(), made))
    assert np.abs(one["pixels"] - other["pixels"]).max() < 0.02 * 640
    assert np.abs(one["sure"] - other["sure"]).max() < 0.02


def test_extremes_are_exact_and_outliers_are_cut() -> None:
    network = graph([node("Identity", "x", "y")], ["x"], ["y"])
    items = [np.random.default_rng(seed).normal(0, 1, (4, 64, 64)) for seed in range(16)]
    items[3][0, 0, 0] = 1000.0
    items[5][0, 0, 0] = -2.0 * 8
    data = calibration(*items)
    assert ranges(network, "minmax", data)["x"] == Range(-16.0, 1000.0)
    for calibrator in ("percentile", "entropy"):
        found = ranges(network, calibrator, data)["x"]  # type: ignore[arg-type]
        assert 3 < found.high < 1000 and -16 <= found.low < -3
    whole = graph([node("Relu", "x", "y")], ["x"], ["y"])
    positive = ranges(whole, "entropy", calibration(*items[6:]))["y"]
    assert positive.low == 0
    # However many zeros there are: where one cuts does not hang on them.
    sparse = [np.where(np.random.default_rng(3).random(each.shape) < 0.05, each, -1.0) for each in items[6:]]
    few = ranges(whole, "entropy", calibration(*sparse))["y"]
    assert few.low == 0 and few.high > 0.7 * positive.high


def test_the_chance_in_few_numbers_is_no_reason_to_cut() -> None:
    """Some twelve thousand in 2048 bins: that neighbours differ says nothing of where to cut."""
    item = np.random.default_rng(1).gamma(0.5, 1, (4, 625, 5))
    network = graph([node("Relu", "x", "y")], ["x"], ["y"])
    found = ranges(network, "entropy", calibration(item))["y"]
    assert found.high > np.quantile(item, 0.999)


def test_every_column_is_counted() -> None:
    """Of so many numbers every eighth would do, were the rows not of eight."""
    item = np.random.default_rng(1).uniform(-1, 1, (4, 8192, 8))
    item[..., 3] *= 100
    found = ranges(graph([node("Identity", "x", "y")], ["x"], ["y"]), "percentile", calibration(item))
    assert 99 < found["y"].high <= 100


def test_items_are_not_copied_all_at_once() -> None:
    data = calibration(*np.random.default_rng(0).normal(0, 1, (64, 4, 128, 128)))
    assert [len(group) for group in data.groups(24)] == [24, 24, 16]
    assert data.groups(24)[2][15] is data.prepared[63]
    tracemalloc.start()
    try:
        ranges(graph([node("Identity", "x", "y")], ["x"], ["y"]), "percentile", data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < sum(item["x"].nbytes for item in data.prepared) / 2


def test_a_range_without_end_is_refused() -> None:
    network = graph([node("Log", "x", "y")], ["x"], ["y"])
    with pytest.raises(NotFinite, match="y is infinite"):
        ranges(network, "minmax", calibration(np.zeros((4, 8, 8)), np.ones((4, 8, 8))))


def test_the_fewest_layers_are_found_by_halves() -> None:
    asked: list[int] = []

    def passes(count: int) -> bool:
        asked.append(count)
        return count >= 11

    assert fewest(40, passes) == 11
    assert len(asked) <= 7
    assert fewest(10, passes) is None and fewest(0, passes) is None
    assert fewest(40, lambda count: True) == 1
    layers = [Layer(str(place), 1.0, milliseconds) for place, milliseconds in enumerate((5.0, 3.0, 1.0, 1.0))]
    assert most(layers) == 1


def test_work_that_was_cut_off_is_done_again(tmp_path: Path) -> None:
    from modelport.optimize.found import Found, key_of
    from modelport.optimize.judge import Judgement

    found = Found(tmp_path / "work")
    said = Judgement(
        by="agreement", metric="agreement", start=1, value=1, loss=0, low=0, high=0, verdict="passes", items=9
    )
    assert found.judgement("a", "of", lambda: said) == said
    assert found.judgement("a", "of", lambda: pytest.fail("it is there")) == said  # type: ignore[arg-type]
    (tmp_path / "work" / "of" / "a.judgement.json").write_text('{"by": "agree')
    assert found.judgement("a", "of", lambda: said) == said
    found.forget()
    assert not (tmp_path / "work").exists()
    assert key_of("a", 1) == key_of("a", 1) != key_of("a", 2)
