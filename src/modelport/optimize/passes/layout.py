"""How convolutions keep their channels in memory: ONNX Runtime's own choice, or as the network has them."""

from __future__ import annotations

from typing import ClassVar

import msgspec
import onnx

from ...runtimes.form import DEFAULT
from ...runtimes.session import Settings
from ..calibration import Calibration
from ..candidate import Candidate, Made, NotApplicable, network_of
from .offline import rewritten
from .runtime import OnRuntime

PLAIN = "extended"
"""The level of optimization below that which chooses layouts."""
BLOCKED = "com.microsoft.nchwc"
MOVES = ("ReorderInput", "ReorderOutput", "Transpose")


class Layout(OnRuntime, frozen=True):
    """Without the layouts that ONNX Runtime chooses where it loads a network.

    It keeps channels in blocks of the width of a register (NCHWc) for convolutions in float, and last (NHWC)
    for those in 8 bits. Networks of few channels, and those with other operators between convolutions, may
    lose more by going there and back than they gain.
    """

    name: ClassVar[str] = "layout"
    runtime: str = DEFAULT
    settings: Settings = msgspec.field(default_factory=lambda: {"optimization": PLAIN})

    @property
    def id(self) -> str:
        return "plain-layout"

    @property
    def title(self) -> str:
        return "channels as the network has them"

    def apply(self, network: onnx.ModelProto, calibration: Calibration) -> Made:
        chosen = rearranged(network)
        if not chosen:
            raise NotApplicable("ONNX Runtime changes no layout when it loads this network")
        return Made(network, (chosen,), self.runtime, self.settings, machine_bound=True)

    def of(self, candidate: Candidate) -> Candidate:
        """See `OnRuntime`; with what is not done any more."""
        made = super().of(candidate)
        try:
            chosen = rearranged(network_of(candidate.bundle))
        except NotApplicable:
            return made  # `apply` says why
        return msgspec.structs.replace(made, notes=(*made.notes, chosen) if chosen else made.notes)


def rearranged(network: onnx.ModelProto) -> str:
    """What ONNX Runtime changes in the layout when it loads a network, in words; empty for nothing.

    Raises:
        NotApplicable: it does not take it.
    """
    plain, whole = (rewritten(network, {"optimization": level}).graph.node for level in (PLAIN, "all"))
    blocks = sum(node.domain == BLOCKED and node.op_type not in MOVES for node in whole)
    last = sum(_channels_last(node) for node in whole)
    before, after = (sum(node.op_type in MOVES for node in nodes) for nodes in (plain, whole))
    if not blocks and not last:
        return ""
    kinds = [f"{blocks} layers keep channels in blocks"] if blocks else []
    kinds += [f"{last} layers keep channels last"] if last else []
    return f"as ONNX Runtime loads it, {' and '.join(kinds)}, with {after} reorderings instead of {before}"


def _channels_last(node: onnx.NodeProto) -> bool:
    return any(each.name == "channels_last" and each.i for each in node.attribute)
