"""Layers that Caffe's SSD branch added: prior boxes, normalisation of features, and the decoding of boxes.

`DetectionOutput` decodes boxes and then chooses among them. The first half is converted, to corners as
shares of the picture's sides; choosing is a step of the recipe (`scored_boxes`, `nms`), where its thresholds
can be set.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .caffe_layer import Convert, Layer
from .frames import Array
from .onnx_graph import OnnxGraph, Value
from .prototxt import Message


def prior_box(graph: OnnxGraph, layer: Layer, bottoms: list[Value]) -> list[Value]:
    """Boxes around every place, which depend on nothing but sizes: constant [1, 2, 4 x boxes]."""
    settings = layer.settings.message("prior_box_param")
    _, rows, columns = layer.picture(bottoms[0])
    _, tall, broad = layer.picture(bottoms[1])
    tall = settings.integer("img_h", settings.integer("img_size", tall))
    broad = settings.integer("img_w", settings.integer("img_size", broad))
    if min(tall, broad) < 1 or rows * columns > 1 << 20:
        raise layer.wrong(f"{rows} x {columns} places in a picture of {tall} x {broad}")
    step = settings.number("step", 0.0)
    across = settings.number("step_w", step) or broad / columns
    down = settings.number("step_h", step) or tall / rows
    offset = settings.number("offset", 0.5)
    sizes = np.array(_prior_sizes(layer, settings), np.float32)
    x, y = np.meshgrid((np.arange(columns) + offset) * across, (np.arange(rows) + offset) * down)
    centre = np.stack([x, y], 2).astype(np.float32)[:, :, None]
    boxes = np.concatenate([centre - sizes / 2, centre + sizes / 2], 3)
    boxes /= np.array([broad, tall, broad, tall], np.float32)
    if settings.flag("clip", False):
        boxes = boxes.clip(0, 1)
    variance = settings.numbers("variance") or [0.1]
    if len(variance) not in (1, 4):
        raise layer.wrong(f"{len(variance)} variances")
    spread = np.resize(np.array(variance, np.float32), boxes.shape)
    both = np.stack([boxes.reshape(-1), spread.reshape(-1)])[None]
    return [Value("", both.shape, both)]


def _prior_sizes(layer: Layer, settings: Message) -> list[tuple[float, float]]:
    """Width and height of the boxes around one place, in the order that Caffe has them in."""
    smallest, largest = settings.numbers("min_size"), settings.numbers("max_size")
    if not smallest or (largest and len(largest) != len(smallest)):
        raise layer.wrong(f"{len(smallest)} smallest and {len(largest)} largest sizes")
    ratios: list[float] = []
    for ratio in settings.numbers("aspect_ratio"):
        for found in (ratio, 1 / ratio) if settings.flag("flip", True) else (ratio,):
            if all(abs(found - other) > 1e-6 for other in (1.0, *ratios)):
                ratios.append(found)
    sizes: list[tuple[float, float]] = []
    for index, size in enumerate(smallest):
        sizes.append((size, size))
        if largest:
            middle = math.sqrt(size * largest[index])
            sizes.append((middle, middle))
        sizes += [(size * math.sqrt(ratio), size / math.sqrt(ratio)) for ratio in ratios]
    return sizes


def normalize(graph: OnnxGraph, layer: Layer, bottoms: list[Value]) -> list[Value]:
    """`Normalize`: each place's channels, or all, brought to length 1, and then scaled."""
    settings = layer.settings.message("norm_param")
    (bottom,) = bottoms
    channels, _, _ = layer.picture(bottom)
    axes = [1, 2, 3] if settings.flag("across_spatial", True) else [1]
    name = graph.name_of(bottom)
    total = graph.op("ReduceSum", graph.op("Mul", name, name), graph.integers(*axes), keepdims=1)
    total = graph.op("Add", total, graph.weight(settings.number("eps", 1e-10)))
    name = graph.op("Div", name, graph.op("Sqrt", total))
    count = 1 if settings.flag("channel_shared", True) else channels
    factor = graph.weight(layer.weights(0, count).reshape(1, count, 1, 1))
    return [Value(graph.op("Mul", name, factor), bottom.shape)]


@dataclass(frozen=True)
class Detection:
    """What a `DetectionOutput` layer decodes, and how it would choose."""

    layer: Layer
    classes: int
    code: str
    prior: Array
    """Corners [boxes, 4] as shares."""
    variance: Array
    """What the network's numbers are multiplied by: [boxes, 4]."""

    @property
    def background(self) -> str:
        """Which class is no object, as the step `scored_boxes` says it."""
        index = self.layer.settings.message("detection_output_param").integer("background_label_id", 0)
        if index not in (0, self.classes - 1, -1):
            raise self.layer.refuse(f"the background is class {index}, neither the first nor the last")
        return {0: "first", -1: "none"}.get(index, "last")

    def decode(self, numbers: Array) -> Array:
        """Corners [boxes, 4] of what the network says, computed in numpy."""
        told = numbers.reshape(-1, 4) * self.variance
        start, end = self.prior[:, :2], self.prior[:, 2:]
        size = end - start
        if self.code == "CORNER":
            return np.asarray(self.prior + told)
        centre = (start + end) / 2 + told[:, :2] * size
        half = np.exp(told[:, 2:]) * size / 2
        return np.concatenate([centre - half, centre + half], 1)

    def append(self, graph: OnnxGraph, numbers: Value, scores: Value) -> tuple[Value, Value]:
        """Corners [1, boxes, 4] and scores [1, boxes, classes], computed in the graph."""
        count = len(self.prior)
        told = graph.name_of(graph.reshaped(numbers, 1, count, 4))
        told = graph.op("Mul", told, graph.weight(self.variance[None]))
        start, end = self.prior[None, :, :2], self.prior[None, :, 2:]
        size = end - start
        if self.code == "CORNER":
            boxes = graph.op("Add", told, graph.weight(self.prior[None]))
        else:
            place, growth = graph.ops("Split", [told, graph.integers(2, 2)], 2, axis=2)
            centre = graph.op("Mul", place, graph.weight(size))
            centre = graph.op("Add", centre, graph.weight((start + end) / 2))
            half = graph.op("Mul", graph.op("Exp", growth), graph.weight(size / 2))
            corners = graph.op("Sub", centre, half), graph.op("Add", centre, half)
            boxes = graph.op("Concat", *corners, axis=2)
        return Value(boxes, (1, count, 4)), graph.reshaped(scores, 1, count, self.classes)


CODES = {"1": "CORNER", "2": "CENTER_SIZE"}


def detection(layer: Layer, bottoms: list[Value]) -> Detection:
    """How a layer decodes its boxes.

    Raises:
        NotConverted: boxes for each class, or in a form that is not known.
        Refused: what it takes does not fit.
    """
    settings = layer.settings.message("detection_output_param")
    if len(bottoms) < 3:
        raise layer.wrong(f"takes {len(bottoms)} values; boxes, scores and prior boxes are expected")
    numbers, scores, prior = bottoms[:3]
    if not settings.flag("share_location", True):
        raise layer.refuse("has other boxes for each class")
    if len(bottoms) > 3:
        raise layer.refuse("takes more than boxes, scores and prior boxes")
    if prior.constant is None or len(prior.shape) != 3 or prior.shape[1] != 2 or prior.shape[2] % 4:
        raise layer.refuse("its prior boxes are not those of PriorBox layers")
    code = settings.text("code_type", "CORNER")
    code = CODES.get(code, code)
    if code not in CODES.values():
        raise layer.refuse(f"code_type {code}")
    boxes, spread = prior.constant.reshape(2, -1, 4)
    if settings.flag("variance_encoded_in_target", False):
        spread = np.ones_like(spread)
    classes = settings.integer("num_classes", 0)
    if math.prod(numbers.shape) != boxes.size or math.prod(scores.shape) != len(boxes) * classes:
        raise layer.wrong(
            f"{len(boxes)} prior boxes and {classes} classes for {list(numbers.shape)} numbers and "
            f"{list(scores.shape)} scores"
        )
    return Detection(layer, classes, code, boxes, spread)


LAYERS: dict[str, Convert] = {"PriorBox": prior_box, "Normalize": normalize}
