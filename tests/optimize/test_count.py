"""Multiply-adds from shapes: what is counted, what is not, and what is said where a shape is unknown."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from modelport.errors import InputError
from modelport.optimize.count import count


def network(
    nodes: list[onnx.NodeProto], inputs: dict[str, list[int | str]], weights: dict[str, tuple[int, ...]]
) -> onnx.ModelProto:
    """The last node's output is the graph's; weights are zeros, of int8 where the name ends in 8."""
    given = [helper.make_tensor_value_info(name, TensorProto.FLOAT, dims) for name, dims in inputs.items()]
    taken = nodes[-1].output[0]
    arrays = [
        numpy_helper.from_array(np.zeros(dims, np.int8 if name.endswith("8") else np.float32), name)
        for name, dims in weights.items()
    ]
    made = helper.make_tensor_value_info(taken, TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "g", given, [made], arrays)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def total(nodes: list[onnx.NodeProto], size: list[int | str], **weights: tuple[int, ...]) -> int:
    return count(network(nodes, {"x": size}, weights)).total


def test_a_convolution_is_its_output_times_what_each_element_takes() -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1], strides=[2, 2])
    assert total([node], ["batch", 3, 32, 32], w=(8, 3, 3, 3)) == 16 * 16 * 8 * 3 * 9


def test_groups_take_their_own_channels_only() -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"], group=6)
    assert total([node], [1, 6, 10, 10], w=(6, 1, 3, 3)) == 8 * 8 * 6 * 9


def test_a_transposed_convolution_is_its_input_times_what_each_element_gives_to() -> None:
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"], strides=[2, 2])
    assert total([node], [1, 4, 5, 5], w=(4, 7, 2, 2)) == 4 * 5 * 5 * 7 * 2 * 2


def test_matrices() -> None:
    gemm = helper.make_node("Gemm", ["x", "w"], ["y"], transB=1)
    assert total([gemm], ["n", 20], w=(5, 20)) == 100
    turned = helper.make_node("Gemm", ["x", "w"], ["y"], transA=1)
    assert total([turned], [20, 3], w=(20, 5)) == 3 * 20 * 5
    product = helper.make_node("MatMul", ["x", "w"], ["y"])
    assert total([product], ["n", 7, 20], w=(20, 5)) == 7 * 20 * 5
    assert total([product], ["n", 4, 7, 20], w=(20, 5)) == 4 * 7 * 20 * 5


def test_a_batch_that_is_fixed_counts_whole() -> None:
    assert total([helper.make_node("MatMul", ["x", "w"], ["y"])], [8, 20], w=(20, 5)) == 800


def test_named_dimensions_are_given_or_asked_for() -> None:
    made = network(
        [helper.make_node("Conv", ["x", "w"], ["y"])], {"x": ["n", 3, "height", "width"]}, {"w": (4, 3, 1, 1)}
    )
    with pytest.raises(InputError) as refused:
        count(made)
    assert "'y'" in str(refused.value) and "give sizes of height, width" in str(refused.value)
    assert count(made, {"height": 10, "width": 20}).total == 10 * 20 * 4 * 3
    assert made.graph.input[0].type.tensor_type.shape.dim[2].dim_param == "height"  # untouched


def test_each_node_is_told_and_what_is_left_out_is_named() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], name="first"),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Einsum", ["b", "v"], ["y"], equation="ij,jk->ik"),
    ]
    found = count(network(nodes, {"x": ["n", 6]}, {"w": (6, 4), "v": (4, 2)}))
    assert [(each.node, each.op, each.multiply_adds) for each in found.nodes] == [("first", "MatMul", 24)]
    assert found.left_out == ("Einsum",)


def test_eight_bits_count_as_many_as_float() -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z8"], ["q"]),
        helper.make_node("QLinearConv", ["q", "s", "z8", "w8", "s", "z8", "s", "z8"], ["c"]),
        helper.make_node("DequantizeLinear", ["c", "s", "z8"], ["y"]),
    ]
    made = network(nodes, {"x": ["n", 3, 6, 6]}, {"s": (), "z8": (), "w8": (2, 3, 3, 3)})
    assert count(made).total == 4 * 4 * 2 * 27
