"""Caffe's layers that look at single numbers or at channels: activations, scales, sums, inner products."""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from .caffe_layer import Convert, Layer
from .frames import Array
from .onnx_graph import OnnxGraph, Value


def _one(kind: str, graph: OnnxGraph, layer: Layer, bottoms: list[Value]) -> list[Value]:
    """A layer that is one operator without settings."""
    return [Value(graph.op(kind, graph.name_of(bottom)), bottom.shape) for bottom in bottoms]


def relu(graph: OnnxGraph, layer: Layer, bottoms: list[Value]) -> list[Value]:
    """ReLU, leaky where it has a slope."""
    slope = layer.settings.message("relu_param").number("negative_slope", 0.0)
    if not slope:
        return _one("Relu", graph, layer, bottoms)
    name = graph.op("LeakyRelu", graph.name_of(bottoms[0]), alpha=slope)
    return [Value(name, bottoms[0].shape)]


def relu6(graph: OnnxGraph, layer: Layer, bottoms: list[Value]) -> list[Value]:
    """ReLU up to 6."""
    name = graph.op("Clip", graph.name_of(bottoms[0]), graph.weight(0.0), graph.weight(6.0))
    return [Value(name, bottoms[0].shape)]


def prelu(graph: OnnxGraph, layer: Layer, bottoms: list[Value]) -> list[Value]:
    """A slope for each channel, or one for all."""
    (bottom,) = bottoms
    shared = layer.settings.message("prelu_param").flag("channel_shared", False)
    channels = 1 if shared else bottom.shape[1]
    slope = layer.weights(0, channels, *[1] * (len(bottom.shape) - 2))
    return [Value(graph.op("PRelu", graph.name_of(bottom), graph.weight(slope)), bottom.shape)]


def elu(graph: OnnxGraph, layer: Layer, bottoms: list[Value]) -> list[Value]:
    """ELU."""
    alpha = layer.settings.message("elu_param").number("alpha", 1.0)
    return [Value(graph.op("Elu", graph.name_of(bottoms[0]), alpha=alpha), bottoms[0].shape)]


def power(graph: OnnxGraph, layer: Layer, bottoms: list[Value]) -> list[Value]:
    """(shift + scale x) ^ power."""
    settings = layer.settings.message("power_param")
    name = _line(graph, bottoms[0], settings.number("scale", 1.0), settings.number("shift", 0.0))
    if (exponent := settings.number("power", 1.0)) != 1:
        name = graph.op("Pow", name, graph.weight(exponent))
    return [Value(name, bottoms[0].shape)]


def exp(graph: OnnxGraph, layer: Layer, bottoms: list[Value]) -> list[Value]:
    """base ^ (shift + scale x); the base is e where it is -1."""
    settings = layer.settings.message("exp_param")
    base = settings.number("base", -1.0)
    if base <= 0 and base != -1:
        raise layer.wrong(f"its base is {base:g}")
    factor = 1.0 if base == -1 else math.log(base)
    scale, shift = settings.number("scale", 1.0), settings.number("shift", 0.0)
    return [
        Value(graph.op("Exp", _line(graph, bottoms[0], factor * scale, factor * shift)), bottoms[0].shape)
    ]


def _line(graph: OnnxGraph, value: Value, scale: float, shift: float) -> str:
    name = graph.name_of(value)
    if scale != 1:
        name = graph.op("Mul", name, graph.weight(scale))
    return graph.op("Add", name, graph.weight(shift)) if shift else name


def swish(graph: OnnxGraph, layer: Layer, bottoms: list[Value]) -> list[Value]:
    """x times the sigmoid of x."""
    if layer.settings.message("swish_param").number("beta", 1.0) != 1:
        raise layer.refuse("its beta is not 1")
    name = graph.name_of(bottoms[0])
    return [Value(graph.op("Mul", name, graph.op("Sigmoid", name)), bottoms[0].shape)]


def batch_norm(graph: OnnxGraph, layer: Layer, bottoms: list[Value]) -> list[Value]:
    """The mean and deviation of training; both are kept multiplied by a factor."""
    (bottom,) = bottoms
    settings = layer.settings.message("batch_norm_param")
    if not settings.flag("use_global_stats", True):
        raise layer.refuse("takes the mean of the batch itself", "set use_global_stats to true")
    channels = bottom.shape[1]
    factor = float(layer.weights(2, 1)[0])
    share = 0.0 if factor == 0 else 1 / factor
    mean, variance = (layer.weights(index, channels) * np.float32(share) for index in (0, 1))
    name = graph.op(
        "BatchNormalization",
        graph.name_of(bottom),
        graph.weight(np.ones(channels)),
        graph.weight(np.zeros(channels)),
        graph.weight(mean),
        graph.weight(variance),
        epsilon=settings.number("eps", 1e-5),
    )
    return [Value(name, bottom.shape)]


def scale(graph: OnnxGraph, layer: Layer, bottoms: list[Value]) -> list[Value]:
    """A factor, and perhaps a number to add, for each channel; the factor may be another value."""
    settings = layer.settings.message("scale_param")
    bottom = bottoms[0]
    first = layer.axis(settings.integer("axis", 1), len(bottom.shape))
    if len(bottoms) > 1:
        factor = bottoms[1]
        sides = factor.shape
        name = graph.op("Mul", graph.name_of(bottom), _spread(graph, layer, factor, first, bottom))
    else:
        sides = _covered(layer, bottom, first, settings.integer("num_axes", 1))
        name = graph.op(
            "Mul", graph.name_of(bottom), graph.weight(_beside(layer.weights(0, *sides), first, bottom))
        )
    if settings.flag("bias_term", False):
        added = layer.weights(len(layer.blobs) - 1, *sides)
        name = graph.op("Add", name, graph.weight(_beside(added, first, bottom)))
    return [Value(name, bottom.shape)]


def _covered(layer: Layer, bottom: Value, first: int, count: int) -> tuple[int, ...]:
    """The sides of the axes that a scale has numbers for."""
    if count < -1 or (count != -1 and first + count > len(bottom.shape)):
        raise layer.wrong(f"{count} axes from {first} of {list(bottom.shape)}")
    return bottom.shape[first:] if count == -1 else bottom.shape[first : first + count]


def _beside(numbers: Array, first: int, bottom: Value) -> Array:
    """Numbers for the axes from `first` on, with axes of 1 behind them."""
    return numbers.reshape(*numbers.shape, *[1] * (len(bottom.shape) - first - numbers.ndim))


def _spread(graph: OnnxGraph, layer: Layer, value: Value, first: int, bottom: Value) -> str:
    end = first + len(value.shape)
    if end > len(bottom.shape) or value.shape != bottom.shape[first:end]:
        raise layer.wrong(f"{list(value.shape)} does not fit {list(bottom.shape)} from axis {first} on")
    shape = (*value.shape, *[1] * (len(bottom.shape) - end))
    return graph.name_of(graph.reshaped(value, *shape))


def eltwise(graph: OnnxGraph, layer: Layer, bottoms: list[Value]) -> list[Value]:
    """The sum, product or maximum of several values, one by one."""
    settings = layer.settings.message("eltwise_param")
    kind, factors = settings.text("operation", "SUM"), settings.numbers("coeff")
    operators = {"PROD": "Mul", "SUM": "Add", "MAX": "Max", "0": "Mul", "1": "Add", "2": "Max"}
    if kind not in operators:
        raise layer.refuse(f"the operation {kind}")
    if len({bottom.shape for bottom in bottoms}) != 1:
        raise layer.refuse(f"takes values of different shapes: {[list(b.shape) for b in bottoms]}")
    if factors and (len(factors) != len(bottoms) or operators[kind] != "Add"):
        raise layer.wrong(f"{len(factors)} coefficients for {kind} of {len(bottoms)} values")
    names = [
        _line(graph, bottom, factor, 0.0)
        for bottom, factor in zip(bottoms, factors or [1.0] * len(bottoms), strict=True)
    ]
    name = names[0]
    for other in names[1:]:
        name = graph.op(operators[kind], name, other)
    return [Value(name, bottoms[0].shape)]


def inner_product(graph: OnnxGraph, layer: Layer, bottoms: list[Value]) -> list[Value]:
    """A fully connected layer over everything from an axis on."""
    settings = layer.settings.message("inner_product_param")
    (bottom,) = bottoms
    first = layer.axis(settings.integer("axis", 1), len(bottom.shape))
    width, count = math.prod(bottom.shape[first:]), settings.integer("num_output", 0)
    if not 0 < count <= 1 << 24:
        raise layer.wrong(f"num_output is {count}")
    turned = settings.flag("transpose", False)
    weights = graph.weight(layer.weights(0, *((width, count) if turned else (count, width))))
    added = [graph.weight(layer.weights(1, count))] if settings.flag("bias_term", True) else []
    if first == 1:
        flat = graph.op("Flatten", graph.name_of(bottom), axis=1)
        return [Value(graph.op("Gemm", flat, weights, *added, transB=int(not turned)), (1, count))]
    shape = (*bottom.shape[:first], width)
    name = graph.name_of(graph.reshaped(bottom, *shape))
    name = graph.op("MatMul", name, weights if turned else graph.op("Transpose", weights, perm=[1, 0]))
    return [Value(graph.op("Add", name, *added) if added else name, (*shape[:-1], count))]


def softmax(graph: OnnxGraph, layer: Layer, bottoms: list[Value]) -> list[Value]:
    """Softmax along one axis."""
    (bottom,) = bottoms
    axis = layer.axis(layer.settings.message("softmax_param").integer("axis", 1), len(bottom.shape))
    return [Value(graph.op("Softmax", graph.name_of(bottom), axis=axis), bottom.shape)]


def mvn(graph: OnnxGraph, layer: Layer, bottoms: list[Value]) -> list[Value]:
    """Mean and deviation of the picture itself taken out."""
    settings = layer.settings.message("mvn_param")
    (bottom,) = bottoms
    rank = len(bottom.shape)
    axes = graph.integers(*range(1 if settings.flag("across_channels", False) else 2, rank))
    name = graph.name_of(bottom)
    centred = graph.op("Sub", name, graph.op("ReduceMean", name, axes, keepdims=1))
    if settings.flag("normalize_variance", True):
        spread = graph.op("ReduceMean", graph.op("Mul", centred, centred), axes, keepdims=1)
        spread = graph.op("Add", graph.op("Sqrt", spread), graph.weight(settings.number("eps", 1e-9)))
        centred = graph.op("Div", centred, spread)
    return [Value(centred, bottom.shape)]


LAYERS: dict[str, Convert] = {
    "ReLU": relu,
    "ReLU6": relu6,
    "PReLU": prelu,
    "ELU": elu,
    "Sigmoid": partial(_one, "Sigmoid"),
    "TanH": partial(_one, "Tanh"),
    "BNLL": partial(_one, "Softplus"),
    "AbsVal": partial(_one, "Abs"),
    "Swish": swish,
    "Power": power,
    "Exp": exp,
    "BatchNorm": batch_norm,
    "Scale": scale,
    "Eltwise": eltwise,
    "InnerProduct": inner_product,
    "Softmax": softmax,
    "MVN": mvn,
}
