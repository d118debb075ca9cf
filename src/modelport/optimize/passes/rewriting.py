"""What passes do to a graph: name its nodes, put others in a node's place, drop what nobody asks for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx
from onnx import helper

from ...importers.canonical import nodes_of


def copied(network: onnx.ModelProto) -> onnx.ModelProto:
    """A network of its own, since a pass never touches what it is given."""
    own = onnx.ModelProto()
    own.CopyFrom(network)
    return own


def named(network: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which every node has a name of its own."""
    own = copied(network)
    seen: set[str] = set()
    for number, node in enumerate(own.graph.node):
        if not node.name or node.name in seen:
            node.name = f"{node.op_type}_{number}"
        seen.add(node.name)
    return own


def settings_of(node: onnx.NodeProto) -> dict[str, Any]:
    """A node's attributes by name; texts are bytes."""
    return {each.name: helper.get_attribute_value(each) for each in node.attribute}


def makers(graph: onnx.GraphProto) -> dict[str, onnx.NodeProto]:
    """The node that computes each value."""
    return {name: node for node in graph.node for name in node.output}


def put_before(graph: onnx.GraphProto, node: onnx.NodeProto, new: Sequence[onnx.NodeProto]) -> None:
    """Put other nodes right before one."""
    place = list(graph.node).index(node)
    for offset, each in enumerate(new):
        graph.node.insert(place + offset, each)


def replace(graph: onnx.GraphProto, node: onnx.NodeProto, new: Sequence[onnx.NodeProto]) -> None:
    """Put other nodes in one's place."""
    put_before(graph, node, new)
    graph.node.remove(node)


def drop_unused(network: onnx.ModelProto) -> None:
    """Take out the weights that no node takes any more, in a subgraph either, and that are no outputs."""
    asked = {name for node in nodes_of(network) for name in node.input}
    asked |= {value.name for value in network.graph.output}
    for tensor in [tensor for tensor in network.graph.initializer if tensor.name not in asked]:
        network.graph.initializer.remove(tensor)
