"""A detector's boxes are decoded behind the threshold: see `importers.decoding`."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec
import onnx
from onnx import TensorProto, helper

from ...importers.decoding import OtherDecoding, undecoded
from ...runtimes.outputs import ending_in
from ...steps.compile import POST_STEPS
from ...steps.grids import YoloV5Raw
from ...steps.step import parse_steps
from ..calibration import Calibration
from ..candidate import Made, NotApplicable


class Heads(msgspec.Struct, frozen=True):
    """The network up to its last convolutions; `post` decodes the places that are over the threshold.

    `steps`: those of the bundle's `post`, in their data form. `channels_last`: whether the outputs are turned
    so that the planes come last; 8-bit convolutions have them so, and turning them back takes time.
    """

    name: ClassVar[str] = "heads"
    steps: tuple[Any, ...] = ()
    channels_last: bool = False

    @property
    def id(self) -> str:
        return f"{self.name}-last" if self.channels_last else self.name

    @property
    def title(self) -> str:
        return "boxes decoded behind the threshold" + (", channels last" if self.channels_last else "")

    def apply(self, network: onnx.ModelProto, calibration: Calibration) -> Made:
        steps = parse_steps(self.steps, POST_STEPS, "$.steps.post")
        try:
            found = undecoded(network, steps, calibration.prepared)
        except OtherDecoding as problem:
            raise NotApplicable(str(problem)) from problem
        cut = ending_in(network, [spec.name for spec in found.outputs])
        first = network.graph.input[0].type.tensor_type.shape.dim[0]
        batch = first.dim_value or first.dim_param
        before, left = len(network.graph.node), len(cut.graph.node)
        told = f"{before - left} of {before} nodes decoded boxes; post decodes those over the threshold"
        for value, spec in zip(cut.graph.output, found.outputs, strict=True):
            said = helper.make_tensor_value_info(spec.name, TensorProto.FLOAT, [batch, *spec.shape[1:]])
            value.CopyFrom(said)
        steps = found.steps
        if self.channels_last:
            _turn(cut.graph)
            steps = tuple(
                msgspec.structs.replace(step, channels_last=True) if isinstance(step, YoloV5Raw) else step
                for step in steps
            )
        return Made(cut, (told,), post=steps)


def _turn(graph: onnx.GraphProto) -> None:
    """The same outputs with their planes on the last axis, under names of their own."""
    for value in graph.output:
        name = f"{value.name}_last"
        graph.node.append(helper.make_node("Transpose", [value.name], [name], name=name, perm=[0, 2, 3, 1]))
        batch, planes, rows, columns = value.type.tensor_type.shape.dim
        shape = [batch.dim_value or batch.dim_param, rows.dim_value, columns.dim_value, planes.dim_value]
        value.CopyFrom(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
