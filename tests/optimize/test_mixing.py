"""Layers that 8 bits ruin are put back to float, those that the ranking named, also after an interruption."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import modelport
from modelport.bundle.store import Bundle
from modelport.errors import ModelFailed
from modelport.optimize import mixed, sensitivity
from modelport.optimize import search as searching
from modelport.optimize.candidate import Candidate, network_of
from modelport.optimize.clock import Clock, silent
from modelport.optimize.outcome import Entry
from modelport.optimize.passes.int8 import StaticInt8
from modelport.optimize.plan import Plan
from modelport.optimize.rewriting import named
from modelport.optimize.search import Search
from modelport.optimize.sensitivity import Layer

from .networks import CHANNELS, LABELS, RECIPE

PLAN = Plan(gate="estimate", margin=2.0)


def network() -> onnx.ModelProto:
    """Colours again; the weights of `mix` have a large one each, of a channel that is always 0.

    Beside it the others are too small for 8 bits. `first` is folded for ONNX Runtime: its stride is 2.
    """
    random = np.random.default_rng(3)
    first = random.normal(0, 0.05, (CHANNELS, 3, 3, 3)).astype(np.float32)
    second = random.normal(0, 0.02, (CHANNELS, CHANNELS, 3, 3)).astype(np.float32)
    mix = random.normal(0, 0.02, (CHANNELS, CHANNELS, 1, 1)).astype(np.float32)
    for channel in range(CHANNELS):
        first[channel, channel % 3, 1, 1] += 1.0
        second[channel, channel, 1, 1] += 1.0
        mix[channel, channel, 0, 0] += 1.0
    second[0], mix[:, 0] = 0, 1000
    last = np.zeros((CHANNELS, 3), np.float32)
    last[np.arange(CHANNELS), np.arange(CHANNELS) % 3] = 1.5
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], name="first", pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["a"], ["b"], name="relu"),
        helper.make_node("Conv", ["b", "w2"], ["c"], name="second", pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["c", "w3"], ["d"], name="mix"),
        helper.make_node("GlobalAveragePool", ["d"], ["mean"], name="mean"),
        helper.make_node("Flatten", ["mean"], ["flat"], name="flat"),
        helper.make_node("MatMul", ["flat", "w4"], ["logits"], name="last"),
    ]
    weights = {"w1": first, "w2": second, "w3": mix, "w4": last}
    graph = helper.make_graph(
        nodes,
        "mixed",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 16, 16])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture(scope="module")
def start(place: Path) -> Bundle:
    onnx.save(network(), place / "mixed.onnx")
    (place / "mixed.toml").write_text(RECIPE)
    return modelport.pack(
        place / "mixed.onnx", out=place / "repo", recipe=place / "mixed.toml", labels=LABELS
    )


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """The networks alone, judged and not measured."""
    monkeypatch.setattr(Search, "bases", lambda self: iter(()))
    monkeypatch.setattr(searching, "ways", lambda candidate: iter(()))
    monkeypatch.setattr(Search, "_measured", lambda self: self.entries)


def searched(
    search: Search, step: StaticInt8, monkeypatch: pytest.MonkeyPatch
) -> tuple[dict[str, Entry], dict[str, Candidate]]:
    monkeypatch.setattr(Search, "passes", lambda self: iter([step]))
    entries, made = search.run()
    return {entry.id: entry for entry in entries}, made


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_the_layer_that_8_bits_ruin_is_put_back(
    runtime: str, start: Bundle, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if runtime == "openvino":
        pytest.importorskip("openvino", reason="openvino is not installed: pip install 'modelport[openvino]'")
    step = StaticInt8(runtime=runtime)  # type: ignore[arg-type]
    found, made = searched(Search(start, data, data, tmp_path, PLAN, silent), step, monkeypatch)
    assert found[step.id].status == "refused"
    mended = StaticInt8(runtime=runtime, kept=("mix",))  # type: ignore[arg-type]
    assert found[mended.id].status == "kept" and found[mended.id].title == mended.title
    recipe = found[mended.id].recipe
    assert recipe is not None and list(recipe.fields["kept"]) == ["mix"]
    assert made[mended.id].runtime == runtime


@pytest.mark.parametrize("failing", [1, 4])
def test_a_layer_that_cannot_be_tried_is_left_out(
    failing: int, start: Bundle, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = sensitivity._outputs
    tried: list[int] = []

    def outputs(network: onnx.ModelProto, batches: list[dict[str, np.ndarray]]) -> list[np.ndarray]:
        if any(node.op_type == "DequantizeLinear" for node in network.graph.node):
            tried.append(len(batches))
            if len(tried) <= failing:
                raise ModelFailed("this product is not there")
        return original(network, batches)

    monkeypatch.setattr(sensitivity, "_outputs", outputs)
    search = Search(start, data, data, tmp_path, PLAN, silent)
    found, _ = searched(search, StaticInt8(), monkeypatch)
    none = "no layers were put back to float: no layer of static-int8-minmax-u8s8 can be tried alone"
    assert len(tried) == 4 and ("static-int8-minmax-u8s8-keep1" in found) is (failing < 4)
    assert (none in search.notes) is (failing == 4)


def test_what_stops_the_ranking_is_a_note(
    start: Bundle, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX Runtime has exceptions of its own."""

    def fails(*given: object) -> None:
        raise RuntimeError("type mismatch\nin a graph")

    monkeypatch.setattr(mixed, "layers", fails)
    search = Search(start, data, data, tmp_path, PLAN, silent)
    searched(search, StaticInt8(), monkeypatch)
    assert "no layers were put back to float: RuntimeError: type mismatch" in search.notes


def test_sizes_that_the_end_needs_are_no_outputs_to_compare() -> None:
    """The batch's size goes into a Reshape before the layers and into one behind them."""
    weight = numpy_helper.from_array(np.eye(4, dtype=np.float32), "w")
    constants = [
        numpy_helper.from_array(np.array(value, np.int64), name)
        for name, value in (("zero", [0]), ("one", [1]), ("rest", [-1]))
    ]
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Slice", ["shape", "zero", "one"], ["count"]),
        helper.make_node("Concat", ["count", "rest"], ["flat"], axis=0),
        helper.make_node("Reshape", ["x", "flat"], ["rows"]),
        helper.make_node("MatMul", ["rows", "w"], ["product"], name="layer"),
        helper.make_node("Sigmoid", ["product"], ["sigmoid"]),
        helper.make_node("Reshape", ["sigmoid", "flat"], ["again"]),
        helper.make_node("Mul", ["again", "again"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "sizes",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4])],
        [weight, *constants],
    )
    network = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    own = sensitivity._up_to_tail(named(network))
    assert [value.name for value in own.graph.output] == ["product"]
    (found,) = sensitivity._outputs(own, [{"x": np.ones((1, 2, 2), np.float32)}])
    assert found.tolist() == [1, 1, 1, 1]


def test_a_search_that_goes_on_puts_the_same_layers_back(
    start: Bundle, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["mix", "first", "second", "last"]
    for order in (names, names[::-1]):  # times differ from run to run, and the ranking with them
        ranking = [Layer(name, 1.0, 1.0) for name in order]
        monkeypatch.setattr(mixed, "layers", lambda *given, ranking=ranking: ranking)
        search = Search(start, data, data, tmp_path, PLAN, silent)
        found, _ = searched(search, StaticInt8(), monkeypatch)
        recipe = found["static-int8-minmax-u8s8-keep1"].recipe
        assert recipe is not None and list(recipe.fields["kept"]) == ["mix"]
        search.found._left()


def test_as_many_other_layers_are_another_candidate(start: Bundle, data: Path, tmp_path: Path) -> None:
    for kept, status in (("second", "refused"), ("mix", "kept"), ("second", "refused")):
        search = Search(start, data, data, tmp_path, PLAN, silent)
        entry = search.tried(StaticInt8(kept=(kept,)), search.start)
        assert (entry.id, entry.status) == ("static-int8-minmax-u8s8-keep1", status)
        kernel = {"second": "w2", "mix": "w3"}[kept]
        tensors = {each.name for each in network_of(search.made[entry.id].bundle).graph.initializer}
        assert kernel in tensors  # in float
        search.found._left()


def test_without_time_it_is_said_what_was_not_tried(
    start: Bundle, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = Search(start, data, data, tmp_path, PLAN, silent)
    search.tried(StaticInt8(), search.start)
    monkeypatch.setattr(Clock, "over", property(lambda self: True))
    search._mix([StaticInt8()], search.start)
    search._other_ways([], search.start)
    said = ("no layers were put back to float", "no other runtimes, settings or smaller photos were tried")
    assert [note.partition(": ")[0] for note in search.notes[-2:]] == list(said)
    assert all(search.clock.late in note for note in search.notes[-2:])
