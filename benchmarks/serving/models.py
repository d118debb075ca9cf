"""The networks that are served, made here with random weights: speed does not depend on what they know.

| name | what | one item |
|---|---|---|
| digits | two convolutions and two dense layers on 28x28 pixels | float32 [1, 28, 28] |
| conv | shaped like MobileNetV2 at width 1.4 | float32 [3, 224, 224] |
| conv_uint8 | the same network, which takes pixels and casts them itself | uint8 [224, 224, 3] |
| tiny | 10 numbers in, one out: nothing but the server is measured | float32 [10] |
| sleep | zeros; whoever runs it sleeps first (see `SLEEP`) | float32 [16] |
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from .places import made

INPUT, OUTPUT = "x", "y"
CLASSES = [f"class {index}" for index in range(1000)]
"""Labels of the convolutional network, where pictures are answered with words."""
SLEEP = (5e-3, 0.2e-3)
"""Seconds that one run of `sleep` takes: the first, and the second once for each row."""

Array = NDArray[np.generic]


@dataclass(frozen=True)
class Model:
    """One network: what goes in, what comes out, and its file."""

    name: str
    shape: tuple[int, ...]
    """Of one item."""
    dtype: str
    outputs: int

    @cached_property
    def path(self) -> Path:
        """The ONNX file, made on first use and again when this module changes."""
        made_by = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]
        path = made("models", f"{self.name}-{made_by}.onnx")
        if not path.exists():
            graph = GRAPHS[self.name]().graph(self)
            model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
            onnx.checker.check_model(model)
            onnx.save(model, path)
        return path

    def example(self, rows: int = 1) -> Array:
        """Items of random numbers with a batch axis, the same on every call."""
        rng = np.random.default_rng(0)
        if self.dtype == "uint8":
            return rng.integers(0, 256, (rows, *self.shape), np.uint8)
        return rng.random((rows, *self.shape), np.float32)


@dataclass
class Layers:
    """An ONNX graph as it grows: each method adds nodes and returns the name of what comes out."""

    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def weight(self, *shape: int, scale: float) -> str:
        """Random numbers of a standard deviation."""
        return self.constant((self.rng.standard_normal(shape) * scale).astype(np.float32))

    def constant(self, value: Array) -> str:
        """A fixed tensor."""
        self.weights.append(numpy_helper.from_array(value, f"w{len(self.weights)}"))
        return self.weights[-1].name

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """One node."""
        self.nodes.append(helper.make_node(kind, list(inputs), [f"t{len(self.nodes)}"], **attributes))
        return str(self.nodes[-1].output[0])

    def conv(
        self, x: str, taken: int, given: int, side: int, *, stride: int = 1, groups: int = 1, pad: bool = True
    ) -> str:
        """A convolution with a bias; with `pad` and a stride of 1 the size stays."""
        fan = taken // groups * side * side
        weight = self.weight(given, taken // groups, side, side, scale=(2 / fan) ** 0.5)
        bias = self.weight(given, scale=0.01)
        pads, strides = [side // 2 if pad else 0] * 4, [stride] * 2
        return self.add("Conv", x, weight, bias, pads=pads, strides=strides, group=groups)

    def dense(self, x: str, taken: int, given: int, *, gain: float = 1.0) -> str:
        """A fully connected layer."""
        bias = self.weight(given, scale=0.01)
        return self.add("Gemm", x, self.weight(taken, given, scale=gain * (2 / taken) ** 0.5), bias)

    def relu(self, x: str) -> str:
        """max(x, 0)"""
        return self.add("Relu", x)

    def graph(self, model: Model) -> onnx.GraphProto:
        """The whole, named as the peers expect it."""
        self.nodes[-1].output[0] = OUTPUT
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(model.dtype))
        taken = helper.make_tensor_value_info(INPUT, kind, ["batch", *model.shape])
        given = helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", model.outputs])
        return helper.make_graph(self.nodes, model.name, [taken], [given], self.weights)


def digits() -> Layers:
    """What a digits classifier of 99 % accuracy looks like: 1.2 million weights."""
    net = Layers()
    x = net.relu(net.conv(INPUT, 1, 32, 3, pad=False))
    x = net.relu(net.conv(x, 32, 64, 3, pad=False))
    x = net.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = net.relu(net.dense(net.add("Flatten", x), 64 * 12 * 12, 128))
    net.add("Softmax", net.dense(x, 128, 10))
    return net


MOBILENET = [
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
]
"""MobileNetV2's blocks: expansion, channels, repeats, first stride (Sandler et al. 2018, table 2)."""


def conv(pixels: bool = False) -> Layers:
    """MobileNetV2 at width 1.4; with `pixels` it takes uint8 [batch, 224, 224, 3] and casts them itself."""
    net = Layers()
    x = INPUT
    if pixels:
        scaled = net.add(
            "Mul", net.add("Cast", x, to=TensorProto.FLOAT), net.constant(np.array(1 / 255, np.float32))
        )
        x = net.add("Transpose", scaled, perm=[0, 3, 1, 2])
    channels = _width(32)
    x = net.relu(net.conv(x, 3, channels, 3, stride=2))
    for expansion, narrow, repeats, first_stride in MOBILENET:
        for index in range(repeats):
            before, wide, after = x, channels * expansion, _width(narrow)
            if expansion > 1:
                x = net.relu(net.conv(x, channels, wide, 1))
            stride = 1 if index else first_stride
            x = net.relu(net.conv(x, wide, wide, 3, stride=stride, groups=wide))
            x = net.conv(x, wide, after, 1)
            if index:
                x = net.add("Add", before, x)
            channels = after
    x = net.relu(net.conv(x, channels, 1792, 1))
    x = net.add("Flatten", net.add("GlobalAveragePool", x))
    # What the blocks add up to is large; without this the softmax would be 1 in one place and 0 elsewhere.
    net.add("Softmax", net.dense(x, 1792, len(CLASSES), gain=1e-3))
    return net


def tiny() -> Layers:
    """A perceptron of 32 hidden units."""
    net = Layers()
    net.dense(net.relu(net.dense(INPUT, 10, 32)), 32, 1)
    return net


def sleep() -> Layers:
    """Zeros [batch, 1]. The time is spent by who runs it, so that the machine is free for the server."""
    net = Layers()
    net.add("MatMul", INPUT, net.constant(np.zeros((16, 1), np.float32)))
    return net


def _width(channels: int) -> int:
    return int(channels * 1.4 + 4) // 8 * 8


GRAPHS = {
    "digits": digits,
    "conv": conv,
    "conv_uint8": lambda: conv(pixels=True),
    "tiny": tiny,
    "sleep": sleep,
}
MODELS = {
    "digits": Model("digits", (1, 28, 28), "float32", 10),
    "conv": Model("conv", (3, 224, 224), "float32", 1000),
    "conv_uint8": Model("conv_uint8", (224, 224, 3), "uint8", 1000),
    "tiny": Model("tiny", (10,), "float32", 1),
    "sleep": Model("sleep", (16,), "float32", 1),
}


@cache
def repository(model: str, recipe: str = "raw") -> Path:
    """A model repository with one model in it, packed on first use; `recipe` says what it takes."""
    import modelport

    path = MODELS[model].path
    folder = made("repositories", f"{path.stem}-{recipe}-{modelport.__version__}")
    if not (folder / model / "1" / "modelport.json").exists():
        labels = CLASSES if recipe != "raw" else None
        modelport.pack(path, out=folder, name=model, recipe=recipe, labels=labels)
    return folder
