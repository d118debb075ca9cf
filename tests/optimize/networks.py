"""A small convolutional classifier with pictures whose class is obvious: which of three colours has most."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

import modelport
from modelport.bundle.store import Bundle

LABELS = ["red", "green", "blue"]
RECIPE = """
task = "image-classification"
pre = [{ resize = { size = 16, kernel = "nearest" } }, { scale = { divide = 255 } }, { layout = "chw" }]
post = ["softmax", { top_k = 0 }, "labels"]
"""
CHANNELS = 24


def network() -> onnx.ModelProto:
    """Two convolutions that keep the colours apart, their mean, and a matrix product: logits [N, 3]."""
    random = np.random.default_rng(3)
    first = random.normal(0, 0.05, (CHANNELS, 3, 3, 3)).astype(np.float32)
    second = random.normal(0, 0.02, (CHANNELS, CHANNELS, 3, 3)).astype(np.float32)
    for channel in range(CHANNELS):
        first[channel, channel % 3, 1, 1] += 1.0
        second[channel, channel, 1, 1] += 1.0
    last = np.zeros((CHANNELS, 3), np.float32)
    last[np.arange(CHANNELS), np.arange(CHANNELS) % 3] = 1.5
    nodes = [
        helper.make_node("Conv", ["x", "first"], ["a"], name="first", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"], name="relu"),
        helper.make_node("Conv", ["b", "second"], ["c"], name="second", pads=[1, 1, 1, 1]),
        helper.make_node("GlobalAveragePool", ["c"], ["mean"], name="mean"),
        helper.make_node("Flatten", ["mean"], ["flat"], name="flat"),
        helper.make_node("MatMul", ["flat", "last"], ["logits"], name="last"),
    ]
    weights = {"first": first, "second": second, "last": last}
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 16, 16])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def pictures(folder: Path, count: int = 60) -> Path:
    """Noisy pictures in a folder for each class."""
    random = np.random.default_rng(5)
    for number in range(count):
        label = LABELS[number % 3]
        pixels = random.integers(0, 120, (20, 20, 3), dtype=np.uint8)
        pixels[..., number % 3] += 90
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        place = folder / label
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number:03d}.png").write_bytes(file.getvalue())
    return folder


def packed(folder: Path) -> Bundle:
    """The network as a bundle, in `folder`/repo."""
    onnx.save(network(), folder / "colours.onnx")
    (folder / "colours.toml").write_text(RECIPE)
    return modelport.pack(
        folder / "colours.onnx", out=folder / "repo", recipe=folder / "colours.toml", labels=LABELS
    )
