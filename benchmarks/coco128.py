"""yolov5n's mean average precision on COCO128: `modelport evaluate` beside Ultralytics' own `val`.

    python benchmarks/coco128.py --model yolov5n.onnx --data coco128 --ultralytics VENV/bin/python [--json]

VENV is an environment of its own with `ultralytics`; it is asked by a second process (coco128_peer.py).
Ultralytics' present code no longer reads YOLOv5's output: the peer gets the same network with objectness
times class and a transpose behind it, which is what YOLOv5's own NMS begins with. `val` makes pictures whose
sides shrink or grow to a fraction of a pixel a pixel larger (it rounds up) than Ultralytics' own `predict`
does (it rounds); the peer is measured both ways.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import yaml
from onnx import TensorProto, helper, numpy_helper

import modelport
from modelport.evaluate.values import Evaluation

PEER = Path(__file__).with_name("coco128_peer.py")
FIGURES = ("map", "map50")


def relaid(model: Path, names: list[str], out: Path) -> Path:
    """YOLOv5's [1, cells, 5 + classes] as [1, 4 + classes, cells], with Ultralytics' metadata."""
    network = onnx.load(model)
    graph = network.graph
    name, cells = graph.output[0].name, graph.output[0].type.tensor_type.shape.dim[1].dim_value
    for node in graph.node:
        node.output[:] = ["raw" if output == name else output for output in node.output]
    for key, value in {"axis": 2, "zero": 0, "four": 4, "five": 5, "end": 5 + len(names)}.items():
        graph.initializer.append(numpy_helper.from_array(np.array([value]), key))
    graph.node.extend(
        [
            helper.make_node("Slice", ["raw", "zero", "four", "axis"], ["box"]),
            helper.make_node("Slice", ["raw", "four", "five", "axis"], ["objectness"]),
            helper.make_node("Slice", ["raw", "five", "end", "axis"], ["classes"]),
            helper.make_node("Mul", ["objectness", "classes"], ["scores"]),
            helper.make_node("Concat", ["box", "scores"], ["rows"], axis=2),
            helper.make_node("Transpose", ["rows"], [name], perm=[0, 2, 1]),
        ]
    )
    del graph.output[:]
    shape = [1, 4 + len(names), cells]
    graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    about = {"stride": "32", "task": "detect", "batch": "1", "imgsz": "[640, 640]"}
    for key, value in {**about, "names": str(dict(enumerate(names)))}.items():
        entry = network.metadata_props.add()
        entry.key, entry.value = key, value
    onnx.save(network, out)
    return out


def copied(data: Path, names: list[str], out: Path) -> Path:
    """The data set as Ultralytics wants it; it writes a cache beside the labels, so these are copied."""
    (out / "labels").mkdir()
    (out / "images").symlink_to((data / "images").resolve())
    for label in (data / "labels").glob("*.txt"):
        shutil.copy(label, out / "labels")
    text = {"path": str(out), "train": "images", "val": "images", "names": dict(enumerate(names))}
    (out / "coco128.yaml").write_text(yaml.safe_dump(text))
    return out / "coco128.yaml"


def peer(options: argparse.Namespace, names: list[str]) -> dict[str, dict[str, float]]:
    """Ultralytics' own figures: as `val` prepares pictures, and as `predict` does."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        network = relaid(options.model, names, place / "network.onnx")
        data = copied(options.data, names, place)
        found = {}
        for how in ("val", "predict"):
            done = subprocess.run(
                [options.ultralytics, str(PEER), str(network), str(data), how, str(options.iou)],
                cwd=place,
                check=True,
                stdout=subprocess.PIPE,
                text=True,
            )
            found[how] = json.loads(done.stdout.splitlines()[-1])
    return found


def ours(options: argparse.Namespace, names: list[str]) -> Evaluation:
    """The packed bundle's evaluation."""
    with tempfile.TemporaryDirectory() as repo:
        bundle = modelport.pack(options.model, out=repo, name="yolov5n", recipe="yolov5", labels=names)
        return modelport.evaluate(bundle, options.data, options={"iou_threshold": options.iou})


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--ultralytics", help="the Python of an environment that has it")
    parser.add_argument("--iou", type=float, default=0.6, help="of NMS [0.6]")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    config = next(options.data.glob("*.yaml"))
    named = yaml.safe_load(config.read_text())["names"]
    names = [named[index] for index in sorted(named)] if isinstance(named, dict) else named
    evaluation = ours(options, names)
    result: dict[str, Any] = {"pictures": len(evaluation.outcomes), "iou": options.iou}
    for name, metric in evaluation.metrics.items():
        result[name] = metric.value
        if metric.low is not None:
            result[f"{name}_interval"] = [metric.low, metric.high]
    if options.ultralytics:
        for how, figures in peer(options, names).items():
            for name in FIGURES:
                result[f"{how}_{name}"] = figures[name]
                difference = 100 * (result[f"ultralytics_{name}"] - figures[name])
                result[f"{how}_{name}_points_apart"] = round(difference, 3)
    print(json.dumps(result) if options.json else "\n".join(f"{k:28} {v}" for k, v in result.items()))


if __name__ == "__main__":
    main()
