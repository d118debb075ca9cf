"""What rounding the weights adds to a layer's mean is taken off its bias.

A rounded weight is too large or too small, and times the mean of what it multiplies that is a shift of every
number in a channel (Nagel et al. 2019, Data-Free Quantization Through Weight Equalization and Bias
Correction, section 4.2; here with means that were measured).
"""

from __future__ import annotations

import hashlib

import numpy as np
import onnx
from onnx import numpy_helper

from ...sampling import evenly
from ...tensors import Array
from ..calibration import Calibration
from ..ranges import rows_of, watched
from ..rewriting import makers, settings_of

ITEMS = 16
"""Prepared items that means are measured on."""
_KEPT = "means"


def corrected(network: onnx.ModelProto, quantized: onnx.ModelProto, calibration: Calibration) -> int:
    """Change the biases of the convolutions of `quantized`, in place; how many.

    Args:
        network: in float, with shapes; nodes named as in `quantized`.
        quantized: in QDQ form, its biases in 32 bits.
        calibration: prepared items.
    """
    layers = {
        node.name: node for node in network.graph.node if node.op_type == "Conv" and len(node.input) > 2
    }
    found = [(node, layers[node.name]) for node in quantized.graph.node if node.name in layers]
    floats = {tensor.name: tensor for tensor in network.graph.initializer}
    tensors = {tensor.name: tensor for tensor in quantized.graph.initializer}
    made_by = makers(quantized.graph)
    able = []
    for node, own in found:
        sides = [made_by.get(name) for name in node.input[1:3]]
        if own.input[1] in floats and all(
            side is not None and side.op_type == "DequantizeLinear" and side.input[0] in tensors
            for side in sides
        ):
            able.append((own, sides[0], sides[1]))
    means = _means(network, sorted({own.input[0] for own, _, _ in able}), calibration)
    for own, weight, bias in able:
        assert weight is not None and bias is not None
        whole = numpy_helper.to_array(floats[own.input[1]])
        rounded = _dequantized(weight, tensors)
        shift = _shift(own, whole - rounded, means[own.input[0]])
        scale = numpy_helper.to_array(tensors[bias.input[1]])
        value = numpy_helper.to_array(tensors[bias.input[0]]).astype(np.int64)
        fresh = np.clip(value + np.rint(shift / scale).astype(np.int64), -(2**31), 2**31 - 1)
        tensors[bias.input[0]].CopyFrom(numpy_helper.from_array(fresh.astype(np.int32), bias.input[0]))
    return len(able)


def _means(network: onnx.ModelProto, names: list[str], calibration: Calibration) -> dict[str, Array]:
    """float64[channels] of each value, over the items and all places."""
    digest = hashlib.sha256(network.SerializeToString(deterministic=True)).hexdigest()
    if (digest, _KEPT) in calibration.ranges:
        kept: dict[str, Array] = calibration.ranges[digest, _KEPT]
        if kept.keys() >= set(names):
            return kept
    session = watched(network, names)
    sums: dict[str, Array] = {}
    items = evenly(calibration.prepared, ITEMS)
    rows = rows_of(network)
    try:
        for item in items:
            batch = {name: np.repeat(array[None], rows, axis=0) for name, array in item.items()}
            values = {**batch, **session.run(batch)}
            for name in names:
                mean = values[name].mean(axis=(0, *range(2, values[name].ndim)), dtype=np.float64)
                sums[name] = sums.get(name, 0) + mean
    finally:
        session.close()
    found = calibration.ranges[digest, _KEPT] = {name: total / len(items) for name, total in sums.items()}
    return found


def _dequantized(node: onnx.NodeProto, tensors: dict[str, onnx.TensorProto]) -> Array:
    value, scale = (numpy_helper.to_array(tensors[name]) for name in node.input[:2])
    zero = numpy_helper.to_array(tensors[node.input[2]]) if len(node.input) > 2 else np.zeros_like(scale)
    if scale.ndim:
        scale, zero = (each.reshape(-1, *[1] * (value.ndim - 1)) for each in (scale, zero))
    return np.asarray((value.astype(np.float32) - zero) * scale)


def _shift(node: onnx.NodeProto, lost: Array, mean: Array) -> Array:
    """What a layer's mean lacks, for each output: the weights' errors times the means of their inputs."""
    groups = settings_of(node).get("group", 1)
    kernels = lost.reshape(*lost.shape[:2], -1).sum(axis=2, dtype=np.float64)
    apart = mean.reshape(groups, -1)
    outputs = len(kernels) // groups
    return np.concatenate(
        [kernels[group * outputs : (group + 1) * outputs] @ apart[group] for group in range(groups)]
    )
