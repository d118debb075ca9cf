"""Large matrices as products of two thin ones, where that is less to multiply (SVD; Denton et al. 2014)."""

from __future__ import annotations

from typing import ClassVar

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from ..calibration import Calibration
from ..candidate import Made, NotApplicable
from ..rewriting import copied, drop_unused, replace, settings_of

Floats = NDArray[np.float64]
TINY, FLOOR = 1e-300, 1e-12
"""Of a sum, and of the largest energy: what is divided by is no less."""
LEAST = 1 << 14
"""Weights of a layer, below which two layers cost more than one."""
GAIN = 0.75
"""Of a layer's multiply-adds, that its two are to have at most."""


class LowRank(msgspec.Struct, frozen=True):
    """Gemm, MatMul and 1x1 convolutions of constant weights, cut to the rank that keeps `energy`.

    `energy`: the share of the squared weights that is kept in each layer.
    """

    name: ClassVar[str] = "low-rank"
    energy: float = 0.99

    @property
    def id(self) -> str:
        return f"{self.name}-{self.energy:g}"

    @property
    def title(self) -> str:
        return f"layers of low rank ({self.energy:.1%} of the weights' energy)"

    def apply(self, network: onnx.ModelProto, calibration: Calibration) -> Made:
        own = copied(network)
        weights = {tensor.name: tensor for tensor in own.graph.initializer}
        before = after = 0
        count, large = 0, 0
        for node in list(own.graph.node):
            matrix = _matrix(node, weights)
            if matrix is None:
                continue
            large += 1
            energies, basis = _axes(matrix)
            rank = self._rank(energies)
            inputs, outputs = matrix.shape
            before += inputs * outputs
            if rank * (inputs + outputs) > GAIN * inputs * outputs:
                after += inputs * outputs
                continue
            after += rank * (inputs + outputs)
            count += 1
            _split(own.graph, node, *_factors(matrix, energies[:rank], basis[:, :rank]))
        if not count:
            raise NotApplicable(
                f"none of {large} large matrices has a rank at which two are less work than one"
                if large
                else f"no matrix product or 1x1 convolution has {LEAST} weights of float32 or more"
            )
        drop_unused(own)
        share = after / before
        return Made(own, (f"{count} of {large} large matrices, {share:.0%} of their multiply-adds",))

    def _rank(self, energies: Floats) -> int:
        kept = np.cumsum(energies) / max(float(energies.sum()), TINY)
        return min(int(np.searchsorted(kept, self.energy)) + 1, len(energies))


def _axes(matrix: np.ndarray) -> tuple[Floats, Floats]:
    """Squared singular values, the largest first, and the singular vectors of the shorter side as columns.

    By the eigenvectors of the small product with itself: a third of what the values alone cost by an SVD,
    and as exact as a share of the energy has to be.
    """
    wide = matrix.astype(np.float64)
    energies, vectors = np.linalg.eigh(wide.T @ wide if wide.shape[0] >= wide.shape[1] else wide @ wide.T)
    return np.maximum(energies[::-1], 0.0), vectors[:, ::-1]


def _factors(matrix: np.ndarray, energies: Floats, basis: Floats) -> tuple[np.ndarray, np.ndarray]:
    """Two thin matrices whose product is `matrix` cut to the axes of `basis`, float32, of alike size."""
    root = np.maximum(energies, FLOOR * float(energies[0]) or 1.0) ** 0.25
    wide = matrix.astype(np.float64)
    if matrix.shape[0] >= matrix.shape[1]:
        first, second = (wide @ basis) / root, root[:, None] * basis.T
    else:
        first, second = basis * root, (basis.T @ wide) / root[:, None]
    return first.astype(np.float32), second.astype(np.float32)


def _matrix(node: onnx.NodeProto, weights: dict[str, TensorProto]) -> np.ndarray | None:
    """The weights as [inputs, outputs]; None for what is no large matrix."""
    if node.op_type not in ("Gemm", "MatMul", "Conv") or node.input[1] not in weights:
        return None
    tensor = weights[node.input[1]]
    if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < LEAST:
        return None
    array = numpy_helper.to_array(tensor)
    settings = settings_of(node)
    if node.op_type == "Conv":
        plain = settings.get("group", 1) == 1 and array.ndim == 4 and array.shape[2:] == (1, 1)
        return array[:, :, 0, 0].T if plain else None
    if array.ndim != 2 or settings.get("transA", 0) or settings.get("alpha", 1.0) != 1.0:
        return None
    return array.T if settings.get("transB", 0) else array


def _split(graph: onnx.GraphProto, node: onnx.NodeProto, first: np.ndarray, second: np.ndarray) -> None:
    """Two nodes in place of one: by `first` [inputs, rank] to a few values, and by `second` from them."""
    name = node.name or node.output[0]
    between = f"{name}/rank"
    if node.op_type == "Conv":
        arrays = first.T[:, :, None, None], second.T[:, :, None, None]
        # What the layer does to the picture's size is done first: fewer places are left to compute.
        steps = [each for each in node.attribute if each.name in ("strides", "pads", "auto_pad")]
    else:
        arrays, steps = (first, second), []
    for array, side in zip(arrays, ("first", "second"), strict=True):
        graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(array), f"{name}/{side}"))
    kind = "MatMul" if node.op_type == "Gemm" else node.op_type
    thin = helper.make_node(kind, [node.input[0], f"{name}/first"], [between], name=between)
    thin.attribute.extend(steps)
    wide = helper.make_node(
        node.op_type, [between, f"{name}/second", *node.input[2:]], list(node.output), name=node.name
    )
    if node.op_type == "Gemm":
        wide.attribute.extend(each for each in node.attribute if each.name == "beta")
    replace(graph, node, [thin, wide])
