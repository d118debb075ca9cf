"""What ONNX Runtime makes of a network when it loads it, kept: the next start does not have to."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import ClassVar

import msgspec
import onnx

from ...runtimes.onnxruntime import UNWANTED, session_options
from ...runtimes.session import Settings
from ..calibration import Calibration
from ..candidate import Made, NotApplicable

SHOWN = 6
STANDARD = ("", "ai.onnx", "ai.onnx.ml")


class Offline(msgspec.Struct, frozen=True):
    """ONNX Runtime's rewriting within the standard operators, done beforehand: constants and normalisations
    folded, the same on every machine. What it fuses beyond is told, and left to when it loads: a convolution
    that is fused already is not put into the processor's own layout any more.
    """

    name: ClassVar[str] = "ort-offline"
    id: ClassVar[str] = name
    title: ClassVar[str] = "rewritten by ONNX Runtime beforehand"

    def apply(self, network: onnx.ModelProto, calibration: Calibration) -> Made:
        made = rewritten(network, {"optimization": "basic"})
        loaded = f"when it is loaded, {said(network, rewritten(network, {'optimization': 'extended'}))}"
        before, after = (Counter(node.op_type for node in each.graph.node) for each in (network, made))
        if before == after:
            raise NotApplicable(f"there is nothing to rewrite beforehand; {loaded}")
        return Made(made, (said(network, made), loaded))


def rewritten(network: onnx.ModelProto, settings: Settings) -> onnx.ModelProto:
    """The network as ONNX Runtime keeps it after loading it.

    Raises:
        NotApplicable: ONNX Runtime does not take it.
    """
    import onnxruntime as ort

    with tempfile.TemporaryDirectory(prefix="modelport-offline-") as folder:
        place = Path(folder, "network.onnx")
        options = session_options(1, settings)
        options.optimized_model_filepath = str(place)
        try:
            ort.InferenceSession(
                network.SerializeToString(),
                options,
                providers=["CPUExecutionProvider"],
                disabled_optimizers=UNWANTED,
            )
            return onnx.load_model(place)
        except OSError:
            raise
        except Exception as problem:  # its exceptions have no base of their own
            raise NotApplicable(f"ONNX Runtime does not take it: {problem}") from problem


def said(before: onnx.ModelProto, after: onnx.ModelProto) -> str:
    """How many nodes there were and are, what was fused into what, and what went altogether."""
    kinds = [Counter(node.op_type for node in each.graph.node) for each in (before, after)]
    new = {node.op_type for node in after.graph.node if node.domain not in STANDARD} - set(kinds[0])
    fused = [f"{kinds[1][kind]} {kind}" for kind in sorted(new)]
    activations = Counter(
        attribute.s.decode()
        for node in after.graph.node
        for attribute in node.attribute
        if attribute.name == "activation"
    )
    fused += [f"{count} {kind} within its layer" for kind, count in activations.most_common()]
    gone = [f"{count} {kind}" for kind, count in (kinds[0] - kinds[1]).most_common(SHOWN)]
    if kinds[0] == kinds[1]:
        return "its nodes stay as they are"
    told = f"{kinds[0].total()} nodes became {kinds[1].total()}"
    told += f": without {', '.join(gone)}" if gone else ""
    return told + (f"; fused: {', '.join(fused)}" if fused else "")
