"""What goes into a swish is kept in 8 bits as far as its result tells values apart, and no further.

x * sigmoid(x) goes to zero at its lower end, where a convolution may give large numbers: a range that holds
them spends half of its 256 steps, or more, on what the result does not show.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np
import onnx

from ...tensors import Array
from ..ranges import Range
from ..rewriting import makers, taken

STEPS = 255
SHOWN = 0.25
"""Of a step of the result: what is cut becomes zero. With half a step much of it would become a step less."""
PLACES = 4096
"""Of a range that are looked at: 16 to each of its steps."""


def shown(
    network: onnx.ModelProto, ranges: dict[str, Range], floats: Collection[str] = ()
) -> dict[str, Range]:
    """The ranges, those of what only goes into a swish begun where its result leaves zero.

    Swish is x * sigmoid(x), also called SiLU, and its piecewise form HardSwish.

    Args:
        network: the network that the ranges are of.
        ranges: by a value's name.
        floats: the names of nodes that stay float.
    """
    users = {each.name: {"the caller"} for each in network.graph.output}
    for node in network.graph.node:
        for name in taken(node):
            users.setdefault(name, set()).add(node.output[0])
    cut = dict(ranges)
    for source, given, parts in _swishes(network, floats):
        if source in ranges and given in ranges and users[source] == parts:
            places = np.linspace(ranges[source].low, ranges[source].high, PLACES)
            values = _hard(places) if parts == {given} else _swish(places)
            cut[source] = Range(_begin(places, values, ranges[given]), ranges[source].high)
    return cut


def _swishes(network: onnx.ModelProto, floats: Collection[str]) -> Iterator[tuple[str, str, set[str]]]:
    """What each takes and gives, and the outputs of the nodes that it is made of."""
    made_by = makers(network.graph)
    for node in network.graph.node:
        if node.name in floats:
            continue
        if node.op_type == "HardSwish":
            yield node.input[0], node.output[0], {node.output[0]}
        elif node.op_type == "Mul":
            for source, gate in (tuple(node.input), tuple(node.input)[::-1]):
                maker = made_by.get(gate)
                if maker is not None and maker.op_type == "Sigmoid" and maker.input[0] == source:
                    yield source, node.output[0], {gate, node.output[0]}


def _swish(x: Array) -> Array:
    return np.asarray(x * (0.5 + 0.5 * np.tanh(x / 2)))


def _hard(x: Array) -> Array:
    return np.asarray(x * np.clip(x / 6 + 0.5, 0, 1))


def _begin(places: Array, values: Array, result: Range) -> float:
    """The last of the places, in ascending order, before the `values` of a swish leave zero in 8 bits."""
    step = (max(result.high, 0.0) - min(result.low, 0.0)) / STEPS
    seen = np.flatnonzero(np.abs(values) > SHOWN * step)
    return float(places[max(0, seen[0] - 1)]) if len(seen) else float(places[0])
