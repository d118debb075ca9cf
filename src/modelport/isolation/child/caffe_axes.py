"""Caffe's layers that only move numbers about: joining, cutting, reshaping, turning."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from .caffe_layer import Convert, Layer
from .onnx_graph import OnnxGraph, Value


def same(graph: OnnxGraph, layer: Layer, bottoms: list[Value]) -> list[Value]:
    """What a layer gives on that does nothing outside of training; `Split` gives it several times."""
    return bottoms * max(1, len(layer.tops)) if len(bottoms) == 1 else bottoms


def silence(graph: OnnxGraph, layer: Layer, bottoms: list[Value]) -> list[Value]:
    """Values that nobody wants."""
    return []


def concat(graph: OnnxGraph, layer: Layer, bottoms: list[Value]) -> list[Value]:
    """Values one behind another."""
    settings = layer.settings.message("concat_param")
    rank = len(bottoms[0].shape)
    axis = layer.axis(settings.integer("axis", settings.integer("concat_dim", 1)), rank)
    rest = {(*value.shape[:axis], *value.shape[axis + 1 :]) for value in bottoms}
    if len(rest) != 1 or any(len(value.shape) != rank for value in bottoms):
        raise layer.wrong(f"{[list(value.shape) for value in bottoms]} do not fit along axis {axis}")
    shape = list(bottoms[0].shape)
    shape[axis] = sum(value.shape[axis] for value in bottoms)
    held = [value.constant for value in bottoms]
    known = [array for array in held if array is not None]
    if len(known) == len(held):
        return [Value("", tuple(shape), np.concatenate(known, axis))]
    name = graph.op("Concat", *(graph.name_of(value) for value in bottoms), axis=axis)
    return [Value(name, tuple(shape))]


def cut(graph: OnnxGraph, layer: Layer, bottoms: list[Value]) -> list[Value]:
    """`Slice`: parts one behind another, equal ones where no points are stated."""
    settings = layer.settings.message("slice_param")
    (bottom,) = bottoms
    axis = layer.axis(settings.integer("axis", settings.integer("slice_dim", 1)), len(bottom.shape))
    size, parts = bottom.shape[axis], len(layer.tops)
    points = settings.integers("slice_point")
    if not points and size % parts == 0:
        points = [size // parts * number for number in range(1, parts)]
    edges = [0, *points, size]
    sizes = [end - start for start, end in pairwise(edges)]
    if len(sizes) != parts or min(sizes) < 1:
        raise layer.wrong(f"{size} is cut at {points} into {parts} parts")
    names = graph.ops("Split", [graph.name_of(bottom), graph.integers(*sizes)], parts, axis=axis)
    return [
        Value(name, (*bottom.shape[:axis], part, *bottom.shape[axis + 1 :]))
        for name, part in zip(names, sizes, strict=True)
    ]


def reshape(graph: OnnxGraph, layer: Layer, bottoms: list[Value]) -> list[Value]:
    """The sides stated, in place of some axes; 0 leaves a side as it is, -1 is what is left."""
    settings = layer.settings.message("reshape_param")
    (bottom,) = bottoms
    stated = settings.message("shape").integers("dim")
    first, count = settings.integer("axis", 0), settings.integer("num_axes", -1)
    rank = len(bottom.shape)
    first = first + rank + 1 if first < 0 else first
    end = rank if count == -1 else first + count
    if not 0 <= first <= end <= rank:
        raise layer.wrong(f"{count} axes from {first} of {list(bottom.shape)}")
    if any(side == 0 and first + index >= rank for index, side in enumerate(stated)):
        raise layer.wrong(f"{stated} copies a side that {list(bottom.shape)} has not")
    sides = [bottom.shape[first + index] if side == 0 else side for index, side in enumerate(stated)]
    return [_reshaped(graph, layer, bottom, [*bottom.shape[:first], *sides, *bottom.shape[end:]])]


def flatten(graph: OnnxGraph, layer: Layer, bottoms: list[Value]) -> list[Value]:
    """Some axes as one."""
    settings = layer.settings.message("flatten_param")
    (bottom,) = bottoms
    rank = len(bottom.shape)
    first = layer.axis(settings.integer("axis", 1), rank)
    last = layer.axis(settings.integer("end_axis", -1), rank)
    shape = bottom.shape
    if last < first:
        raise layer.wrong(f"axes {first} to {last}")
    sides = [*shape[:first], math.prod(shape[first : last + 1]), *shape[last + 1 :]]
    return [_reshaped(graph, layer, bottom, sides)]


def _reshaped(graph: OnnxGraph, layer: Layer, bottom: Value, sides: list[int]) -> Value:
    try:
        return graph.reshaped(bottom, *sides)
    except ValueError as problem:
        raise layer.wrong(str(problem)) from problem


def permute(graph: OnnxGraph, layer: Layer, bottoms: list[Value]) -> list[Value]:
    """The axes in another order."""
    (bottom,) = bottoms
    rank = len(bottom.shape)
    order = layer.settings.message("permute_param").integers("order")
    order = [*order, *(axis for axis in range(rank) if axis not in order)]
    if sorted(order) != list(range(rank)):
        raise layer.wrong(f"{order} is no order of {rank} axes")
    shape = tuple(bottom.shape[axis] for axis in order)
    if bottom.constant is not None:
        return [Value("", shape, bottom.constant.transpose(order))]
    return [Value(graph.op("Transpose", bottom.name, perm=order), shape)]


def shuffle(graph: OnnxGraph, layer: Layer, bottoms: list[Value]) -> list[Value]:
    """`ShuffleChannel`: the channels of groups in turn."""
    (bottom,) = bottoms
    channels, height, width = layer.picture(bottom)
    groups = layer.settings.message("shuffle_channel_param").integer("group", 1)
    if groups < 1 or channels % groups:
        raise layer.wrong(f"{channels} channels in {groups} groups")
    apart = graph.reshaped(bottom, 1, groups, channels // groups, height * width)
    turned = graph.op("Transpose", graph.name_of(apart), perm=[0, 2, 1, 3])
    shape = (1, channels, height, width)
    return [Value(graph.op("Reshape", turned, graph.integers(*shape)), shape)]


LAYERS: dict[str, Convert] = {
    "Dropout": same,
    "Split": same,
    "Silence": silence,
    "Concat": concat,
    "Slice": cut,
    "Reshape": reshape,
    "Flatten": flatten,
    "Permute": permute,
    "ShuffleChannel": shuffle,
}
