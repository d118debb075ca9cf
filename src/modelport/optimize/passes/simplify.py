"""Nodes that compute what is known, or what nobody asks for, are taken out."""

from __future__ import annotations

from collections import Counter
from typing import ClassVar

import msgspec
import onnx

from ...errors import Unsupported
from ..calibration import Calibration
from ..candidate import Made, NotApplicable

SHOWN = 6


class Simplify(msgspec.Struct, frozen=True):
    """onnxslim: constants folded, shapes settled, dead nodes removed, common chains fused."""

    name: ClassVar[str] = "simplify"
    id: ClassVar[str] = name
    title: ClassVar[str] = "graph simplified"

    def apply(self, network: onnx.ModelProto, calibration: Calibration) -> Made:
        try:
            import onnxslim
        except ImportError as problem:
            raise Unsupported(
                "simplifying graphs needs onnxslim", hint="pip install 'modelport[optimize]'"
            ) from problem
        before = Counter(node.op_type for node in network.graph.node)
        try:
            slim = onnxslim.slim(network, size_threshold=None)
        except Exception as problem:  # a library that raises what it likes
            raise NotApplicable(f"onnxslim does not take this network: {problem}") from problem
        after = Counter(node.op_type for node in slim.graph.node)
        if before == after:
            raise NotApplicable("there is nothing to simplify")
        gone = [f"{count} {kind}" for kind, count in (before - after).most_common(SHOWN)]
        said = f"{before.total()} nodes became {after.total()}: without {', '.join(gone)}"
        return Made(slim, (said,))
