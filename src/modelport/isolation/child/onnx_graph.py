"""A network in ONNX, built operator by operator with the sizes of everything known on the way.

For converters of our own: each layer's function takes values and gives values. The batch is 1 here; whether
it may be any size is proven by running, on the other side.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .converter import NotConverted
from .frames import Array

OPSET = 18
IR_VERSION = 8
MAX_BYTES = (2 << 30) - (16 << 20)
"""Protobuf ends at 2 GiB; the graph needs room as well."""


@dataclass(frozen=True)
class Value:
    """A tensor of float32 in the graph."""

    name: str
    shape: tuple[int, ...]
    constant: Array | None = None
    """What it holds, where that is the same for every input."""


class OnnxGraph:
    """Nodes and weights, in the order in which they are appended."""

    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._weights: list[Any] = []
        self._taken: set[str] = set()
        self._bytes = 0
        self.place = ""
        """What new names begin with: the layer that is being converted."""

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Append an operator with one output; its name."""
        return self.ops(kind, inputs, 1, **attributes)[0]

    def ops(self, kind: str, inputs: Sequence[str], outputs: int, **attributes: Any) -> list[str]:
        """Append an operator with several outputs; their names."""
        from onnx import helper

        names = [self._free(f"{self.place}/{kind}" if self.place else kind) for _ in range(outputs)]
        self._nodes.append(helper.make_node(kind, list(inputs), names, name=names[0], **attributes))
        return names

    def weight(self, array: Any, dtype: str = "float32") -> str:
        """Append constant numbers; their name."""
        from onnx import numpy_helper

        name = self._free(f"{self.place}/weight")
        data = np.ascontiguousarray(np.asarray(array).astype(dtype, copy=False))
        self._bytes += data.nbytes
        self._weights.append(numpy_helper.from_array(data, name))
        return name

    def integers(self, *numbers: int) -> str:
        """Append a constant int64[n]: shapes, axes, splits."""
        return self.weight(list(numbers), "int64")

    def name_of(self, value: Value) -> str:
        """The name of a value, which is appended as a weight where it is constant."""
        return value.name if value.constant is None else self.weight(value.constant)

    def reshaped(self, value: Value, *shape: int) -> Value:
        """The value in another shape, one of whose sides may be -1.

        Raises:
            ValueError: it does not have as many numbers.
        """
        count = math.prod(value.shape)
        known = math.prod(side for side in shape if side != -1)
        sizes = tuple(count // max(known, 1) if side == -1 else side for side in shape)
        if math.prod(sizes) != count or shape.count(-1) > 1:
            raise ValueError(f"{list(value.shape)} cannot be reshaped to {list(shape)}")
        if value.constant is not None:
            return Value("", sizes, value.constant.reshape(sizes))
        if sizes == value.shape:
            return value
        return Value(self.op("Reshape", value.name, self.integers(*sizes)), sizes)

    def model(
        self, inputs: Mapping[str, Value], outputs: Mapping[str, Value], words: dict[str, str]
    ) -> Array:
        """The finished file as uint8[bytes].

        Args:
            inputs, outputs: by the names that callers see; the inputs' values have those names.
            words: metadata.

        Raises:
            NotConverted: its weights are more than one file holds.
        """
        from onnx import TensorProto, helper

        if self._bytes > MAX_BYTES:
            raise NotConverted(f"its weights have {self._bytes} bytes; ONNX in one file holds {MAX_BYTES}")
        for name, value in outputs.items():
            self._nodes.append(
                helper.make_node("Identity", [self.name_of(value)], [name], name=f"{name}/out")
            )
        graph = helper.make_graph(
            self._nodes,
            "network",
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, v.shape) for n, v in inputs.items()],
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, v.shape) for n, v in outputs.items()],
            self._weights,
        )
        self._weights.clear()  # they have been copied, and may be large
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
        model.ir_version = IR_VERSION
        helper.set_model_props(model, words)
        _drop_last_identities(model)
        return np.frombuffer(model.SerializeToString(), np.uint8)

    def reserve(self, *names: str) -> None:
        """Names that nothing inside may have."""
        self._taken.update(names)

    def _free(self, name: str) -> str:
        found, number = name, 1
        while found in self._taken:
            number += 1
            found = f"{name}.{number}"
        self._taken.add(found)
        return found


def _drop_last_identities(model: Any) -> None:
    """Let what an output is computed by have its name, where nothing else is named after it."""
    graph = model.graph
    inputs = {value.name for value in graph.input} | {weight.name for weight in graph.initializer}
    outputs = {value.name for value in graph.output}
    last = {
        node.output[0]: node
        for node in graph.node
        if node.op_type == "Identity" and node.output[0] in outputs
    }
    names: dict[str, str] = {}
    for name, node in last.items():
        if node.input[0] not in inputs | outputs and node.input[0] not in names:
            names[node.input[0]] = name
            graph.node.remove(node)
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
