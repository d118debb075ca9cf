"""Ultralytics' `val` of one ONNX file; run by coco128.py with the Python of Ultralytics' own environment.

    python coco128_peer.py NETWORK DATA.yaml (val | predict) IOU

The last line of standard output is JSON: map, map50, map75. `predict` has `val` round the sides of pictures
as `predict` does.
"""

from __future__ import annotations

import json
import math
import sys
from types import SimpleNamespace


def main(network: str, data: str, how: str, iou: str) -> None:
    """Validate and print."""
    import ultralytics.data.base
    from ultralytics import YOLO

    if how == "predict":
        functions = {name: getattr(math, name) for name in dir(math) if not name.startswith("_")}
        ultralytics.data.base.math = SimpleNamespace(**(functions | {"ceil": round}))
    found = YOLO(network, task="detect").val(
        data=data, imgsz=640, batch=1, conf=0.001, iou=float(iou), rect=False, plots=False, workers=0
    )
    figures = {"map": found.box.map, "map50": found.box.map50, "map75": found.box.map75}
    print(json.dumps({name: float(value) for name, value in figures.items()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
