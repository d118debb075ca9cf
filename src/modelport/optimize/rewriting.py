"""What is done to a graph: its nodes named, sorted, put in another's place; what nobody asks for dropped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any

import onnx
from onnx import helper


def copied(network: onnx.ModelProto) -> onnx.ModelProto:
    """A network of its own, since a pass never touches what it is given."""
    own = onnx.ModelProto()
    own.CopyFrom(network)
    return own


def named(network: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which every node has a name of its own."""
    own = copied(network)
    given, seen = {node.name for node in own.graph.node}, set[str]()
    for number, node in enumerate(own.graph.node):
        if not node.name or node.name in seen:
            names = (f"{node.op_type}_{place}" for place in count(number))
            node.name = next(name for name in names if name not in given and name not in seen)
        seen.add(node.name)
    return own


def settings_of(node: onnx.NodeProto) -> dict[str, Any]:
    """A node's attributes by name; texts are bytes."""
    return {each.name: helper.get_attribute_value(each) for each in node.attribute}


def makers(graph: onnx.GraphProto) -> dict[str, onnx.NodeProto]:
    """The node that computes each value; outputs that are left out have no name, as inputs that are."""
    return {name: node for node in graph.node for name in node.output if name}


def taken(node: onnx.NodeProto) -> Iterator[str]:
    """What a node takes, and what the graphs inside of it may take from outside."""
    yield from (name for name in node.input if name)
    for attribute in node.attribute:
        for graph in (*([attribute.g] if attribute.HasField("g") else ()), *attribute.graphs):
            yield from (value.name for value in graph.output)
            for inner in graph.node:
                yield from taken(inner)


def sort(graph: onnx.GraphProto) -> None:
    """Sort the nodes, each behind those whose values it takes: converters put theirs at the end."""
    made = makers(graph).keys()
    waiting, known, order = list(graph.node), set[str](), []
    while waiting:
        ready = [node for node in waiting if all(n in known or n not in made for n in taken(node))]
        if not ready:
            return  # a circle: the check says so
        order += ready
        known |= {name for node in ready for name in node.output}
        waiting = [node for node in waiting if not set(node.output) <= known]
    del graph.node[:]
    graph.node.extend(order)


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
    graph = network.graph
    asked = {name for node in graph.node for name in taken(node)} | {value.name for value in graph.output}
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in asked]:
        graph.initializer.remove(tensor)
