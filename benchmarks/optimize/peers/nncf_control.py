"""NNCF's quantisation with accuracy control, for OpenVINO: layers go back to float until the loss is allowed.

https://docs.openvino.ai/2025/openvino-workflow/model-optimization-guide.html
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

import nncf
import openvino

from benchmarks.optimize.networks import outputs_of, run_compiled
from benchmarks.optimize.peers.job import Answer, Job, main
from modelport.bundle.store import Bundle


def make(job: Job) -> Answer:
    """Settings: preset, max_drop (a share), control (false: `nncf.quantize` alone), plain (convert only)."""
    model, made = openvino.convert_model(job.model), job.out / "net.xml"
    if not job.settings.get("plain"):
        model = quantized(job, model)
    openvino.save_model(model, made, compress_to_fp16=False)
    return {"file": made.name, "runtime": "openvino"}


def quantized(job: Job, model: Any) -> Any:
    """The model in 8 bits, as far as it is accurate."""
    items = [next(iter(batch.values())) for batch in job.batches()]
    calibration = nncf.Dataset(items)
    preset = nncf.QuantizationPreset[job.settings.get("preset", "PERFORMANCE")]
    if not job.settings.get("control", True):
        return nncf.quantize(model, calibration, preset=preset)
    judge, requests = job.judge(), threading.local()
    outputs = outputs_of(Bundle.open(job.bundle))

    def validate(compiled: Any, places: Iterable[int]) -> tuple[float, None]:
        found = judge.outcomes(lambda batch: run_compiled(compiled, batch, outputs, requests), list(places))
        return judge.score(found), None

    places = list(range(len(judge.items)))
    return nncf.quantize_with_accuracy_control(
        model,
        calibration_dataset=calibration,
        validation_dataset=nncf.Dataset(places, lambda place: next(iter(judge.input(place).values()))),
        validation_fn=validate,
        max_drop=job.settings["max_drop"],
        drop_type=nncf.DropType.ABSOLUTE,
        preset=preset,
    )


if __name__ == "__main__":
    main(make, ("nncf", "openvino"))
