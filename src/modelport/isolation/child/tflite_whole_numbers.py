"""Sums of quantised numbers exactly as TensorFlow Lite computes them.

Everything else comes out alike by itself: what stands between DequantizeLinear and QuantizeLinear is
computed in whole numbers by the runtimes and rescaled in float32, as XNNPACK does. Sums XNNPACK computes in
fixed point: both are multiplied by their scale as a share of the result's, with 20 bits, added, and shifted.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .frames import Array

BITS = 20
QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"
BOUNDING = ("Relu", "Clip", QUANTIZE)


def exact_sums(model: Any) -> int:
    """Replaces every sum between DequantizeLinear and QuantizeLinear; how many there were."""
    from onnx import numpy_helper

    graph = model.graph
    made = {name: node for node in graph.node for name in node.output}
    readers: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    known = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    outputs = {value.name for value in graph.output}
    nodes: list[Any] = []
    replaced: dict[str, list[Any]] = {}
    gone: set[str] = set()
    sums = 0
    for node in graph.node:
        before = [made.get(name) for name in node.input]
        if node.op_type != "Add" or not all(
            each is not None and each.op_type == DEQUANTIZE for each in before
        ):
            continue
        chain = _to_quantised(node, readers, outputs)
        scales = [_scale(each, known) for each in (*before, chain[-1])] if chain else [None]
        bounds = [_bounds(each, known) for each in chain[1:-1]]
        if None in scales or None in bounds:
            continue
        replaced[chain[-1].name] = _sum(graph, before, chain[-1], scales, bounds)
        gone.update(each.name for each in chain[:-1])
        sums += 1
    for node in graph.node:
        if node.name not in gone:
            nodes.extend(replaced.get(node.name) or [node])
    copies = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)
    return sums


def _to_quantised(node: Any, readers: dict[str, list[Any]], outputs: set[str]) -> list[Any]:
    """A sum, what bounds it, and what quantises it; nothing where something else reads what is between."""
    chain = [node]
    while chain[-1].op_type != QUANTIZE:
        after = readers.get(chain[-1].output[0], [])
        if len(after) != 1 or chain[-1].output[0] in outputs or after[0].op_type not in BOUNDING:
            return []
        chain.append(after[0])
    return chain


def _bounds(node: Any, known: dict[str, Array]) -> tuple[float, float] | None:
    """The least and the most of a fused activation; None where they are not constants."""
    if node.op_type == "Relu":
        return 0.0, math.inf
    found = [-math.inf, math.inf]
    for place, name in enumerate(node.input[1:3]):
        if name and name not in known:
            return None
        if name:
            found[place] = float(known[name].reshape(()))
    return found[0], found[1]


def _scale(node: Any, known: dict[str, Array]) -> tuple[np.float32, int, Any] | None:
    """What one whole number more means, the number that means 0, and its dtype; None: not for all alike."""
    scale, zero = (known.get(name) for name in node.input[1:3]) if len(node.input) == 3 else (None, None)
    if scale is None or zero is None or scale.size != 1 or zero.dtype.name not in ("uint8", "int8"):
        return None
    return np.float32(scale.reshape(())), int(zero.reshape(())), zero.dtype


def _sum(graph: Any, before: list[Any], after: Any, scales: list[Any], bounds: list[Any]) -> list[Any]:
    """Nodes from the quantised terms to the quantised sum, in float64, which holds all of it exactly."""
    from onnx import TensorProto, helper, numpy_helper

    (a, zero_a, _), (b, zero_b, _), (scale, zero, dtype) = scales
    shares = [np.float32(a / scale), np.float32(b / scale)]
    shift = BITS - (math.frexp(float(max(shares)))[1] - 1)
    factors = [int(np.rint(float(share) * 2.0**shift)) for share in shares]
    offset = 2 ** (shift - 1) - factors[0] * zero_a - factors[1] * zero_b
    least, most = _limits(dtype, bounds, scale, zero)
    stem = f"{after.output[0]}/sum"
    count = 0

    def constant(value: float) -> str:
        nonlocal count
        count += 1
        graph.initializer.append(numpy_helper.from_array(np.array(value, np.float64), f"{stem}/c{count}"))
        return f"{stem}/c{count}"

    nodes: list[Any] = []

    def node(operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        name = f"{stem}/{len(nodes)}"
        nodes.append(helper.make_node(operator, list(inputs), [output or name], name=name, **attributes))
        return output or name

    terms = [
        node("Mul", node("Cast", each.input[0], to=TensorProto.DOUBLE), constant(factor))
        for each, factor in zip(before, factors, strict=True)
    ]
    total = node("Add", node("Add", *terms), constant(offset))
    shifted = node("Floor", node("Mul", total, constant(2.0**-shift)))
    moved = node("Add", shifted, constant(zero))
    kept = node("Clip", moved, constant(least), constant(most))
    node("Cast", kept, output=after.output[0], to=helper.np_dtype_to_tensor_dtype(dtype))
    return nodes


def _limits(dtype: Any, bounds: list[tuple[float, float]], scale: np.float32, zero: int) -> tuple[int, int]:
    """The least and the most that a result may be: as its datatype has it, and as the activation does."""
    least, most = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
    for low, high in bounds:
        if math.isfinite(low):
            least = max(least, int(np.rint(np.float32(low) / scale)) + zero)
        if math.isfinite(high):
            most = min(most, int(np.rint(np.float32(high) / scale)) + zero)
    return least, most
