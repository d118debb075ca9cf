"""Outputs that the answer leaves out are not computed; weights that are listed as inputs are constants."""

from __future__ import annotations

from collections import Counter
from typing import Any, ClassVar

import msgspec
import onnx

from ...steps.compile import POST_STEPS
from ...steps.step import PostStep, parse_steps
from ...steps.tables import Drop
from ..calibration import Calibration
from ..candidate import Made, NotApplicable
from ..rewriting import copied, drop_unused, taken

SHOWN = 6


class Unused(msgspec.Struct, frozen=True):
    """Dead outputs, the nodes that only they need, dead nodes, and weights that a caller could replace.

    An input that is alike on all items stays: that it always is, the items cannot show.

    `steps`: those of the bundle's `post`, in their data form; `drop` names the outputs that nobody is given.
    """

    name: ClassVar[str] = "unused"
    id: ClassVar[str] = name
    title: ClassVar[str] = "without what nobody asks for"
    steps: tuple[Any, ...] = ()

    def apply(self, network: onnx.ModelProto, calibration: Calibration) -> Made:
        own, told = copied(network), []
        outputs = [value.name for value in own.graph.output]
        steps = parse_steps(self.steps, POST_STEPS, "$.steps.post")
        dead = sorted({step.of for step in steps if isinstance(step, Drop)} & set(outputs))
        post: tuple[PostStep, ...] | None = None
        if dead:
            post = tuple(step for step in steps if not isinstance(step, Drop) or step.of not in dead)
            for value in [value for value in own.graph.output if value.name in dead]:
                own.graph.output.remove(value)
            told.append(f"outputs that the answer drops: {', '.join(dead)}")
        if listed := _as_constants(own.graph):
            told.append(f"weights listed as inputs, and so not folded: {', '.join(listed[:SHOWN])}")
        _drop_dead_nodes(own.graph)
        drop_unused(own)
        before, after = (Counter(node.op_type for node in each.graph.node) for each in (network, own))
        if gone := [f"{count} {kind}" for kind, count in (before - after).most_common(SHOWN)]:
            told.append(f"{before.total()} nodes became {after.total()}: without {', '.join(gone)}")
        if not told:
            nodes = "its node is" if before.total() == 1 else f"all {before.total()} nodes are"
            raise NotApplicable(f"no output is dropped, and {nodes} needed{_alike(calibration)}")
        return Made(own, tuple(told), post=post)


def _as_constants(graph: onnx.GraphProto) -> list[str]:
    """Weights are no inputs any more, in place; their names."""
    weights = {tensor.name for tensor in graph.initializer}
    listed = [value for value in graph.input if value.name in weights]
    for value in listed:
        graph.input.remove(value)
    return [value.name for value in listed]


def _drop_dead_nodes(graph: onnx.GraphProto) -> None:
    """Take out the nodes of which no output is needed, in place; they come one behind the other."""
    needed = {value.name for value in graph.output}
    for node in reversed(list(graph.node)):
        if needed.isdisjoint(node.output):
            graph.node.remove(node)
        else:
            needed |= set(taken(node))
    made = {name for node in graph.node for name in node.output}
    for value in [value for value in graph.value_info if value.name not in made]:
        graph.value_info.remove(value)


def _alike(calibration: Calibration) -> str:
    """Which of several inputs had one value on all items: they stay, which is worth a word."""
    first = calibration.prepared[0] if calibration.prepared else {}
    same = [name for name in first if all(_one_value(item[name]) for item in calibration.prepared)]
    same = [name for name in same if len({item[name].flat[0] for item in calibration.prepared}) == 1]
    if not same:
        return ""
    return f"; {', '.join(sorted(same))} had one value on all items, which does not show that it always has"


def _one_value(array: Any) -> bool:
    return bool(array.size and (array == array.flat[0]).all())
