"""How many multiply-adds a network takes for one item: convolutions and matrix products, from shapes alone.

The field's usual cost of a network (also "MACs"; a FLOP count is about twice it). It is no time: additions,
activations and memory traffic are left out, and kernels of one count can differ tenfold in speed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod

import msgspec
import onnx

from ..errors import InputError
from .rewriting import copied

Shape = tuple[int, ...]


class Counted(msgspec.Struct, frozen=True):
    """One node."""

    node: str
    """Its name, or that of its first output."""
    op: str
    multiply_adds: int


class Count(msgspec.Struct, frozen=True):
    """A whole network, for one item."""

    total: int
    nodes: tuple[Counted, ...]
    """Those that multiply and add, in the graph's order."""
    left_out: tuple[str, ...] = ()
    """Operators in the graph that do too, but are not counted."""


def count(network: onnx.ModelProto, sizes: Mapping[str, int] | None = None) -> Count:
    """The multiply-adds of `network` for one item.

    A convolution takes (elements of its output) x (channels of its input / groups) x (elements of its
    kernel), a transposed one (elements of its input) x (channels of its output / groups) x (elements of its
    kernel), and a product of matrices [.., n, k] and [k, m] takes .. x n x k x m. Their 8-bit forms count
    alike, since they do as many.

    Args:
        network: subgraphs of `If`, `Loop` and `Scan` are not looked into; such nodes are in `left_out`.
        sizes: of named dimensions of the inputs; the first dimension of each input is 1 where it is not
            fixed.

    Raises:
        InputError: a shape that is needed does not follow from those of the inputs.
    """
    shapes = _shapes(network, sizes or {})
    dims = [dim for each in network.graph.input for dim in each.type.tensor_type.shape.dim[1:]]
    unsaid = sorted({dim.dim_param for dim in dims if dim.dim_param} - set(sizes or {}))
    nodes, left_out = [], set()
    for node in network.graph.node:
        rule = _RULES.get(node.op_type)
        if rule is not None:
            number = rule(node, _Look(shapes, node, unsaid))
            nodes.append(Counted(node.name or node.output[0], node.op_type, number))
        elif node.op_type in _NOT_COUNTED:
            left_out.add(node.op_type)
    return Count(sum(each.multiply_adds for each in nodes), tuple(nodes), tuple(sorted(left_out)))


class _Look:
    """Shapes of what a node takes and gives, by name."""

    def __init__(
        self, shapes: Mapping[str, list[int | None]], node: onnx.NodeProto, unsaid: Sequence[str]
    ) -> None:
        self._shapes, self._node, self._unsaid = shapes, node, unsaid

    def __call__(self, name: str) -> Shape:
        found = self._shapes.get(name, [None])
        whole = tuple(size for size in found if size is not None)
        if len(whole) == len(found):
            return whole
        said = (
            ", ".join("?" if size is None else str(size) for size in found)
            if name in self._shapes
            else "unknown"
        )
        node = self._node
        raise InputError(
            f"expected a fixed shape of {name!r} for the {node.op_type} {node.name or node.output[0]!r}, "
            f"got [{said}]",
            hint=f"give sizes of {', '.join(self._unsaid)}" if self._unsaid else None,
        )


def _convolution(node: onnx.NodeProto, shape: _Look) -> int:
    """The weights are [out, in / groups, *kernel]."""
    weights = shape(node.input[3 if node.op_type == "QLinearConv" else 1])
    return prod(shape(node.output[0])) * prod(weights[1:])


def _transposed(node: onnx.NodeProto, shape: _Look) -> int:
    """The weights are [in, out / groups, *kernel]."""
    return prod(shape(node.input[0])) * prod(shape(node.input[1])[1:])


def _product(node: onnx.NodeProto, shape: _Look) -> int:
    return prod(shape(node.output[0])) * shape(node.input[0])[-1]


def _gemm(node: onnx.NodeProto, shape: _Look) -> int:
    transposed = any(each.name == "transA" and each.i for each in node.attribute)
    return prod(shape(node.output[0])) * shape(node.input[0])[0 if transposed else 1]


_RULES: dict[str, Callable[[onnx.NodeProto, _Look], int]] = {
    **dict.fromkeys(("Conv", "ConvInteger", "QLinearConv", "FusedConv"), _convolution),
    "ConvTranspose": _transposed,
    **dict.fromkeys(("MatMul", "MatMulInteger", "QLinearMatMul", "FusedMatMul"), _product),
    **dict.fromkeys(("Gemm", "QGemm"), _gemm),
}
_NOT_COUNTED = {
    *("LSTM", "GRU", "RNN", "Einsum", "Attention", "MultiHeadAttention", "DeformConv"),
    *("MatMulNBits", "DynamicQuantizeMatMul", "If", "Loop", "Scan"),
}


def _shapes(network: onnx.ModelProto, sizes: Mapping[str, int]) -> dict[str, list[int | None]]:
    """The shape of every value that can be told; None for a size that cannot."""
    known = copied(network)
    constants = {each.name for each in known.graph.initializer}
    del known.graph.value_info[:]
    for each in known.graph.output:
        each.type.tensor_type.ClearField("shape")
    for each in known.graph.input:
        for place, dim in enumerate(each.type.tensor_type.shape.dim):
            if each.name in constants or dim.HasField("dim_value"):
                continue
            size = sizes.get(dim.dim_param, 1 if place == 0 else None)
            if size is not None:
                dim.dim_value = size
    graph = onnx.shape_inference.infer_shapes(known, data_prop=True).graph
    found: dict[str, list[int | None]] = {each.name: list(each.dims) for each in graph.initializer}
    for each in (*graph.input, *graph.value_info, *graph.output):
        if each.type.tensor_type.HasField("shape"):
            dims = each.type.tensor_type.shape.dim
            found.setdefault(
                each.name, [dim.dim_value if dim.HasField("dim_value") else None for dim in dims]
            )
    return found
