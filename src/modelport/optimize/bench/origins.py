"""Which nodes of a bundle's graph a node that ran does the work of: runtimes fuse and rename them."""

from __future__ import annotations

import re

import onnx

_DECORATION = re.compile(r"(_nchwc|_token_\d+|_nhwc|/duplicated|/WithoutBiases|/fq_\w+)+$")
"""What ONNX Runtime and OpenVINO append to the name of a node or value where they rewrite it."""
_NUMBER = re.compile(r"_\d+$")
"""What OpenVINO appends where a node is called like one of the weights."""
MOST_FUSED = 5
"""Nodes that are looked back for the one whose work it is."""


class Origins:
    """The nodes of one graph, by their names and by the values that they make."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._by_name: dict[str, onnx.NodeProto] = {}
        self._by_value: dict[str, onnx.NodeProto] = {}
        waiting = [graph]
        while waiting:
            inner = waiting.pop()
            for node in inner.node:
                if node.name:
                    self._by_name.setdefault(node.name, node)
                for value in node.output:
                    self._by_value.setdefault(value, node)
                waiting += [each.g for each in node.attribute if each.HasField("g")]

    def of(self, name: str, kind: str) -> tuple[str, ...]:
        """The nodes that one called `name`, an operator `kind`, stands for, first to last; none if unknown.

        A fused one is named after the last value that it makes: from there it is looked back to the node
        whose operator `kind` is a form of (`QLinearConv` of `Conv`).
        """
        plain = _DECORATION.sub("", name)
        node = self._find(name) or self._find(plain) or self._find(_NUMBER.sub("", plain))
        if node is None:
            return ()
        chain = [node]
        while not _is_form(kind, chain[-1].op_type) and len(chain) < MOST_FUSED:
            before = next((self._by_value[v] for v in chain[-1].input if v in self._by_value), None)
            if before is None:
                break
            chain.append(before)
        if not _is_form(kind, chain[-1].op_type):
            chain = chain[:1]
        return tuple(shown(each) for each in reversed(chain))

    def _find(self, name: str) -> onnx.NodeProto | None:
        return self._by_name.get(name) or self._by_value.get(name)


def shown(node: onnx.NodeProto) -> str:
    """A node's name; where it has none, its operator and the first value that it makes."""
    return node.name or f"{node.op_type} of {node.output[0]}"


def _is_form(kind: str, operator: str) -> bool:
    return operator.lower() in kind.lower() or (kind == "Convolution" and operator == "Conv")
