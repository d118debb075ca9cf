"""Weights of large matrix products in 8 or 4 bits, all arithmetic in float: less to read from memory."""

from __future__ import annotations

from typing import ClassVar, Literal

import msgspec
import onnx
from onnx import TensorProto

from ..calibration import Calibration
from ..candidate import Made, NotApplicable
from ..rewriting import drop_unused, named, replace, settings_of

LEAST = 1 << 16
"""Numbers of a matrix, below which reading it costs little."""


class WeightOnly(msgspec.Struct, frozen=True):
    """`MatMulNBits` of ONNX Runtime, with a scale for each block of a column.

    `bits`: of a weight. `block`: numbers that share a scale.
    """

    name: ClassVar[str] = "weight-only"
    bits: Literal[4, 8] = 8
    block: Literal[32, 64, 128] = 32

    @property
    def id(self) -> str:
        return f"{self.name}-int{self.bits}" + (f"-block{self.block}" if self.block != 32 else "")

    @property
    def title(self) -> str:
        return f"weights of matrix products in {self.bits} bits"

    def apply(self, network: onnx.ModelProto, calibration: Calibration) -> Made:
        own, large, small = _products(network)
        if not large:
            raise NotApplicable(f"no matrix product has {LEAST} weights of float32 or more")
        try:
            from onnxruntime.quantization.matmul_nbits_quantizer import (
                DefaultWeightOnlyQuantConfig,
                MatMulNBitsQuantizer,
            )
        except ImportError as problem:
            if problem.name == "onnx_ir":
                raise NotApplicable("needs onnx-ir; pip install 'modelport[optimize]'") from problem
            raise NotApplicable(f"this ONNX Runtime has no MatMulNBits: {problem}") from problem
        config = DefaultWeightOnlyQuantConfig(block_size=self.block, is_symmetric=True, bits=self.bits)
        try:
            quantizer = MatMulNBitsQuantizer(own, nodes_to_exclude=small, algo_config=config)
            quantizer.process()
        except (ValueError, RuntimeError, TypeError, NotImplementedError) as problem:
            raise NotApplicable(f"the quantizer does not take this network: {problem}") from problem
        made = quantizer.model.model
        count = sum(node.op_type == "MatMulNBits" for node in made.graph.node)
        if not count:
            raise NotApplicable("none of its matrices is of a form that MatMulNBits takes")
        share = made.ByteSize() / network.ByteSize()
        return Made(made, (f"{count} of {len(large) + len(small)} matrices; {share:.0%} of the bytes",))


def _products(network: onnx.ModelProto) -> tuple[onnx.ModelProto, list[str], list[str]]:
    """A copy with names, and MatMul and Add in place of plain Gemms; its large products, and the others."""
    own = named(network)
    weights = {tensor.name: tensor for tensor in own.graph.initializer}
    large: list[str] = []
    small: list[str] = []
    for node in list(own.graph.node):
        if node.op_type == "Gemm":
            node = _as_product(own.graph, node, weights)
        if node.op_type != "MatMul" or node.input[1] not in weights:
            continue
        tensor = weights[node.input[1]]
        size = 1
        for dim in tensor.dims:
            size *= dim
        fits = len(tensor.dims) == 2 and tensor.data_type == TensorProto.FLOAT and size >= LEAST
        (large if fits else small).append(node.name)
    drop_unused(own)
    return own, large, small


def _as_product(
    graph: onnx.GraphProto, node: onnx.NodeProto, weights: dict[str, TensorProto]
) -> onnx.NodeProto:
    """A Gemm of a constant matrix as MatMul and Add; the node as it is where it is of another form."""
    settings = settings_of(node)
    plain = settings.get("alpha", 1) == settings.get("beta", 1) == 1 and not settings.get("transA", 0)
    if not plain or node.input[1] not in weights:
        return node
    matrix = onnx.numpy_helper.to_array(weights[node.input[1]])
    if settings.get("transB", 0):
        name = f"{node.name}/matrix"
        graph.initializer.append(onnx.numpy_helper.from_array(matrix.T.copy(), name))
        weights[name] = graph.initializer[-1]
    else:
        name = node.input[1]
    biased = len(node.input) > 2 and bool(node.input[2])
    output = f"{node.output[0]}/product" if biased else node.output[0]
    product = onnx.helper.make_node("MatMul", [node.input[0], name], [output], name=node.name)
    new = [product]
    if biased:
        new.append(
            onnx.helper.make_node("Add", [output, node.input[2]], [node.output[0]], name=f"{node.name}/bias")
        )
    replace(graph, node, new)
    return product
