"""ONNX Runtime's own guide: `quant_pre_process`, then `quantize_static`.

https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from benchmarks.optimize.peers.job import Answer, Job, main


class Reader(CalibrationDataReader):
    """The calibration items, one at a time."""

    def __init__(self, items: Iterator[dict[str, np.ndarray]]) -> None:
        self._items = items

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._items, None)


def make(job: Job) -> Answer:
    """Settings: activations, per_channel, calibrate, and op_types (all unless given)."""
    prepared, made = job.out / "prepared.onnx", job.out / "net.onnx"
    quant_pre_process(str(job.model), str(prepared))
    quantize_static(
        str(prepared),
        str(made),
        Reader(job.batches()),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=job.settings.get("op_types"),
        per_channel=job.settings.get("per_channel", False),
        activation_type=QuantType[job.settings.get("activations", "QInt8")],
        weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod[job.settings.get("calibrate", "MinMax")],
    )
    prepared.unlink()
    return {"file": made.name, "runtime": "onnxruntime"}


if __name__ == "__main__":
    main(make, ("onnxruntime", "onnx"))
