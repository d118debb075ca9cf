"""An MXNet symbol and its weights to ONNX, by MXNet's own exporter, with what that lacks."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from .converter import NotConverted

OPSET = 13
"""What the exporter's rules are written for; it would stamp its output with whatever onnx knows."""
BATCH = "batch"

Shape = tuple[int | str, ...]

SAME = {
    "erf": "Erf",
    "sign": "Sign",
    "sinh": "Sinh",
    "cosh": "Cosh",
    "arcsinh": "Asinh",
    "arccosh": "Acosh",
    "arctanh": "Atanh",
    "softsign": "Softsign",
    "broadcast_maximum": "Max",
}
"""Operators that ONNX has as they are, and the exporter has no rule for."""


def export(
    symbol: Any,
    weights: Mapping[str, Any],
    inputs: Mapping[str, tuple[Shape, str]],
    sizes: Mapping[str, tuple[int, ...]],
    outputs: Mapping[str, Shape],
    slopes: Mapping[str, int],
) -> Any:
    """The ONNX model.

    Args:
        symbol: rewritten (`mxnet_rewrite`).
        weights: name -> MXNet's array, exactly those that the symbol takes.
        inputs: name -> shape and dtype of what the caller gives, in order.
        sizes: name -> the same shape with sizes that the network takes in place of names.
        outputs: MXNet's name of each output -> its shape.
        slopes: PReLU's weights -> the number of axes of what they are for.

    Raises:
        NotConverted: an operator that nothing here converts.
    """
    from onnx import helper

    graph_of = _rules(symbol)
    with _unchecked():
        graph = graph_of().create_onnx_graph_proto(
            symbol,
            dict(weights),
            [sizes[name] for name in inputs],
            [_onnx_type(dtype) for _, dtype in inputs.values()],
            opset_version=OPSET,
            dynamic=True,
            dynamic_input_shapes=[shape for shape, _ in inputs.values()],
        )
    _only_inputs(graph)
    _reshape_slopes(graph, slopes)
    ordered = {value.name: value for value in graph.output}
    wanted = [_copy(ordered[onnx_name(name)]) for name in outputs]
    del graph.output[:]
    for value, shape in zip(wanted, outputs.values(), strict=True):
        _set_shape(value, shape)
        graph.output.append(value)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)


@contextlib.contextmanager
def _unchecked() -> Iterator[None]:
    """The exporter checks against onnx's newest opset, and not the one that it writes; that is done later."""
    from onnx import checker

    check = checker.check_graph
    setattr(checker, "check_graph", lambda graph: None)  # noqa: B010  # mypy knows its type
    try:
        yield
    finally:
        setattr(checker, "check_graph", check)  # noqa: B010


def onnx_name(output: str) -> str:
    """What the exporter calls an output of MXNet's."""
    for ending, replaced in (("_state_output", "1"), ("_statecell_output", "2"), ("_output", "")):
        if output.endswith(ending):
            return output.removesuffix(ending) + replaced
    numbered = re.fullmatch(r"(.*)_output(\d)", output)
    return numbered[1] + numbered[2] if numbered else output


def _rules(symbol: Any) -> Any:
    """The exporter's class, with rules of our own beside its own.

    Raises:
        NotConverted: the symbol has operators without a rule; all of them are named.
    """
    from mxnet.onnx.mx2onnx import _op_translations  # noqa: F401  # registers the exporter's rules
    from mxnet.onnx.mx2onnx._export_onnx import MXNetGraph

    for name, operator in SAME.items():
        MXNetGraph.register(name, OPSET)(_same(operator))
    MXNetGraph.register("rsqrt", OPSET)(_reciprocal_root)
    MXNetGraph.register("null", OPSET)(_input_or_weight)
    known = {name for version, rules in MXNetGraph.registry_.items() if version <= OPSET for name in rules}
    lacking = sorted({f"{op} ({name})" for op, name in _operators(symbol) if op not in known})
    if lacking:
        raise NotConverted(
            f"MXNet's exporter has no rule for {len(lacking)} of its layers: {', '.join(lacking[:6])}",
            "cut the symbol before them (sym.get_internals()['NAME_output']), and do the rest in a recipe",
        )
    convert = MXNetGraph.convert_layer
    if not hasattr(convert, "names_its_layer"):
        MXNetGraph.convert_layer = staticmethod(_naming(convert))
    logging.getLogger().setLevel(logging.ERROR)
    return MXNetGraph


def _operators(symbol: Any) -> Iterator[tuple[str, str]]:
    import json

    for node in json.loads(symbol.tojson())["nodes"]:
        yield node["op"], node["name"]


def _naming(convert: Callable[..., Any]) -> Callable[..., Any]:
    """The exporter's way with one layer, with the layer named where it fails."""

    def named(node: dict[str, Any], **context: Any) -> Any:
        try:
            return convert(node, **context)
        except (NotImplementedError, AttributeError, ValueError, KeyError, TypeError, IndexError) as problem:
            attributes = ", ".join(f"{key}={text}" for key, text in node.get("attrs", {}).items())
            raise NotConverted(
                f"MXNet's exporter does not convert the layer {node['name']!r} ({node['op']}: {attributes}): "
                f"{problem}",
                "change that layer to a form that it converts, or cut the symbol before it",
            ) from problem

    named.names_its_layer = True  # type: ignore[attr-defined]
    return named


def _same(operator: str) -> Callable[..., list[Any]]:
    def convert(node: dict[str, Any], **context: Any) -> list[Any]:
        from onnx import helper

        return [helper.make_node(operator, _inputs(node, context), [node["name"]], name=node["name"])]

    return convert


def _reciprocal_root(node: dict[str, Any], **context: Any) -> list[Any]:
    from onnx import helper

    name = node["name"]
    return [
        helper.make_node("Sqrt", _inputs(node, context), [f"{name}_root"]),
        helper.make_node("Reciprocal", [f"{name}_root"], [name], name=name),
    ]


def _input_or_weight(node: dict[str, Any], **context: Any) -> tuple[list[Any], tuple[Any]]:
    """A weight as its bytes (the exporter's own rule makes a list of Python's floats of it), or an input."""
    from onnx import helper, numpy_helper

    name = node["name"]
    if context["is_input"]:
        kind = context["in_type"]
        dtype = helper.tensor_dtype_to_np_dtype(kind)
        return [helper.make_tensor_value_info(name, kind, context["in_shape"])], (dtype,)
    array = np.ascontiguousarray(context["weights"][name])
    tensor = numpy_helper.from_array(array, name)
    context["initializer"].append(tensor)
    return [helper.make_tensor_value_info(name, tensor.data_type, array.shape)], (array.dtype,)


def _inputs(node: dict[str, Any], context: Mapping[str, Any]) -> list[str]:
    made = context["outputs_lookup"]
    return [made[each[0]][each[1]].name for each in node["inputs"]]


def _onnx_type(dtype: str) -> int:
    from onnx import helper

    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


def _only_inputs(graph: Any) -> None:
    """Weights are listed as inputs by the exporter; a caller gives none."""
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [_copy(value) for value in graph.input if value.name not in weights]
    del graph.input[:]
    graph.input.extend(inputs)


def _reshape_slopes(graph: Any, slopes: Mapping[str, int]) -> None:
    """PReLU's slopes lie along the channels; ONNX would lay them along the last axis."""
    from onnx import numpy_helper

    for tensor in graph.initializer:
        if slopes.get(tensor.name, 0) > 2:
            array = numpy_helper.to_array(tensor).reshape(-1, *[1] * (slopes[tensor.name] - 2))
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def _set_shape(value: Any, shape: Sequence[int | str]) -> None:
    dims = value.type.tensor_type.shape.dim
    del dims[:]
    for size in shape:
        dim = dims.add()
        if isinstance(size, int):
            dim.dim_value = size
        else:
            dim.dim_param = size


def _copy(message: Any) -> Any:
    copied = type(message)()
    copied.CopyFrom(message)
    return copied
