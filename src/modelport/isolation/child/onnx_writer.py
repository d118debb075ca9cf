"""An ONNX graph written node by node, for converters that write their own. Computes in float64.

Imported where onnx is: in the process that converts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from .frames import Array

OPSET, ML_OPSET, IR = 17, 3, 8
ML, MICROSOFT = "ai.onnx.ml", "com.microsoft"
TYPES = {"float64": TensorProto.DOUBLE, "float32": TensorProto.FLOAT, "int64": TensorProto.INT64}
TYPES |= {"string": TensorProto.STRING, "bool": TensorProto.BOOL}


class Block(NamedTuple):
    """A value [batch, width]: numbers are float64, texts are strings."""

    name: str
    text: bool
    width: int


Frame = list[Block]
"""Columns side by side, in order."""


class Writer:
    """Collects nodes and constants; every value gets a name of its own."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.inputs: list[Any] = []
        self._taken: set[str] = set()

    def name(self, wanted: str) -> str:
        """`wanted`, or with a number behind it where that is taken."""
        name, number = wanted, 1
        while name in self._taken:
            number += 1
            name = f"{wanted}_{number}"
        self._taken.add(name)
        return name

    def input(self, name: str, dtype: str, width: int = 1) -> Block:
        """A network input [batch, width]; numbers and truth values as float64 behind it."""
        self._taken.add(name)
        self.inputs.append(helper.make_tensor_value_info(name, TYPES[dtype], ["batch", width]))
        if dtype == "string":
            return Block(name, True, width)
        return Block(name if dtype == "float64" else self.cast(name, "float64"), False, width)

    def constant(self, value: Any, dtype: str = "float64") -> str:
        """The name of a constant."""
        name = self.name("constant")
        array = np.asarray(value, dtype=object if dtype == "string" else dtype)
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def op(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """A node with one output, whose name is given back."""
        out = self.name(kind.lower())
        node = helper.make_node(kind, list(inputs), [out], name=f"{out}_node", domain=domain)
        # make_node guesses an attribute's type from its value and fails on numpy's own numbers.
        node.attribute.extend(helper.make_attribute(key, value) for key, value in attributes.items())
        self.nodes.append(node)
        return out

    def cast(self, name: str, dtype: str) -> str:
        """The value in another datatype."""
        return self.op("Cast", name, to=TYPES[dtype])

    def matrix(self, frame: Frame) -> Block:
        """All columns as one block of numbers.

        Raises:
            TypeError: one of them is text.
        """
        if any(block.text for block in frame):
            raise TypeError("a column of text where numbers are computed with")
        if len(frame) == 1:
            return frame[0]
        name = self.op("Concat", *(block.name for block in frame), axis=1)
        return Block(name, False, sum(block.width for block in frame))

    def pick(self, frame: Frame, indices: Sequence[int]) -> Frame:
        """Some columns, counted over all blocks; runs of one block stay together."""
        places = [(block, column) for block in frame for column in range(block.width)]
        runs: list[tuple[Block, list[int]]] = []
        for index in indices:
            block, column = places[index]
            if runs and runs[-1][0] is block:
                runs[-1][1].append(column)
            else:
                runs.append((block, [column]))
        return [self._columns(block, columns) for block, columns in runs]

    def singles(self, frame: Frame) -> Frame:
        """The same columns, each a block of its own."""
        return [one for block in frame for one in self._split(block)]

    def rows(self, function: str, block: Block, other: Any) -> Block:
        """A number operation with a constant for each column."""
        value = np.broadcast_to(np.asarray(other, np.float64), (block.width,)).reshape(1, -1)
        return Block(self.op(function, block.name, self.constant(value)), False, block.width)

    def graft(self, model: Any, feeds: dict[str, str], wanted: str) -> str:
        """Another model's nodes in this graph; the name of its output `wanted`.

        Args:
            model: an ONNX model of opsets no newer than these.
            feeds: its inputs' names -> the values here.
        """
        renamed = dict(feeds)

        def known(name: str) -> str:
            if name and name not in renamed:
                renamed[name] = self.name(f"part_{name}")
            return renamed.get(name, "")

        for tensor in model.graph.initializer:
            copy = TensorProto()
            copy.CopyFrom(tensor)
            copy.name = known(tensor.name)
            self.constants.append(copy)
        for node in model.graph.node:
            copied = onnx.NodeProto()
            copied.CopyFrom(node)
            copied.name = self.name(f"part_{node.name or node.op_type}")
            copied.input[:] = [known(name) for name in node.input]
            copied.output[:] = [known(name) for name in node.output]
            self.nodes.append(copied)
        return known(wanted)

    def model(self, name: str, outputs: Sequence[tuple[str, str, str, int]]) -> Any:
        """The finished model, without what leads nowhere.

        Args:
            name: the graph's name.
            outputs: the value's name, the output's name, its datatype and its width; a width of 0 is [batch].
        """
        values = []
        for value, out, dtype, width in outputs:
            self.nodes.append(helper.make_node("Identity", [value], [out], name=f"{out}_output"))
            shape: list[str | int | None] = ["batch", width] if width else ["batch"]
            values.append(helper.make_tensor_value_info(out, TYPES[dtype], shape))
        self._prune({out for _, out, _, _ in outputs})
        graph = helper.make_graph(self.nodes, name, self.inputs, values, self.constants)
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(ML, ML_OPSET)]
        if any(node.domain == MICROSOFT for node in self.nodes):
            opsets.append(helper.make_opsetid(MICROSOFT, 1))
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR, producer_name="modelport")

    def copied(self) -> Writer:
        """The same graph, to be finished by itself."""
        own = Writer()
        own.nodes, own.constants = list(self.nodes), list(self.constants)
        own.inputs, own._taken = list(self.inputs), set(self._taken)
        return own

    def _prune(self, needed: set[str]) -> None:
        kept: list[Any] = []
        for node in reversed(self.nodes):
            if needed.intersection(node.output):
                kept.append(node)
                needed.update(node.input)
                for attribute in node.attribute:
                    needed.update(name for inner in attribute.g.node for name in inner.input)
        self.nodes = kept[::-1]
        self.constants = [tensor for tensor in self.constants if tensor.name in needed]
        self.inputs = [value for value in self.inputs if value.name in needed]

    def _columns(self, block: Block, columns: list[int]) -> Block:
        if columns == list(range(block.width)):
            return block
        name = self.op("Gather", block.name, self.constant(columns, "int64"), axis=1)
        return Block(name, block.text, len(columns))

    def _split(self, block: Block) -> Frame:
        if block.width == 1:
            return [block]
        return [self._columns(block, [column]) for column in range(block.width)]


def array_of(model: Any) -> Array:
    """The model's file as uint8[bytes].

    Raises:
        ValidationError: onnx's checker does not take it.
    """
    onnx.checker.check_model(model)
    return np.frombuffer(model.SerializeToString(), np.uint8)
