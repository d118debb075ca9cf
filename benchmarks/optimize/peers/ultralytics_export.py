"""Ultralytics' int8 export of a YOLOv5 checkpoint: its own two functions, with its own calibration loader.

`YOLO("yolov5n.pt").export(...)` refuses checkpoints of the YOLOv5 repository, so the network is rebuilt from
the checkpoint (as `modelport pack` does) and given to the functions that `export(format=…, int8=True)` calls,
with the arguments that it gives them.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

os.environ |= {"YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false"}

import onnx
import torch
import yaml

from benchmarks.optimize.peers.job import Answer, Job, main

SIDE = 640


def declare_nms() -> None:
    """torchvision's operators, which its build without CUDA does not bring; nothing here runs them."""
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    globals()["_library"] = library


def calibration(job: Job) -> tuple[Any, Any]:
    """The exporter's own loader over the photos, and its own transform."""
    from ultralytics.engine.exporter import Exporter

    folder = job.out / "data"
    (folder / "labels").mkdir(parents=True, exist_ok=True)
    source = Path(job.settings["photos"])
    (folder / "images").symlink_to(source)
    for label in (source.parent / "labels").glob("*.txt"):
        shutil.copy(label, folder / "labels")
    names = yaml.safe_load(next(source.parent.glob("*.yaml")).read_text())["names"]
    about = {"path": str(folder), "train": "images", "val": "images", "names": names}
    (folder / "data.yaml").write_text(yaml.safe_dump(about))
    overrides = {"data": str(folder / "data.yaml"), "imgsz": SIDE, "batch": 1, "task": "detect"}
    exporter = Exporter(overrides=overrides)
    exporter.imgsz = [SIDE, SIDE]
    exporter.model = type("Model", (), {"task": "detect", "stride": torch.tensor([32])})()
    return exporter.get_int8_calibration_dataloader(), exporter._transform_fn


def make(job: Job) -> Answer:
    """Settings: format (openvino or onnx), photos."""
    declare_nms()
    loader, transform = calibration(job)
    if job.settings["format"] == "onnx":
        from ultralytics.utils.export.onnx import onnx_int8_quantize

        name = onnx.load(job.model).graph.input[0].name
        onnx_int8_quantize(job.model, job.out / "net.onnx", loader, transform, input_name=name)
        return {"file": "net.onnx", "runtime": "onnxruntime"}
    import nncf
    from ultralytics.utils.export.openvino import torch2openvino

    torch2openvino(
        rebuilt(job.weights),
        torch.zeros(1, 3, SIDE, SIDE),
        output_dir=job.out,
        quantize=8,
        calibration_dataset=nncf.Dataset(loader, transform),
        int8_detect=True,
    )
    return {"file": "model.xml", "runtime": "openvino"}


def rebuilt(weights: Path) -> Any:
    """The checkpoint's network, its batch norms folded as the exporter folds them."""
    from ultralytics.nn.modules.conv import Conv
    from ultralytics.utils.torch_utils import fuse_conv_and_bn

    from modelport.isolation.child import ultralytics_checkpoint, yolov5
    from modelport.isolation.child.checkpoint import load

    held = load(torch, str(weights), ("ultralytics",), yolov5.stand_in)
    network = ultralytics_checkpoint._settled(torch, ultralytics_checkpoint._network(torch, held))
    for layer in network.modules():
        if isinstance(layer, Conv) and hasattr(layer, "bn"):
            layer.conv = fuse_conv_and_bn(layer.conv, layer.bn)
            delattr(layer, "bn")
            layer.forward = layer.forward_fuse
    return network


if __name__ == "__main__":
    main(make, ("ultralytics", "nncf", "openvino", "onnxruntime", "torch"))
