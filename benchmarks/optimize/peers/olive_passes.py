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
    # The mean of 20 runs, Olive's default, is another one a minute later; of many runs the fastest is not.
    "sub_types": [{"name": "min", "priority": 1, "metric_config": {"repeat_test_num": 300}}],
}


def make(job: Job) -> Answer:
    """Settings: `pass`, the settings of OnnxStaticQuantization; `search`, the points of Olive's search."""
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
    nodes = output.footprint.nodes
    tried = sum(1 for node in nodes.values() if node.parent_model_id is not None and node.metrics)
    if best is None:
        return {"error": f"Olive's search found nothing within the margin in {tried} forms"}
    path = Path(best.model_path)
    (job.out / "net.onnx").write_bytes(path.read_bytes())
    told: Answer = {"file": "net.onnx", "runtime": "onnxruntime"}
    if job.settings.get("search"):
        told |= {"chosen": said(nodes[best.model_id].pass_run_config), "tried": tried}
    return told


def said(settings: dict[str, Any]) -> str:
    """What a search chose."""
    words = [settings["quant_format"], f"activations {settings['activation_type']}"]
    words += [f"weights {settings['precision']}", settings["calibrate_method"]]
    words += [name for name in ("per_channel", "reduce_range", "quant_preprocess") if settings[name]]
    return ", ".join(words)


def searching(job: Job, count: int) -> dict[str, Any]:
    """Olive's search: TPE over the pass's own space, the fastest of those within the margin.

    The accuracy is Olive's own: in 0.13.0 a `custom` metric ends in `serialize_backend` with an error. Olive
    loses the sampler's own settings on the way, `max_samples` and `seed` among them, so `max_iter` ends the
    search; points that the pass forbids count, and the one that passes the limit is still tried.
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
                "priority": 2,
                "metric_config": {"task": "multiclass", "num_classes": classes},
                "goal": {"type": "max-degradation", "value": job.settings["max_drop"]},
            }
        ],
    }
    return {
        "evaluators": {"both": {"type": "OnnxEvaluator", "metrics": [accuracy, LATENCY]}},
        "evaluator": "both",
        "search_strategy": {"execution_order": "joint", "sampler": "tpe", "max_iter": count},
    }


if __name__ == "__main__":
    main(make, ("olive-ai", "onnxruntime", "onnx", "torch"))
