"""Weights and arithmetic in float16, inputs and outputs as they were."""

from __future__ import annotations

from typing import ClassVar

import msgspec
import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from ...importers.canonical import opset_of
from ..calibration import Calibration
from ..candidate import Made, NotApplicable

QUANTIZED = ("QuantizeLinear", "DequantizeLinear")
SCALES = 19
"""The first opset whose scales may be float16."""


class Half(msgspec.Struct, frozen=True):
    """float16 with float32 at the ends; a processor without float16 arithmetic computes in float32."""

    name: ClassVar[str] = "fp16"
    id: ClassVar[str] = name
    title: ClassVar[str] = "float16"

    def apply(self, network: onnx.ModelProto, calibration: Calibration) -> Made:
        from onnxruntime.transformers.float16 import convert_float_to_float16

        if opset_of(network) < SCALES and any(node.op_type in QUANTIZED for node in network.graph.node):
            raise NotApplicable(f"the scales of its 8-bit values are float32 before opset {SCALES}")
        weights = [t for t in network.graph.initializer if t.data_type == TensorProto.FLOAT]
        if not weights:
            raise NotApplicable("it has no float32 weights")
        largest = max((float(np.abs(numpy_helper.to_array(t)).max(initial=0)) for t in weights), default=0.0)
        if largest > float(np.finfo(np.float16).max):
            raise NotApplicable(f"a weight of {largest:g} is beyond what float16 holds")
        try:
            half = convert_float_to_float16(network, keep_io_types=True, disable_shape_infer=False)
        except (ValueError, RuntimeError, TypeError, KeyError, AttributeError) as problem:
            raise NotApplicable(f"it does not convert: {problem}") from problem
        return Made(half, (f"{len(weights)} weights in half the bytes",))
