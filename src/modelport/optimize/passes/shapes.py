"""Sizes that every item has are written into the network: nothing has to be computed from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import msgspec
import onnx

from ..calibration import Calibration
from ..candidate import Made, NotApplicable
from ..rewriting import copied


class StaticShapes(msgspec.Struct, frozen=True):
    """Free axes of the inputs are given the size that `pre` always makes; the batch stays free.

    What 8-bit pictures are folded by, and what is computed from sizes, is known then. OpenVINO compiles a
    network for each size of batch besides: see `runtimes.openvino`.

    `shapes`: of one item, by the input's name, as `pre` gives it; a name in place of a size is a free axis.
    """

    name: ClassVar[str] = "static-shapes"
    id: ClassVar[str] = name
    title: ClassVar[str] = "sizes that never change written down"
    shapes: Mapping[str, tuple[int | str, ...]] = {}

    def apply(self, network: onnx.ModelProto, calibration: Calibration) -> Made:
        own, settled = copied(network), dict[str, int]()
        told, free = list[str](), list[str]()
        for value in own.graph.input:
            known = self.shapes.get(value.name, ())
            dims = list(value.type.tensor_type.shape.dim)[1:]
            for axis, (dim, size) in enumerate(zip(dims, known, strict=False), 1):
                if dim.HasField("dim_value"):
                    continue
                if not isinstance(size, int):
                    free.append(f"axis {axis} of {value.name}")
                    continue
                if dim.dim_param:
                    settled[dim.dim_param] = size
                dim.dim_value = size
                told.append(f"axis {axis} of {value.name} is {size}")
        if not told:
            raise NotApplicable(
                f"items differ in size: {', '.join(free)}"
                if free
                else "every axis but the batch has its size"
            )
        # What was inferred before has names for these sizes, and is inferred again.
        del own.graph.value_info[:]
        for value in own.graph.output:
            for dim in value.type.tensor_type.shape.dim:
                if dim.dim_param in settled:
                    dim.dim_value = settled[dim.dim_param]
        return Made(own, tuple(told))
