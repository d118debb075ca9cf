"""What a network computes behind its last layers: scores and boxes, which 8 bits would round away.

A detector's boxes are hundreds of pixels and its scores below 1: in one value's 256 steps the scores vanish.
And a classifier's scores in 256 steps are ties. Behind the last layer little time is spent: it stays float.
"""

from __future__ import annotations

import onnx
from onnx import NodeProto

from .rewriting import makers

LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""The operators that the weights are of."""
ACTIVATIONS = ("Relu", "Clip", "LeakyRelu", "PRelu", "HardSigmoid", "HardSwish")
"""What runs in one step with the layer before it."""
MOVES = ("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Identity")


def behind(network: onnx.ModelProto) -> tuple[str, ...]:
    """The names of the nodes behind the last layers, activations of these layers left out.

    A convolution over what a Softmax gives is no layer, but the mean of a box's distribution (DFL).

    Args:
        network: in which every node has a name.
    """
    made_by = makers(network.graph)
    before = _before_layers(network, made_by)
    found = []
    for node in network.graph.node:
        if node.name in before or _is_layer(node, made_by):
            continue
        source = made_by.get(node.input[0]) if node.input else None
        if node.op_type in ACTIVATIONS and source is not None and _is_layer(source, made_by):
            continue
        found.append(node.name)
    return tuple(found)


def heads(network: onnx.ModelProto) -> tuple[str, ...]:
    """The names of the last layers, where several outputs or arithmetic are made of them: a detector's heads.

    Empty where one layer is the last, as a classifier's.
    """
    made_by = makers(network.graph)
    before = _before_layers(network, made_by)
    last = [node.name for node in network.graph.node if _is_layer(node, made_by) and node.name not in before]
    return tuple(last) if len(last) > 1 else ()


def _before_layers(network: onnx.ModelProto, made_by: dict[str, NodeProto]) -> set[str]:
    """The names of the nodes that some layer takes something of, by however many steps."""
    found: set[str] = set()
    waiting = [
        name
        for node in network.graph.node
        if _is_layer(node, made_by)
        for name in node.input
        if name in made_by
    ]
    while waiting:
        node = made_by[waiting.pop()]
        if node.name not in found:
            found.add(node.name)
            waiting += [name for name in node.input if name in made_by]
    return found


def _is_layer(node: NodeProto, made_by: dict[str, NodeProto]) -> bool:
    return node.op_type in LAYERS and not (node.op_type == "Conv" and _of_shares(node, made_by))


def _of_shares(node: NodeProto, made_by: dict[str, NodeProto]) -> bool:
    source = made_by.get(node.input[0])
    while source is not None and source.op_type in MOVES:
        source = made_by.get(source.input[0])
    return source is not None and source.op_type == "Softmax"
