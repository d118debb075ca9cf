"""Why is an 8-bit network not faster? What ONNX Runtime made of it says: which layers stayed in float."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

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
CONVERSIONS = ("QuantizeLinear", "DequantizeLinear")
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
    converted: tuple[str, ...] = ()
    """The values that are converted there."""

    def sentence(self) -> str:
        """What it comes to, for people; empty where nothing is in 8 bits and nothing is converted."""
        said = []
        if self.integer or self.pairs:
            said.append(f"{self.integer} of {self.integer + len(self.floating)} layers run in 8 bits")
            if self.floating:
                said.append(f"in float stayed {_listed(self.floating)}")
            if self.pairs:
                of = f" ({_listed(self.converted)})" if self.converted else ""
                said.append(f"{self.pairs} conversions between float and 8 bits did not fuse{of}")
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
        pairs=sum(kinds[kind] for kind in CONVERSIONS),
        casts=kinds["Cast"],
        converted=tuple(
            dict.fromkeys(_converted(node) for node in graph.node if node.op_type in CONVERSIONS)
        ),
    )


def _converted(node: onnx.NodeProto) -> str:
    """The value in float that is converted."""
    name: str = node.input[0] if node.op_type == CONVERSIONS[0] else node.output[0]
    return name


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more}"
