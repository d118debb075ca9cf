"""Other passes: ONNX Runtime's rewriting kept, weights alone in 8 bits, low rank, and third parties'."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from modelport import plugins
from modelport.importers.canonical import check
from modelport.optimize import passes
from modelport.optimize.calibration import Calibration
from modelport.optimize.candidate import NotApplicable
from modelport.optimize.passes.low_rank import LowRank
from modelport.optimize.passes.offline import Offline
from modelport.optimize.passes.simplify import Simplify
from modelport.optimize.passes.weights import WeightOnly
from modelport.runtimes.onnxruntime import OnnxRuntime
from modelport.tensors import Array

from .networks import network as colours

NOTHING = Calibration((), (), ())


def dense(rank: int | None = None) -> onnx.ModelProto:
    """A 1x1 convolution with batch normalisation, a Gemm and a MatMul, of `rank` or of full rank."""
    random = np.random.default_rng(0)

    def matrix(inputs: int, outputs: int) -> Array:
        if rank is None:
            return random.normal(0, inputs**-0.5, (inputs, outputs)).astype(np.float32)
        thin = random.normal(0, 1, (inputs, rank)) @ random.normal(0, 1, (rank, outputs))
        return (thin * (inputs * rank) ** -0.5).astype(np.float32)

    arrays = {
        "conv": matrix(64, 256).T[:, :, None, None].copy(),
        **{name: random.uniform(0.5, 1.5, 256).astype(np.float32) for name in ("g", "b", "m", "v")},
        "gemm": matrix(256, 512).T.copy(),
        "bias": random.normal(0, 1, 512).astype(np.float32),
        "last": matrix(512, 256),
    }
    nodes = [
        helper.make_node("Conv", ["x", "conv"], ["a"], name="conv", strides=[2, 2]),
        helper.make_node("BatchNormalization", ["a", "g", "b", "m", "v"], ["n"], name="norm"),
        helper.make_node("Relu", ["n"], ["r"], name="relu"),
        helper.make_node("GlobalAveragePool", ["r"], ["p"], name="mean"),
        helper.make_node("Flatten", ["p"], ["f"], name="flat"),
        helper.make_node("Gemm", ["f", "gemm", "bias"], ["h"], name="gemm", transB=1),
        helper.make_node("Relu", ["h"], ["k"], name="relu2"),
        helper.make_node("MatMul", ["k", "last"], ["y"], name="last"),
    ]
    graph = helper.make_graph(
        nodes,
        "dense",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 64, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 256])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def answer(network: onnx.ModelProto) -> Array:
    batch = np.random.default_rng(1).random((3, 64, 8, 8), np.float32)
    return OnnxRuntime().open(network.SerializeToString()).run({"x": batch})["y"]


def test_what_onnxruntime_rewrites_is_kept_and_said() -> None:
    network = dense()
    made = Offline().apply(network, NOTHING)
    check(made.network)
    assert not made.machine_bound
    assert {node.domain for node in made.network.graph.node} == {""}
    np.testing.assert_allclose(answer(made.network), answer(network), rtol=1e-4, atol=1e-5)
    told, loaded = made.notes
    assert told.startswith("8 nodes became ") and "without 1 BatchNormalization" in told
    assert "1 FusedConv" in loaded and "Relu within its layer" in loaded
    with pytest.raises(NotApplicable, match=r"nothing to rewrite beforehand; when it is loaded, .*FusedConv"):
        Offline().apply(made.network, NOTHING)


@pytest.mark.parametrize(("bits", "tolerance", "bytes_"), [(8, 0.01, 0.4), (4, 0.15, 0.3)])
def test_weights_alone_are_rounded(bits: int, tolerance: float, bytes_: float) -> None:
    network = dense()
    before = network.SerializeToString()
    made = WeightOnly(bits=bits).apply(network, NOTHING)  # type: ignore[arg-type]
    assert network.SerializeToString() == before
    check(made.network)
    assert sum(node.op_type == "MatMulNBits" for node in made.network.graph.node) == 2
    want = answer(network)
    difference = float(np.abs(answer(made.network) - want).max())
    assert 0 < difference < tolerance * float(np.abs(want).max())
    assert made.network.ByteSize() < bytes_ * network.ByteSize()
    assert made.notes[0].startswith("2 of 2 matrices")


def test_small_matrices_stay_as_they_are() -> None:
    with pytest.raises(NotApplicable, match="no matrix product has 65536 weights"):
        WeightOnly().apply(colours(), NOTHING)
    with pytest.raises(NotApplicable, match="has 16384 weights of float32 or more"):
        LowRank().apply(colours(), NOTHING)


def test_low_rank_is_found_where_it_is() -> None:
    network = dense(rank=12)
    made = LowRank(0.9999999).apply(network, NOTHING)
    check(made.network)
    np.testing.assert_allclose(answer(made.network), answer(network), rtol=1e-3, atol=1e-3)
    (told,) = made.notes
    assert told.startswith("3 of 3 large matrices")
    shapes = {tensor.name: list(tensor.dims) for tensor in made.network.graph.initializer}
    assert shapes["conv/first"] == [12, 64, 1, 1] and shapes["gemm/second"] == [12, 512]
    assert made.network.ByteSize() < 0.3 * network.ByteSize()
    with pytest.raises(NotApplicable, match="none of 3 large matrices"):
        LowRank().apply(dense(), NOTHING)


def test_a_third_party_has_a_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    class Plan:
        portable = False

    target = "modelport.optimize.passes.simplify:Simplify"
    monkeypatch.setitem(plugins.BUILT_IN["passes"], "theirs", target)
    plugins.table.cache_clear()
    try:
        found = list(passes.catalogue(Plan()))
    finally:
        monkeypatch.undo()
        plugins.table.cache_clear()
    assert isinstance(found[-1], Simplify)
    assert len({step.id for step in found}) == len(found)
    portable = Plan()
    portable.portable = True
    tried = {step.id: step for step in passes.catalogue(portable)}
    assert not any("u8s8" in name and "reduced" not in name for name in tried)
    signed = {f"static-int8-{each}-u8s8-reduced" for each in ("minmax", "percentile", "entropy")}
    signed.add("dynamic-int8-reduced")
    assert signed <= tried.keys()
    random = np.random.default_rng(0)
    prepared = tuple({"x": random.random((3, 16, 16), np.float32)} for _ in range(8))
    calibration = Calibration(tuple(map(str, range(8))), (b"",) * 8, prepared)
    for name, step in tried.items():
        try:
            made = step.apply(colours(), calibration).network
        except NotApplicable:
            continue
        tensors = [each for each in made.graph.initializer if each.data_type == TensorProto.INT8]
        largest = max((int(np.abs(numpy_helper.to_array(each)).max()) for each in tensors), default=0)
        assert largest <= 64, name  # two products with 255 fit into 16 bits
        assert (name in signed) is (largest > 0)
