"""Olive: its static quantisation pass, alone or with Olive's own search over the settings of that pass.

https://microsoft.github.io/Olive/features/quantization.html
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

os.environ["OLIVE_DISABLE_TELEMETRY"] = "1"

import olive

from benchmarks.optimize.peers.job import Answer, Job, main

SCRIPT = Path(__file__).with_name("olive_script.py")
LATENCY = {
    "name": "latency",
    "type": "latency",
    "data_config": "calibration",
    "sub_types": [{"name": "avg", "priority": 2, "goal": {"type": "percent-min-improvement", "value": 1}}],
}


def make(job: Job) -> Answer:
    """Settings: `pass`, the settings of OnnxStaticQuantization; `search`, how many Olive tries itself."""
    given = {"calibration": {"type": "calibration_items", "path": str(job.calibration)}}
    if job.settings.get("search"):
        given["labelled"] = {"type": "labelled_items", "bundle": str(job.bundle), "truth": str(job.truth)}
    config: dict[str, Any] = {
        "input_model": {"type": "OnnxModel", "model_path": str(job.model)},
        "systems": {
            "here": {
                "type": "LocalSystem",
                "accelerators": [{"device": "cpu", "execution_providers": ["CPUExecutionProvider"]}],
            }
        },
        "data_configs": [
            {
                "name": name,
                "type": "DataContainer",
                "user_script": str(SCRIPT),
                "load_dataset_config": loads,
                "dataloader_config": {"type": "default_dataloader", "batch_size": 1},
                "post_process_data_config": {"type": "best_class"},
            }
            for name, loads in given.items()
        ],
        "passes": {"int8": {"type": "OnnxStaticQuantization", "data_config": "calibration"}},
        "target": "here",
        "host": "here",
        "output_dir": str(job.out / "olive"),
        "cache_dir": str(job.out / "cache"),
    }
    config["passes"]["int8"] |= job.settings.get("pass", {})
    if count := job.settings.get("search"):
        config |= searching(job, count)
    (job.out / "olive.json").write_text(json.dumps(config, indent=1))
    output = olive.run(str(job.out / "olive.json"))
    best = output.get_best_candidate()
    if best is None:
        return {"error": "Olive's search found nothing that meets its goals"}
    path = Path(best.model_path)
    (job.out / "net.onnx").write_bytes(path.read_bytes())
    return {"file": "net.onnx", "runtime": "onnxruntime"}


def searching(job: Job, count: int) -> dict[str, Any]:
    """Olive's search: TPE over the pass's own space, latency after accuracy within the margin.

    The accuracy is Olive's own: in 0.13.0 a `custom` metric ends in `serialize_backend` with an error.
    """
    from modelport.bundle.store import Bundle

    classes = Bundle.open(job.bundle).manifest.graphs.net.signature.outputs[0].shape[1]
    accuracy = {
        "name": "accuracy",
        "type": "accuracy",
        "data_config": "labelled",
        "sub_types": [
            {
                "name": "accuracy_score",
                "priority": 1,
                "metric_config": {"task": "multiclass", "num_classes": classes},
                "goal": {"type": "max-degradation", "value": job.settings["max_drop"]},
            }
        ],
    }
    sampler = {
        "execution_order": "joint",
        "sampler": "tpe",
        "sampler_config": {"max_samples": count, "seed": 0},
    }
    return {
        "evaluators": {"both": {"type": "OnnxEvaluator", "metrics": [accuracy, LATENCY]}},
        "evaluator": "both",
        "search_strategy": sampler | {"output_model_num": 1, "max_iter": count},
    }


if __name__ == "__main__":
    main(make, ("olive-ai", "onnxruntime", "onnx", "torch"))
