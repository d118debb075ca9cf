"""Darknet's layers as ONNX operators, one function for each kind of section."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from .darknet_file import Section, WeightFile
from .onnx_graph import OnnxGraph, Value


@dataclass
class Network:
    """What has been built: the outputs of all layers, by index, and what the weights still hold."""

    graph: OnnxGraph
    weights: WeightFile
    values: list[Value] = field(default_factory=list)
    latest: Value = field(default_factory=lambda: Value("", ()))

    def at(self, section: Section, index: float) -> Value:
        """The output of a layer: counted from the first, or back from this one.

        Raises:
            Refused: there is none.
        """
        place = int(index) if index >= 0 else section.index + int(index)
        if not 0 <= place < len(self.values):
            raise section.wrong(f"takes layer {int(index)}, and {section.index} lie before it")
        return self.values[place]

    def picture(self, section: Section, value: Value | None = None) -> tuple[int, int, int]:
        """Channels, height and width of what a layer takes."""
        shape = (value or self.latest).shape
        if len(shape) != 4:
            raise section.wrong(f"takes {list(shape)}, which is no picture")
        return shape[1], shape[2], shape[3]


Convert = Callable[[Network, Section], Value]

EPSILON = 1e-6
LEAK = 0.1


def activated(network: Network, section: Section, name: str, default: str = "linear") -> str:
    """The activation that a section asks for.

    Raises:
        NotConverted: it is not converted.
    """
    op = network.graph.op
    kind = section.text("activation", default)
    simple = {"relu": "Relu", "logistic": "Sigmoid", "tanh": "Tanh"}
    if kind == "linear":
        return name
    if kind in simple:
        return op(simple[kind], name)
    if kind == "leaky":
        return op("LeakyRelu", name, alpha=LEAK)
    if kind == "swish":
        return op("Mul", name, op("Sigmoid", name))
    if kind == "mish":
        return op("Mul", name, op("Tanh", op("Softplus", name)))
    raise section.refuse(f"the activation {kind}", f"converted are linear, {', '.join(ACTIVATIONS)}")


ACTIVATIONS = ("leaky", "logistic", "mish", "relu", "swish", "tanh")


def convolutional(network: Network, section: Section) -> Value:
    """A convolution; its batch norm's numbers, or its biases, come first in the weights."""
    channels, height, width = network.picture(section)
    count, size = section.integer("filters", 1, 1), section.integer("size", 1, 1, 255)
    stride, groups = section.integer("stride", 1, 1), section.integer("groups", 1, 1)
    pad = size // 2 if section.flag("pad") else section.integer("padding", 0)
    unusual = {"dilation": 1, "stride_x": stride, "stride_y": stride, "antialiasing": 0, "share_index": -1}
    unusual |= {"binary": 0, "xnor": 0, "deform": 0, "sway": 0, "rotate": 0, "stretch": 0, "flipped": 0}
    for name, usual in unusual.items():
        if section.number(name, usual) != usual:
            raise section.refuse(f"{name}={section.settings[name]}")
    if channels % groups or count % groups:
        raise section.wrong(f"{channels} channels to {count} in {groups} groups")
    sides = [(side + 2 * pad - size) // stride + 1 for side in (height, width)]
    if min(sides) < 1:
        raise section.wrong(f"its window of {size} is larger than the {height} x {width} places that it gets")
    take, graph = network.weights.take, network.graph
    first = take(section, count)
    norm = [take(section, count) for _ in range(3)] if section.flag("batch_normalize") else []
    kernel = graph.weight(take(section, count, channels // groups, size, size))
    bias = [] if norm else [graph.weight(first)]
    name = graph.op(
        "Conv",
        network.latest.name,
        kernel,
        *bias,
        kernel_shape=(size, size),
        pads=(pad,) * 4,
        strides=(stride, stride),
        group=groups,
    )
    if norm:
        numbers = [graph.weight(each) for each in (norm[0], first, norm[1], norm[2])]
        name = graph.op("BatchNormalization", name, *numbers, epsilon=EPSILON)
    return Value(activated(network, section, name, "logistic"), (1, count, sides[0], sides[1]))


def connected(network: Network, section: Section) -> Value:
    """A fully connected layer."""
    graph, take, count = network.graph, network.weights.take, section.integer("output", 1, 1)
    width = int(np.prod(network.latest.shape))
    flat = graph.op("Flatten", network.latest.name, axis=1)
    bias = take(section, count)
    turned = network.weights.turned
    kernel = take(section, *((width, count) if turned else (count, width)))
    norm = [take(section, count) for _ in range(3)] if section.flag("batch_normalize") else []
    added = [] if norm else [graph.weight(bias)]
    name = graph.op("Gemm", flat, graph.weight(kernel), *added, transB=int(not turned))
    if norm:
        numbers = [graph.weight(each) for each in (norm[0], bias, norm[1], norm[2])]
        name = graph.op("BatchNormalization", name, *numbers, epsilon=EPSILON)
    return Value(activated(network, section, name, "logistic"), (1, count))


def maxpool(network: Network, section: Section) -> Value:
    """The largest of a window; `padding` is of both sides together, and the smaller half comes first."""
    channels, height, width = network.picture(section)
    stride = section.integer("stride", 1, 1)
    size = section.integer("size", stride, 1)
    pad = section.integer("padding", size - 1)
    for name, usual in {
        "maxpool_depth": 0,
        "antialiasing": 0,
        "stride_x": stride,
        "stride_y": stride,
    }.items():
        if section.number(name, usual) != usual:
            raise section.refuse(f"{name}={section.settings[name]}")
    sides = [(side + pad - size) // stride + 1 for side in (height, width)]
    if min(sides) < 1 or pad // 2 >= size or pad - pad // 2 >= size:
        raise section.wrong(f"a window of {size} with {pad} around on {height} x {width} places")
    before, after = pad // 2, pad - pad // 2
    name = network.graph.op(
        "MaxPool",
        network.latest.name,
        kernel_shape=(size, size),
        strides=(stride, stride),
        pads=(before, before, after, after),
    )
    return Value(name, (1, channels, sides[0], sides[1]))


def avgpool(network: Network, section: Section) -> Value:
    """The mean of all places."""
    channels, _, _ = network.picture(section)
    return Value(network.graph.op("GlobalAveragePool", network.latest.name), (1, channels, 1, 1))


def route(network: Network, section: Section) -> Value:
    """Earlier outputs, channels behind channels; with `groups`, one group of each one's channels."""
    graph = network.graph
    taken = [network.at(section, index) for index in section.numbers("layers", [])]
    if not taken:
        raise section.wrong("does not say which layers")
    groups, which = section.integer("groups", 1, 1), section.integer("group_id", 0)
    parts = []
    for value in taken:
        channels, height, width = network.picture(section, value)
        if channels % groups or which >= groups:
            raise section.wrong(f"group {which} of {groups} of {channels} channels")
        if groups > 1:
            each = channels // groups
            bounds = [graph.integers(number) for number in (which * each, (which + 1) * each, 1)]
            value = Value(graph.op("Slice", value.name, *bounds), (1, each, height, width))
        parts.append(value)
    if len({value.shape[2:] for value in parts}) != 1:
        raise section.wrong(f"joins {' and '.join(str(list(value.shape[1:])) for value in parts)}")
    if len(parts) == 1:
        return parts[0]
    channels = sum(value.shape[1] for value in parts)
    return Value(
        graph.op("Concat", *(value.name for value in parts), axis=1), (1, channels, *parts[0].shape[2:])
    )


def shortcut(network: Network, section: Section) -> Value:
    """The sum with earlier outputs."""
    if section.text("weights_type", "none") != "none":
        raise section.refuse(f"weights_type={section.settings['weights_type']}")
    name, shape = network.latest.name, network.latest.shape
    places = section.numbers("from", [])
    for index in places:
        other = network.at(section, index)
        if other.shape != shape:
            raise section.refuse(f"adds {list(other.shape[1:])} to {list(shape[1:])}")
        name = network.graph.op("Add", name, other.name)
    if not places:
        raise section.wrong("does not say from which layer")
    return Value(activated(network, section, name), shape)


def scaled_by(network: Network, section: Section) -> Value:
    """`scale_channels` and `sam`: an earlier output times this one."""
    (index,) = section.numbers("from", [0.5])[:1]
    if index != int(index):
        raise section.wrong("does not say from which layer")
    if section.flag("scale_wh"):
        raise section.refuse("scale_wh=1")
    other, latest = network.at(section, index), network.latest
    if latest.shape not in (other.shape, (*other.shape[:2], 1, 1)):
        raise section.wrong(f"multiplies {list(other.shape[1:])} by {list(latest.shape[1:])}")
    name = network.graph.op("Mul", other.name, latest.name)
    return Value(activated(network, section, name), other.shape)


def upsample(network: Network, section: Section) -> Value:
    """Each place several times."""
    channels, height, width = network.picture(section)
    stride = section.integer("stride", 2, 1, 64)
    if section.number("scale", 1) != 1:
        raise section.refuse(f"scale={section.settings['scale']}")
    name = network.graph.op(
        "Resize",
        network.latest.name,
        "",
        network.graph.weight([1.0, 1.0, stride, stride]),
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )
    return Value(name, (1, channels, height * stride, width * stride))


def reorg(network: Network, section: Section) -> Value:
    """Places to channels, in the order that YOLOv2 was trained with (which mixes both)."""
    channels, height, width = network.picture(section)
    stride, graph = section.integer("stride", 1, 1, 64), network.graph
    whole = stride * stride
    if channels % whole or height % stride or width % stride or section.flag("reverse"):
        raise section.wrong(f"{channels} channels of {height} x {width} by {stride}")
    apart = (1, channels // whole, height, stride, width, stride)
    name = graph.op("Reshape", network.latest.name, graph.integers(*apart))
    name = graph.op("Transpose", name, perm=[0, 3, 5, 1, 2, 4])
    shape = (1, channels * whole, height // stride, width // stride)
    return Value(graph.op("Reshape", name, graph.integers(*shape)), shape)


def softmax(network: Network, section: Section) -> Value:
    """Softmax over everything."""
    if section.integer("groups", 1, 1) != 1 or section.number("temperature", 1) != 1:
        raise section.refuse("groups or a temperature other than 1")
    if "tree" in section.settings:
        raise section.refuse("a tree of classes")
    flat = network.graph.op("Flatten", network.latest.name, axis=1)
    return Value(network.graph.op("Softmax", flat, axis=1), (1, int(np.prod(network.latest.shape))))


def nothing(network: Network, section: Section) -> Value:
    """`dropout` and `cost` do nothing outside of training."""
    return network.latest


LAYERS: dict[str, Convert] = {
    "convolutional": convolutional,
    "conv": convolutional,
    "connected": connected,
    "conn": connected,
    "maxpool": maxpool,
    "max": maxpool,
    "avgpool": avgpool,
    "avg": avgpool,
    "route": route,
    "shortcut": shortcut,
    "scale_channels": scaled_by,
    "sam": scaled_by,
    "upsample": upsample,
    "reorg": reorg,
    "softmax": softmax,
    "soft": softmax,
    "dropout": nothing,
    "cost": nothing,
}
