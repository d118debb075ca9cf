"""The files that the documentation assumes its reader has: a small classifier in each form, and photos."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from modelport.media.video import VideoWriter

from ..boxes import LABELS, picture_with, pixels_with
from ..boxes import write_detector as write_boxes

CLASSES = 10


def write_onnx(folder: Path) -> None:
    """model.onnx (a convolution, a mean and a matrix for 224x224 pictures) and labels.txt."""
    rng = np.random.default_rng(1)
    weights = {
        "w": rng.normal(size=(8, 3, 7, 7)).astype(np.float32) * 0.1,
        "m": rng.normal(size=(8, CLASSES)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["input", "w"], ["conv"], strides=[4, 4]),
        helper.make_node("Relu", ["conv"], ["relu"]),
        helper.make_node("GlobalAveragePool", ["relu"], ["pool"]),
        helper.make_node("Flatten", ["pool"], ["flat"]),
        helper.make_node("MatMul", ["flat", "m"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "classifier",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 3, 224, 224])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", CLASSES])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), folder / "model.onnx")
    (folder / "labels.txt").write_text("".join(f"class {n}\n" for n in range(CLASSES)))


def write_photos(folder: Path) -> None:
    """Three JPEG files that are no photographs, of three sizes."""
    folder.mkdir()
    rng = np.random.default_rng(2)
    for name, (height, width) in {"cat": (300, 400), "dog": (480, 320), "tall": (640, 240)}.items():
        small = rng.integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC).save(folder / f"{name}.jpg")


def write_detector(folder: Path) -> None:
    """detector.onnx (it finds red, green and blue rectangles), classes.txt, scenes/*.png and film.mp4."""
    write_boxes(folder / "detector.onnx")
    (folder / "classes.txt").write_text("".join(f"{label}\n" for label in LABELS))
    (folder / "scenes").mkdir()
    for number in range(3):
        boxes = [("red", 20 + 30 * number, 30, 100 + 30 * number, 90), ("blue", 180, 120, 300, 220)]
        (folder / "scenes" / f"scene{number}.png").write_bytes(picture_with(boxes))
    with VideoWriter(folder / "film.mp4", 25, 320, 240) as film:
        for number in range(30):
            film.write(pixels_with([("red", 4 * number, 30, 4 * number + 80, 90)]))


FRAMEWORKS = '''
import keras, torch
net = torch.nn.Sequential(
    torch.nn.Conv2d(3, 8, 7, 4), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(),
    torch.nn.Linear(8, 10),
).eval()
torch.jit.trace(net, torch.zeros(1, 3, 224, 224)).save("model.pt")
torch.save(net.state_dict(), "weights.pth")
open("network.py", "w").write("""
from torch import nn
def Net():
    return nn.Sequential(
        nn.Conv2d(3, 8, 7, 4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)
    )
""")
keras.Sequential([
    keras.Input((224, 224, 3)), keras.layers.Conv2D(8, 7, 4, activation="relu"),
    keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(10),
]).save("model.h5")
'''


def write_frameworks(folder: Path) -> None:
    """model.pt (TorchScript), weights.pth with network.py, and model.h5 (Keras), by the frameworks."""
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FRAMEWORKS], cwd=folder, check=True, capture_output=True
    )
