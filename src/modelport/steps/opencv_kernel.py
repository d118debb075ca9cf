"""OpenCV's INTER_LINEAR resize in standard ONNX operators: two taps of 11 bits on each side."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, reduce

import msgspec

from .graph import Graph, Value
from .sampling import TIE_UP, Side, by_turns, first_rows, outputs, to_uint8


def opencv_linear(graph: Graph, x: Value, height: Side, width: Side) -> str:
    """OpenCV's `resize(…, INTER_LINEAR)` of 8-bit images (modules/imgproc/src/resize.cpp).

    At whole-number scales the formula comes to less, and less is computed: the first pixel itself where
    every second weight is 0 (the same size, or an odd scale), and (p + q + r + s + 2) >> 2 where every
    weight is a half (an even scale). These are what cameras and screens give detectors most.
    """
    down, across = _taps(graph, height, border=False), _taps(graph, width, border=True)
    shape = (height.length, width.length, x.shape[2])
    either = ("rows", "columns", x.shape[2])  # perhaps none

    def by_rows(make: Callable[[Graph, Value, _Taps, _Taps, str], Value]) -> Value:
        row_shape = graph.op("Concat", width.count, graph.constant(shape[2:], "int64"), axis=0)
        each = graph.op("ReduceProd", row_shape)
        pixels = by_turns(graph, height.count, each, lambda at: make(graph, x, down, across, at))
        return Value(first_rows(graph, pixels, row_shape, height.count), "uint8", shape)

    def pick() -> Value:
        rows = graph.op("Gather", x.name, down.first, axis=0)
        return Value(graph.op("Gather", rows, across.first, axis=1), "uint8", shape)

    def none() -> Value:
        nothing = graph.constant([0], "int64")
        return Value(graph.op("Slice", x.name, nothing, nothing), "uint8", either)

    def known() -> Value:
        return Value(graph.op("Identity", simple.name), "uint8", either)

    # One after the other: ONNX Runtime 1.31 crashes where it inlines an If within an If.
    first = _all_equal(graph, 0, down.far, across.far)
    halves = _all_equal(graph, 1024, down.far, across.far)
    simple = graph.choose(first, pick, none, either)
    simple = graph.choose(halves, lambda: by_rows(_average), known, either)
    return graph.choose(graph.op("Or", first, halves), known, lambda: by_rows(_mix), shape).name


def _all_equal(graph: Graph, number: int, *vectors: str) -> str:
    """Whether all numbers in int32 vectors are this one."""
    ends = [graph.op(kind, v, keepdims=0) for v in vectors for kind in ("ReduceMin", "ReduceMax")]
    same = [graph.op("Equal", end, graph.constant(number, "int32")) for end in ends]
    return reduce(partial(graph.op, "And"), same)


class _Taps(msgspec.Struct, frozen=True):
    """The two input positions of every output, int64[n], and their weights out of 2048, int32[n]."""

    first: str
    second: str
    near: str
    far: str


def _mix(graph: Graph, x: Value, down: _Taps, across: _Taps, at: str) -> Value:
    """The output rows `at`, uint8 [n, W', C]:

    out = ((b0 * (S0 >> 4)) >> 16) + ((b1 * (S1 >> 4)) >> 16) + 2 >> 2 with S = p0 * a0 + p1 * a1. A
    masked value stands here for a shifted one: the bits are dropped and the scale is kept, so that
    everything fits in 31 bits.
    """
    op, one_axis = graph.op, graph.constant([1], "int64")
    sides = [(across.first, op("Unsqueeze", across.near, one_axis))]
    sides.append((across.second, op("Unsqueeze", across.far, one_axis)))
    lines = []
    for rows, weights in ((down.first, down.near), (down.second, down.far)):
        columns = _columns(graph, x, op("Gather", rows, at))
        taps = [op("Mul", graph.cast(op("Gather", columns, i, axis=0), "int32"), w) for i, w in sides]
        line = op("BitwiseAnd", op("Add", *taps), graph.constant(-16, "int32"))
        weight = op("Tile", op("Gather", weights, at), graph.constant(x.shape[2:], "int64"))
        lines.append(op("BitwiseAnd", op("Mul", line, weight), graph.constant(-(2**20), "int32")))
    # Multiples of 2^20 below 2^30 are exact in float32.
    return _pixels(graph, op("Add", *lines), 2.0**-22, x.shape[2])


def _average(graph: Graph, x: Value, down: _Taps, across: _Taps, at: str) -> Value:
    """The output rows `at` where every pixel is the mean of four, halves rounded up: uint8 [n, W', C]."""
    taps = [
        graph.cast(graph.op("Gather", columns, index, axis=0), "int32")
        for columns in (
            _columns(graph, x, graph.op("Gather", rows, at)) for rows in (down.first, down.second)
        )
        for index in (across.first, across.second)
    ]
    return _pixels(graph, reduce(partial(graph.op, "Add"), taps), 0.25, x.shape[2])


def _columns(graph: Graph, x: Value, rows: str) -> str:
    """Rows of [H, W, C] as [W, C * n], so that to pick a column is to copy a whole row."""
    turned = graph.op("Transpose", graph.op("Gather", x.name, rows, axis=0), perm=[1, 2, 0])
    return graph.op("Reshape", turned, graph.constant([0, -1], "int64"))


def _pixels(graph: Graph, columns: str, scale: float, channels: int | str) -> Value:
    """int32 [W', C * n], times a power of two and rounded half up, as uint8 [n, W', C]."""
    real = graph.op("DequantizeLinear", columns, graph.constant(scale * TIE_UP, "float32"))
    planes = graph.constant([0, channels, -1], "int64")
    pixels = graph.op("Reshape", to_uint8(graph, real), planes)
    return Value(graph.op("Transpose", pixels, perm=[2, 0, 1]), "uint8", ("rows", "columns", channels))


def _taps(graph: Graph, side: Side, *, border: bool) -> _Taps:
    """OpenCV's positions and 11-bit weights of one axis.

    Past the border OpenCV takes the edge pixel whole across (`border`) and twice, weighted, down.
    """
    op, f32 = graph.op, partial(graph.constant, dtype="float32")
    source, target = graph.cast(side.source, "float64"), graph.cast(side.target, "float64")
    scale = op("Div", graph.constant(1.0, "float64"), op("Div", target, source))
    half = graph.constant(0.5, "float64")
    center = op("Add", graph.cast(outputs(graph, side, 1), "float64"), half)
    place = graph.cast(op("Sub", op("Mul", center, scale), half), "float32")
    floor = op("Floor", place)
    fraction = op("Sub", place, floor)
    last = op("Sub", graph.cast(side.source, "float32"), f32(1.0))
    if border:
        within = op("And", op("GreaterOrEqual", floor, f32(0.0)), op("Less", floor, last))
        fraction = op("Where", within, fraction, f32(0.0))
    first, second = (
        graph.cast(op("Min", op("Max", index, f32(0.0)), last), "int64")
        for index in (floor, op("Add", floor, f32(1.0)))
    )
    # Round is half to even, as OpenCV's saturate_cast<short> of a float is.
    near, far = (
        graph.cast(op("Round", op("Mul", weight, f32(2048.0))), "int32")
        for weight in (op("Sub", f32(1.0), fraction), fraction)
    )
    return _Taps(first, second, near, far)
