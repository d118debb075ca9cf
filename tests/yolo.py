"""A small network that decodes its boxes as YOLOv5 does: three levels, three anchors, weights of chance."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

ANCHORS = (
    (4.0, 5.0, 8.0, 6.0, 9.0, 12.0),
    (16.0, 14.0, 20.0, 31.0, 33.0, 25.0),
    (40.0, 36.0, 50.5, 61.0, 60.0, 44.0),
)
STRIDES = (8, 16, 32)
CLASSES = 3


class _Nodes:
    """Nodes and constants with names of their own."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, value: object, dtype: type = np.float32) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def op(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        name = f"{kind.lower()}_{len(self.nodes)}"
        names = [name] if outputs == 1 else [f"{name}_{index}" for index in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, name=name, **attributes))
        return names[0] if outputs == 1 else name


def yolov5(
    side: int = 64, *, seed: int = 0, turned: bool = False, power: float = 2.0, batch: int | str = "batch"
) -> onnx.ModelProto:
    """`images` float32[batch, 3, side, side] -> `output0` float32[batch, places, 8].

    Args:
        side: pixels, a multiple of 32.
        seed: of the weights.
        turned: `output0` is [batch, 7, places], and scores are objectness x class, as YOLOv8's are.
        power: of the sides; another one than 2 is not YOLOv5's decoding.
        batch: the first axis.
    """
    random, graph = np.random.default_rng(seed), _Nodes()
    numbers = 5 + CLASSES
    levels = []
    for stride, anchors in zip(STRIDES, ANCHORS, strict=True):
        weights = random.normal(0, 1.2 / stride, (3 * numbers, 3, stride, stride))
        bias = random.normal(0, 1, 3 * numbers)
        levels.append(_level(graph, stride, side // stride, weights, bias, anchors, power))
    whole = graph.op("Concat", *levels, axis=1)
    if turned:
        base = graph.op("Split", whole, graph.constant([4, 1, CLASSES], np.int64), outputs=3, axis=2)
        scores = graph.op("Mul", f"{base}_1", f"{base}_2")
        whole = graph.op("Transpose", graph.op("Concat", f"{base}_0", scores, axis=2), perm=[0, 2, 1])
    graph.nodes.append(helper.make_node("Identity", [whole], ["output0"]))
    places = sum(3 * (side // stride) ** 2 for stride in STRIDES)
    shape = [batch, numbers - 1, places] if turned else [batch, places, numbers]
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "yolo",
            [helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, 3, side, side])],
            [helper.make_tensor_value_info("output0", TensorProto.FLOAT, shape)],
            graph.constants,
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    onnx.checker.check_model(model)
    return model


def _level(
    graph: _Nodes,
    stride: int,
    cells: int,
    weights: np.ndarray,
    bias: np.ndarray,
    anchors: tuple[float, ...],
    power: float,
) -> str:
    op, numbers = graph.op, 5 + CLASSES
    convolved = op("Conv", "images", graph.constant(weights), graph.constant(bias), strides=[stride, stride])
    split = op("Reshape", convolved, graph.constant([-1, 3, numbers, cells, cells], np.int64))
    shares = op("Sigmoid", op("Transpose", split, perm=[0, 1, 3, 4, 2]))
    base = op("Split", shares, graph.constant([2, 2, 1 + CLASSES], np.int64), outputs=3, axis=4)
    y, x = np.mgrid[0:cells, 0:cells]
    grid = np.stack([x, y], -1)[None, None] - 0.5
    doubled = op("Mul", f"{base}_0", graph.constant(2.0))
    middle = op("Mul", op("Add", doubled, graph.constant(grid)), graph.constant(float(stride)))
    sides = op("Pow", op("Mul", f"{base}_1", graph.constant(2.0)), graph.constant(power))
    sides = op("Mul", sides, graph.constant(np.reshape(anchors, (1, 3, 1, 1, 2))))
    whole = op("Concat", middle, sides, f"{base}_2", axis=4)
    return op("Reshape", whole, graph.constant([-1, 3 * cells * cells, numbers], np.int64))
