"""Small real networks in ONNX, as exporters of all ages leave them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CLASSES = 5


def convnet(*, batch: int | str = "N", side: int = 32, opset: int = 17, ir: int = 8) -> onnx.ModelProto:
    """A convolution, a mean and a matrix: float32 [batch, 3, side, side] -> logits [batch, 5]."""
    rng = np.random.default_rng(1)
    weights = {
        "w": rng.normal(size=(8, 3, 5, 5)).astype(np.float32) * 0.3,
        "m": rng.normal(size=(8, CLASSES)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["input", "w"], ["conv"], strides=[3, 3]),
        helper.make_node("Relu", ["conv"], ["relu"]),
        helper.make_node("GlobalAveragePool", ["relu"], ["pool"]),
        helper.make_node("Flatten", ["pool"], ["flat"]),
        helper.make_node("MatMul", ["flat", "m"], ["logits"]),
    ]
    return model(nodes, ("input", [batch, 3, side, side]), ("logits", [batch, CLASSES]), weights, opset, ir)


def fixed_batch(
    *, rows: int = 1, target: Sequence[int] | None = None, opset: int = 13, ir: int = 8
) -> onnx.ModelProto:
    """A network whose reshape holds the batch that it was exported with: [rows, 3, 4, 4] -> [rows, 5]."""
    rng = np.random.default_rng(2)
    weights: dict[str, Any] = {
        "shape": np.array(target or [rows, -1], np.int64),
        "m": rng.normal(size=(48, CLASSES)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("Reshape", ["r", "shape"], ["flat"]),
        helper.make_node("MatMul", ["flat", "m"], ["y"]),
    ]
    return model(nodes, ("x", [rows, 3, 4, 4]), ("y", [rows, CLASSES]), weights, opset, ir)


def leaking(batch: int | str = 1) -> onnx.ModelProto:
    """A network whose rows depend on one another: the batch's mean is taken off."""
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[0], keepdims=1),
        helper.make_node("Sub", ["x", "mean"], ["y"]),
    ]
    return model(nodes, ("x", [batch, 4]), ("y", [batch, 4]), {}, 13, 8)


def model(
    nodes: Sequence[onnx.NodeProto],
    takes: tuple[str, Sequence[int | str]],
    gives: tuple[str, Sequence[int | str]],
    weights: dict[str, Any],
    opset: int,
    ir: int,
) -> onnx.ModelProto:
    graph = helper.make_graph(
        list(nodes),
        "network",
        [helper.make_tensor_value_info(takes[0], TensorProto.FLOAT, list(takes[1]))],
        [helper.make_tensor_value_info(gives[0], TensorProto.FLOAT, list(gives[1]))],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)
