"""Why is an 8-bit network not faster? What ONNX Runtime made of it says: which layers stayed in float."""

from __future__ import annotations

from collections import Counter

import msgspec
import onnx

from ..runtimes.session import DEFAULTS
from .passes.offline import rewritten
from .tail import LAYERS

INTEGER = (
    "QLinearConv",
    "QLinearMatMul",
    "QGemm",
    "ConvInteger",
    "MatMulInteger",
    "MatMulIntegerToFloat",
    "DynamicQuantizeMatMul",
)
SHOWN = 5


class Fused(msgspec.Struct, frozen=True):
    """The network as ONNX Runtime runs it on this machine."""

    integer: int
    """Layers that compute in 8 bits."""
    floating: tuple[str, ...]
    """Layers that compute in float."""
    pairs: int
    """QuantizeLinear and DequantizeLinear nodes that were left over, each a pass through memory."""
    casts: int

    def sentence(self) -> str:
        """What it comes to, for people; empty where nothing is in 8 bits and nothing is converted."""
        said = []
        if self.integer or self.pairs:
            said.append(f"{self.integer} of {self.integer + len(self.floating)} layers run in 8 bits")
            if self.floating:
                rest = f" and {len(self.floating) - SHOWN} more" if len(self.floating) > SHOWN else ""
                said.append(f"in float stayed {', '.join(self.floating[:SHOWN])}{rest}")
            if self.pairs:
                said.append(f"{self.pairs} conversions between float and 8 bits did not fuse")
        if self.casts:
            said.append(f"{self.casts} casts between float16 and float32 run")
        return "; ".join(said)


def fused(network: bytes) -> Fused:
    """What this machine's ONNX Runtime makes of a network when it loads it.

    Raises:
        NotApplicable: it does not take it.
    """
    graph = rewritten(onnx.load_model_from_string(network), DEFAULTS).graph
    kinds = Counter(node.op_type for node in graph.node)
    return Fused(
        integer=sum(kinds[kind] for kind in INTEGER),
        floating=tuple(
            (node.name or node.op_type).removesuffix("_nchwc")
            for node in graph.node
            if node.op_type in (*LAYERS, "FusedConv")
        ),
        pairs=kinds["QuantizeLinear"] + kinds["DequantizeLinear"],
        casts=kinds["Cast"],
    )
