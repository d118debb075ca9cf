"""`modelport bench --profile`: the operators that take the time, by their names in the graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import modelport
from modelport.bundle.store import Bundle
from modelport.optimize.bench.outcome import Bench, StageProfile
from modelport.optimize.bench.run import bench
from modelport.optimize.stages import STAGES

from .benched import QUICK, twice


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return twice(tmp_path_factory.mktemp("operators"))


@pytest.fixture(scope="module")
def found(bundle: Bundle) -> Bench:
    return bench(bundle, **QUICK | {"batches": (1,)}, profile=True)


def test_operators_are_named_as_they_are_in_the_graph(found: Bench) -> None:
    stages = {stage.stage: stage for stage in found.profiles[0].stages}
    assert list(stages) == list(STAGES)
    net = stages["net"]
    assert sum(node.share for node in net.nodes) == pytest.approx(1)
    assert sum(each.share for each in net.types) == pytest.approx(1)
    assert net.operators_ms == pytest.approx(sum(each.ms for each in net.types))
    assert [node.ms for node in net.nodes] == sorted((node.ms for node in net.nodes), reverse=True)
    behind = {node.nodes for node in net.nodes}
    assert ("first", "relu") in behind
    assert ("second",) in behind
    assert all(node.calls == 1 for node in net.nodes)
    assert stages["decode"].note == "native code, no graph"
    assert stages["post"].types


def test_what_runs_within_a_branch_is_counted_once(tmp_path: Path) -> None:
    """`If` lasts as long as what is in it, which the profiler names too."""
    inner = [helper.make_node("MatMul", ["x", "w"], ["p"], name="inner")]
    outer = helper.make_tensor_value_info("p", TensorProto.FLOAT, None)
    branch = helper.make_graph(inner, "yes", [], [outer])
    other = helper.make_graph([helper.make_node("Identity", ["x"], ["q"])], "no", [], [_float("q", None)])
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Greater", ["sum", "least"], ["yes"]),
        helper.make_node("If", ["yes"], ["y"], name="whether", then_branch=branch, else_branch=other),
    ]
    weights = np.random.default_rng(0).random((256, 256), np.float32)
    held = [numpy_helper.from_array(weights, "w")]
    held.append(numpy_helper.from_array(np.array(-1e9, np.float32), "least"))
    graph = helper.make_graph(nodes, "g", [_float("x", ["N", 256])], [_float("y", ["N", 256])], held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "branch.onnx")
    own = modelport.pack(tmp_path / "branch.onnx", out=tmp_path / "repo", recipe="raw")
    found = bench(own, **QUICK, profile=True)
    net = next(stage for stage in found.profiles[0].stages if stage.stage == "net")
    ms = {node.name: node.ms for node in net.nodes}
    assert {"inner", "whether"} <= set(ms)
    assert net.operators_ms == pytest.approx(sum(ms.values()))
    assert net.operators_ms < net.ms * 1.2, "what is within the branch was counted twice"


def test_a_stage_without_a_graph_says_so(found: Bench) -> None:
    stage: StageProfile = found.profiles[0].stages[0]
    assert (stage.stage, stage.types, stage.nodes) == ("decode", (), ())


def test_openvino_is_measured_beside_onnxruntime(bundle: Bundle) -> None:
    pytest.importorskip("openvino", reason="openvino is not installed: pip install 'modelport[openvino]'")
    asked = {"runtimes": ("onnxruntime", "openvino"), "variants": ("packed",), "batches": (2,)}
    found = bench(bundle, **QUICK | asked, profile=True)
    assert [form.title for form in found.forms] == ["onnxruntime packed", "openvino packed"]
    assert found.points[1].latency_ratio is not None
    assert found.versions.keys() >= {"onnxruntime", "openvino"}
    net = next(stage for stage in found.profiles[1].stages if stage.stage == "net")
    assert {node.nodes for node in net.nodes} >= {("first",), ("second",)}
    assert all(node.calls == 1 and node.implementation for node in net.nodes)


def _float(name: str, shape: list[int | str] | None) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
