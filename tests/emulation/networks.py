"""Networks whose 8-bit products are as large as they can be, as bundles with golden cases."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import modelport
from modelport.bundle.store import Bundle

INPUTS, CLASSES = 64, 4
FULL, REDUCED = 127, 63
"""The largest weight: with 8 bits, and with the 7 whose products two by two fit into 16 bits."""


def loud(largest: int) -> onnx.ModelProto:
    """A product of uint8 inputs and int8 weights, y[N, 4] of x[N, 64] in 0…1, quantized in QDQ form.

    Class 0 has large weights side by side, whose products saturate where they are added in 16 bits; class 1
    smaller ones with gaps, so that it comes first there.
    """
    weights = np.zeros((INPUTS, CLASSES), np.int8)
    weights[: INPUTS // 2, 0] = largest
    weights[::2, 1] = largest * 80 // 127
    weights[:, 3] = -1
    values = {
        "x_scale": np.float32(1 / 255),
        "x_zero": np.uint8(0),
        "w": weights,
        "w_scale": np.float32(1 / largest),
        "w_zero": np.int8(0),
        "y_scale": np.float32(0.25),
        "y_zero": np.uint8(128),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "x_scale", "x_zero"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "x_scale", "x_zero"], ["xd"]),
        helper.make_node("DequantizeLinear", ["w", "w_scale", "w_zero"], ["wd"]),
        helper.make_node("MatMul", ["xd", "wd"], ["product"]),
        helper.make_node("QuantizeLinear", ["product", "y_scale", "y_zero"], ["yq"]),
        helper.make_node("DequantizeLinear", ["yq", "y_scale", "y_zero"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "loud",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", INPUTS])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", CLASSES])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in values.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def packed(folder: Path, largest: int) -> Bundle:
    """The network as a bundle in `folder`, with three golden cases of inputs near 1."""
    onnx.save(loud(largest), folder / "loud.onnx")
    (folder / "golden").mkdir()
    random = np.random.default_rng(1)
    for number in range(3):
        np.save(folder / "golden" / f"{number}.npy", random.uniform(0.9, 1, INPUTS).astype(np.float32))
    return modelport.pack(folder / "loud.onnx", out=folder / "repo", golden=folder / "golden")
