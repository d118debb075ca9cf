"""Why is an 8-bit network not faster? What the runtime made of it says: which layers stayed in float."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec
import onnx
from onnx import TensorProto

from ..errors import ModelportError
from ..runtimes.form import DEFAULT, form_of
from ..runtimes.machine import machine_class
from ..runtimes.session import DEFAULTS, Settings
from .bench.operators import profile
from .bench.origins import Origins, shown
from .bench.outcome import Operator
from .candidate import Candidate, NotApplicable
from .passes.offline import rewritten
from .rewriting import settings_of
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
FLOATING = (*LAYERS, "FusedConv", "MatMulNBits")
"""The last one has weights of a few bits, which are multiplied as floats."""
WEIGHTS = {"QLinearConv": 3, "QLinearMatMul": 3, "QGemm": 3, "ConvInteger": 1, "MatMulInteger": 1}
"""Which of an operator's inputs they are."""
CONVERSIONS = ("QuantizeLinear", "DequantizeLinear")
OPENVINO = "openvino"
OPENVINO_LAYERS = ("Convolution", "Deconvolution", "FullyConnected", "MatMul")
EIGHT, BRAIN = "_i8", "_bf16"
"""What the names of OpenVINO's kernels end in."""
SHOWN = 5


class Fused(msgspec.Struct, frozen=True):
    """The network as a runtime runs it on this machine."""

    integer: int
    """Layers that compute in 8 bits."""
    floating: tuple[str, ...]
    """Layers that compute in float."""
    pairs: int
    """QuantizeLinear and DequantizeLinear nodes that were left over, each a pass through memory."""
    casts: int = 0
    converted: tuple[str, ...] = ()
    """The values that are converted there."""
    bfloat16: int = 0
    """Layers that compute in bfloat16."""
    unsigned: int = 0
    """Layers in 8 bits whose weights have no sign, on a processor with VNNI."""
    share: float | None = None
    """Of the network's time that the conversions take, where the runtime says so."""

    def sentence(self) -> str:
        """What it comes to, for people; empty where all is in float32 and nothing is converted."""
        said = []
        layers = self.integer + self.bfloat16 + len(self.floating)
        if self.integer or self.pairs:
            said.append(f"{self.integer} of {layers} layers run in 8 bits")
        if self.bfloat16:
            said.append(f"{self.bfloat16} of {layers} layers run in bfloat16")
        if said and self.floating:
            said.append(f"in float stayed {_listed(self.floating)}")
        if self.unsigned:
            have = "1 has" if self.unsigned == 1 else f"{self.unsigned} have"
            said.append(f"{have} weights without sign, which VNNI does not multiply")
        if self.pairs:
            of = f" ({_listed(self.converted)})" if self.converted else ""
            time = "" if self.share is None else f", {self.share:.0%} of its time"
            many = "1 conversion" if self.pairs == 1 else f"{self.pairs} conversions"
            said.append(f"{many} between float and 8 bits did not fuse{of}{time}")
        if self.casts:
            said.append(f"{self.casts} cast{'s' if self.casts > 1 else ''} between float16 and float32 run")
        return "; ".join(said)


def explained(candidate: Candidate, item: bytes) -> str:
    """What the candidate's runtime makes of its network here, in a sentence; empty where it does not say.

    Args:
        item: an encoded one, which OpenVINO is asked about.
    """
    try:
        if candidate.runtime == DEFAULT:
            return fused(candidate.bundle.graph("net"), candidate.settings).sentence()
        return fused_in_openvino(candidate, item).sentence() if candidate.runtime == OPENVINO else ""
    except (ModelportError, NotApplicable):
        return ""


def fused(network: bytes, settings: Settings = DEFAULTS) -> Fused:
    """What this machine's ONNX Runtime makes of a network when it loads it.

    Raises:
        NotApplicable: it does not take it.
    """
    model = onnx.load_model_from_string(network)
    origins, graph = Origins(model.graph), rewritten(model, settings).graph
    kinds = Counter(node.op_type for node in graph.node)
    return Fused(
        integer=sum(kinds[kind] for kind in INTEGER),
        floating=tuple(_layer(node, origins) for node in graph.node if node.op_type in FLOATING),
        pairs=sum(kinds[kind] for kind in CONVERSIONS),
        casts=_casts(graph),
        converted=tuple(
            dict.fromkeys(_converted(node) for node in graph.node if node.op_type in CONVERSIONS)
        ),
        unsigned=_unsigned(graph) if "vnni" in machine_class() else 0,
    )


def fused_in_openvino(candidate: Candidate, item: bytes) -> Fused:
    """What OpenVINO runs for one item, as its profile has it.

    Raises:
        ModelportError: it does not run.
    """
    form = form_of(candidate.bundle, candidate.variant, OPENVINO, candidate.settings)
    found = profile(candidate.bundle, form, 0, [item], threads=1, batch=1, seconds=0.0, stopped=lambda: False)
    ran = next(stage.nodes for stage in found.stages if stage.stage == "net")
    layers = [node for node in ran if node.type in OPENVINO_LAYERS]
    precise = [node for node in layers if not _kernel(node).endswith((EIGHT, BRAIN))]
    graph = onnx.load_model_from_string(candidate.bundle.graph("net")).graph
    there = {shown(node): node for node in graph.node if node.op_type in CONVERSIONS}
    converting = [node for node in ran if node not in layers and there.keys() & set(node.nodes[:1])]
    return Fused(
        integer=sum(_kernel(node).endswith(EIGHT) for node in layers),
        floating=tuple(node.nodes[0] if node.nodes else node.name for node in precise),
        pairs=len(converting),
        converted=tuple(dict.fromkeys(_converted(there[node.nodes[0]]) for node in converting)),
        bfloat16=sum(_kernel(node).endswith(BRAIN) for node in layers),
        share=sum(node.share for node in converting),
    )


def _kernel(node: Operator) -> str:
    return node.implementation.lower()


def _layer(node: onnx.NodeProto, origins: Origins) -> str:
    """The layer that a node stands for: ONNX Runtime calls one that it changed by the value that it makes."""
    return next(iter(origins.of(node.name, node.op_type)), node.name or node.op_type)


def _casts(graph: onnx.GraphProto) -> int:
    """Conversions to float16, and where there are such also those to float32."""
    aims = Counter(settings_of(node).get("to") for node in graph.node if node.op_type == "Cast")
    halves = any(tensor.data_type == TensorProto.FLOAT16 for tensor in graph.initializer)
    there = halves or aims[TensorProto.FLOAT16]
    return aims[TensorProto.FLOAT16] + aims[TensorProto.FLOAT] if there else 0


def _unsigned(graph: onnx.GraphProto) -> int:
    """Layers in 8 bits whose weights have no sign."""
    kinds = {tensor.name: tensor.data_type for tensor in graph.initializer}
    return sum(
        kinds.get(node.input[WEIGHTS[node.op_type]]) == TensorProto.UINT8
        for node in graph.node
        if node.op_type in WEIGHTS
    )


def _converted(node: onnx.NodeProto) -> str:
    """The value in float that is converted."""
    name: str = node.input[0] if node.op_type == CONVERSIONS[0] else node.output[0]
    return name


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(names[:SHOWN])}{more}"
