"""One scale on both sides of what only moves values: then 8-bit values are copied, and not rounded again."""

from __future__ import annotations

from collections.abc import Collection

import onnx

from ..ranges import Range

MOVES = ("Concat", "MaxPool", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Split")
SHARE = 0.5
"""Of the common range that each has to fill: at most one bit is given away."""


def tied(
    network: onnx.ModelProto, ranges: dict[str, Range], floats: Collection[str] = ()
) -> dict[str, Range]:
    """The ranges, one for all values that go through Concat and its kin together, where none is much smaller.

    Args:
        network: the network that the ranges are of.
        ranges: by a value's name; what it does not have is weights and integers.
        floats: the names of nodes that stay float: there is nothing to copy, and a bit would be lost.
    """
    groups = {name: {name} for name in ranges}
    common = dict(ranges)
    for node in network.graph.node:
        names = [name for name in (*node.input, *node.output) if name in groups]
        if node.op_type not in MOVES or node.name in floats or len(names) < 2:
            continue
        joined = set().union(*(groups[name] for name in names))
        whole = Range(min(common[name].low for name in names), max(common[name].high for name in names))
        if all(_width(ranges[name]) >= SHARE * _width(whole) for name in joined):
            for name in joined:
                groups[name], common[name] = joined, whole
    return common


def _width(each: Range) -> float:
    return each.high - each.low
