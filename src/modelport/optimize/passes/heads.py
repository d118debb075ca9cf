"""A detector's boxes are decoded behind the threshold: see `importers.decoding`."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec
import onnx
from onnx import TensorProto, helper

from ...importers.decoding import OtherDecoding, undecoded
from ...runtimes.outputs import ending_in
from ...steps.compile import POST_STEPS
from ...steps.step import parse_steps
from ..calibration import Calibration
from ..candidate import Made, NotApplicable


class Heads(msgspec.Struct, frozen=True):
    """The network up to its last convolutions; `post` decodes the places that are over the threshold.

    `steps`: those of the bundle's `post`, in their data form.
    """

    name: ClassVar[str] = "heads"
    steps: tuple[Any, ...] = ()

    @property
    def id(self) -> str:
        return self.name

    @property
    def title(self) -> str:
        return "boxes decoded behind the threshold"

    def apply(self, network: onnx.ModelProto, calibration: Calibration) -> Made:
        steps = parse_steps(self.steps, POST_STEPS, "$.steps.post")
        try:
            found = undecoded(network, steps, calibration.prepared)
        except OtherDecoding as problem:
            raise NotApplicable(str(problem)) from problem
        cut = ending_in(network, [spec.name for spec in found.outputs])
        first = network.graph.input[0].type.tensor_type.shape.dim[0]
        batch = first.dim_value or first.dim_param
        for value, spec in zip(cut.graph.output, found.outputs, strict=True):
            said = helper.make_tensor_value_info(spec.name, TensorProto.FLOAT, [batch, *spec.shape[1:]])
            value.CopyFrom(said)
        before, left = len(network.graph.node), len(cut.graph.node)
        told = f"{before - left} of {before} nodes decoded boxes; post decodes those over the threshold"
        return Made(cut, (told,), post=found.steps)
