"""A small builder of ONNX graphs made of standard operators. Knows nothing of images or steps.

Everything compiled here is opset 18, IR 8: old enough for mobile and web builds of ONNX Runtime, new
enough for `Resize` with antialiasing. Only what works on texts needs a later one, and says so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ..bundle.manifest import Option
from ..tensors import TensorSpec, numpy_dtype

OPSET = 18
IR_VERSION = 8
_LATER_IR = 9
"""Of the operator sets from 19 on."""
ML_DOMAIN = "ai.onnx.ml"
_ML_OPSET = 3

ONNX_TYPES: dict[str, int] = {
    "bool": TensorProto.BOOL,
    "uint8": TensorProto.UINT8,
    "uint16": TensorProto.UINT16,
    "uint32": TensorProto.UINT32,
    "uint64": TensorProto.UINT64,
    "int8": TensorProto.INT8,
    "int16": TensorProto.INT16,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
    "float16": TensorProto.FLOAT16,
    "float32": TensorProto.FLOAT,
    "float64": TensorProto.DOUBLE,
    "string": TensorProto.STRING,
}
"""Datatype name -> ONNX element type."""


class Value(msgspec.Struct, frozen=True):
    """A tensor inside a graph under construction: its ONNX name, dtype and (partly known) shape."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


class Graph:
    """Nodes and initializers in the order they are added; `op` names every result."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._made = 0
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._initializers: list[onnx.TensorProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._options: dict[str, Option] = {}
        self._opset = OPSET

    def needs(self, opset: int) -> None:
        """Raise the operator set, for an operator that the usual one has not."""
        self._opset = max(self._opset, opset)

    def input(self, spec: TensorSpec) -> Value:
        """Declare a graph input."""
        self._inputs.append(_value_info(spec))
        return Value(spec.name, spec.dtype, spec.shape)

    def option(self, option: Option) -> str:
        """Declare a scalar input that has a default, and return its name; once for each name."""
        if option.name not in self._options:
            self._options[option.name] = option
            self._inputs.append(_value_info(TensorSpec(option.name, option.dtype, ())))
            default = np.asarray(option.default, numpy_dtype(option.dtype))
            self._initializers.append(numpy_helper.from_array(default, option.name))
        return option.name

    @property
    def options(self) -> tuple[Option, ...]:
        """The inputs that have a default, in the order in which they were declared."""
        return tuple(self._options.values())

    def output(self, spec: TensorSpec, value: str) -> None:
        """Declare a graph output; an Identity gives the tensor its public name.

        An input handed on under its own name needs none: ONNX has every name only once.
        """
        if value != spec.name:
            self._nodes.append(helper.make_node("Identity", [value], [spec.name]))
        self._outputs.append(_value_info(spec))

    def constant(self, value: Any, dtype: str | None = None) -> str:
        """The name of a constant; equal constants share one initializer."""
        array = np.asarray(value, dtype=object if dtype == "string" else dtype)
        key = (array.dtype.str, array.shape, repr(array.tolist()).encode())
        if key not in self._constants:
            name = f"modelport/c{len(self._constants)}"
            self._constants[key] = name
            self._initializers.append(numpy_helper.from_array(array, name))
        return self._constants[key]

    def op(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output and return the output's name."""
        return self.ops(op_type, *inputs, outputs=1, **attributes)[0]

    def ops(self, op_type: str, *inputs: str, outputs: int, **attributes: Any) -> list[str]:
        """Add a node with several outputs and return their names."""
        number = self._made
        self._made += 1
        # The prefix keeps clear of the public names, which are the network's own.
        names = [f"modelport/{op_type.lower()}_{number}" + (f"_{i}" if i else "") for i in range(outputs)]
        self._nodes.append(helper.make_node(op_type, list(inputs), names, **attributes))
        return names

    def choose(
        self,
        condition: str,
        then: Callable[[], Value],
        otherwise: Callable[[], Value],
        shape: tuple[int | str, ...],
    ) -> Value:
        """An `If`: only the nodes that one of the two callables adds are run. `shape` holds for both.

        Not within another: ONNX Runtime 1.31 crashes where it inlines both.
        """
        around = self._nodes
        branches, results = [], []
        for add in (then, otherwise):
            self._nodes = []
            result = add()
            info = _value_info(TensorSpec(result.name, result.dtype, result.shape))
            branches.append(helper.make_graph(self._nodes, f"branch_{result.name}", [], [info]))
            results.append(result)
        self._nodes = around
        name = self.ops("If", condition, outputs=1, then_branch=branches[0], else_branch=branches[1])[0]
        return Value(name, results[0].dtype, shape)

    def repeat(self, times: str, body: Callable[[str], Value]) -> str:
        """A `Loop`: what `body` makes of each turn's number (int64 scalar), stacked on a new first axis.

        `times` names an int64 scalar. Every turn must give the same shape.
        """
        around, self._nodes = self._nodes, []
        self._made += 1
        turn, going, on = (f"modelport/{word}_{self._made}" for word in ("turn", "going", "on"))
        result = body(turn)
        self._nodes.append(helper.make_node("Identity", [going], [on]))
        graph = helper.make_graph(
            self._nodes,
            f"body_{result.name}",
            [_value_info(TensorSpec(turn, "int64", ())), _value_info(TensorSpec(going, "bool", ()))],
            [
                _value_info(TensorSpec(on, "bool", ())),
                _value_info(TensorSpec(result.name, result.dtype, result.shape)),
            ],
        )
        self._nodes = around
        # The condition is optional, but ONNX Runtime 1.31 fails to inline a branch that leaves it out.
        return self.op("Loop", times, self.constant(True), body=graph)

    def cast(self, value: str, dtype: str) -> str:
        """Cast to a datatype by its name (`float32`, …); ONNX truncates towards zero."""
        return self.op("Cast", value, to=ONNX_TYPES[dtype])

    def size(self, value: Value, axis: int) -> str:
        """An int64[1] holding the size of one axis: a constant where it is known."""
        known = value.shape[axis]
        if isinstance(known, int):
            return self.constant([known], "int64")
        return self.op("Shape", value.name, start=axis, end=axis + 1)

    def build(self, name: str) -> bytes:
        """The serialized model, checked by onnx's own checker and shape inference."""
        graph = helper.make_graph(
            self._nodes, name, self._inputs, self._outputs, initializer=self._initializers
        )
        opsets = [helper.make_opsetid("", self._opset)]
        if any(node.domain == ML_DOMAIN for node in self._nodes):
            opsets.append(helper.make_opsetid(ML_DOMAIN, _ML_OPSET))
        model = helper.make_model(
            graph,
            producer_name="modelport",
            opset_imports=opsets,
            ir_version=IR_VERSION if self._opset == OPSET else _LATER_IR,
        )
        onnx.checker.check_model(model, full_check=True)
        return bytes(model.SerializeToString(deterministic=True))


def _value_info(spec: TensorSpec) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(spec.name, ONNX_TYPES[spec.dtype], list(spec.shape))
