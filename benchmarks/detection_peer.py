"""Ultralytics' own predict loop on a detector's ONNX file, timed. `detection.py` runs it.

Reads one line of JSON a round, `{"source": PATH}`, and answers with one: seconds, pictures, milliseconds by
stage. Boxes are left as tensors, as a user's loop gets them.
"""

from __future__ import annotations

import json
import sys
import time

import onnxruntime
import ultralytics
from ultralytics import YOLO


def main() -> None:
    """Answer rounds until the input ends."""
    model = YOLO(sys.argv[1], task="detect")
    versions = {"ultralytics": ultralytics.__version__, "onnxruntime": onnxruntime.__version__}
    settings = {"conf": 0.25, "iou": 0.45, "imgsz": 640, "verbose": False, "stream": True}
    for line in sys.stdin:
        source = json.loads(line)["source"]
        stages = {"preprocess": 0.0, "inference": 0.0, "postprocess": 0.0}
        pictures = boxes = 0
        began = time.perf_counter()
        for result in model.predict(source, **settings):
            pictures += 1
            boxes += len(result.boxes.conf.tolist())
            for stage in stages:
                stages[stage] += result.speed[stage]
        seconds = time.perf_counter() - began
        mean = {stage: total / pictures for stage, total in stages.items()}
        mean["decode and rest"] = seconds / pictures * 1e3 - sum(mean.values())
        told = {"seconds": seconds, "pictures": pictures, "boxes": boxes, "stages": mean, **versions}
        print("round " + json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
