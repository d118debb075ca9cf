"""Why is an 8-bit network not faster? What ONNX Runtime made of it says: which layers stayed in float."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import msgspec
import onnx

from ..runtimes.onnxruntime import UNWANTED
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
    """What this machine's ONNX Runtime makes of a network when it loads it."""
    import onnxruntime as ort

    with tempfile.TemporaryDirectory(prefix="modelport-fused-") as folder:
        place = Path(folder, "optimised.onnx")
        options = ort.SessionOptions()
        options.optimized_model_filepath = str(place)
        options.log_severity_level = 4
        ort.InferenceSession(
            network, options, providers=["CPUExecutionProvider"], disabled_optimizers=UNWANTED
        )
        graph = onnx.load_model(place).graph
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
