"""Pillow's bilinear and bicubic resize in standard ONNX operators: two fixed-point convolutions."""

from __future__ import annotations

from functools import partial

import msgspec

from .graph import Graph, Value
from .sampling import TIE_UP, Side, by_turns, first_rows, outputs, to_uint8

_BLOCK = 4  # output pixels that share one window of input: measured best of 2, 4, 6, 8, 16


class _Windows(msgspec.Struct, frozen=True):
    """Output pixels cut into blocks: what each block reads, and with which integer coefficients."""

    index: str  # int64[blocks, reach], the positions each block reads
    digits: str  # uint8[blocks, 3 * _BLOCK, reach], the coefficients in base 256, highest digit first
    signed: bool  # a stored digit d stands for d - 128


def pillow(graph: Graph, x: Value, height: Side, width: Side, *, bicubic: bool, order: str) -> str:
    """Pillow's `ImagingResample` for 8-bit channels: two passes, rounded to uint8 in between."""
    across, down = _windows(graph, width, bicubic), _windows(graph, height, bicubic)
    image = x.name
    left: str | None = None
    top: str | None = None
    if height.first is not None or width.first is not None:
        left, right = _reads(graph, across)
        top, bottom = _reads(graph, down)
        image = graph.op(
            "Slice",
            image,
            graph.op("Concat", top, left, axis=0),
            graph.op("Concat", bottom, right, axis=0),
            graph.constant([0, 1], "int64"),
        )
    result = (height.length, width.length, x.shape[2])

    def resample_width(rows: str) -> str:
        # One row of [W, C, H] holds all that shares a column, so that a pass combines whole rows.
        columns = graph.op("Transpose", rows, perm=[1, 2, 0])
        return graph.op("Transpose", _resample(graph, columns, across, width, left), perm=[2, 0, 1])

    def width_first() -> Value:
        return Value(_resample(graph, resample_width(image), down, height, top), "uint8", result)

    def height_first() -> Value:
        return Value(resample_width(_resample(graph, image, down, height, top)), "uint8", result)

    if order == "width-first":
        return width_first().name
    lost, lost_across = (graph.op("Sub", side.source, side.target) for side in (height, width))
    tall = graph.op(
        "And",
        graph.op("Greater", lost, graph.constant([0], "int64")),
        graph.op("Greater", lost, graph.op("Mul", lost_across, graph.constant([2], "int64"))),
    )
    return graph.choose(tall, height_first, width_first, result).name


def _windows(graph: Graph, side: Side, bicubic: bool) -> _Windows:
    """Pillow's `precompute_coeffs` and `normalize_coeffs_8bpc` (libImaging/Resample.c), by blocks.

    Float64 operations are one per node and in Pillow's order, so that each rounds as Pillow's does.
    """
    op, f64 = graph.op, partial(graph.constant, dtype="float64")
    source, target = graph.cast(side.source, "float64"), graph.cast(side.target, "float64")
    scale = op("Div", source, target)
    stretch = op("Max", scale, f64([1.0]))
    support = op("Mul", stretch, f64([2.0 if bicubic else 1.0]))

    center = op("Mul", op("Add", graph.cast(outputs(graph, side, _BLOCK), "float64"), f64(0.5)), scale)
    center = op("Reshape", center, graph.constant([-1, _BLOCK, 1], "int64"))
    low = op("Floor", op("Max", op("Add", op("Sub", center, support), f64(0.5)), f64(0.0)))
    high = op("Min", op("Floor", op("Add", op("Add", center, support), f64(0.5))), source)
    block_axis = graph.constant([1], "int64")
    start = op("ReduceMin", low, block_axis)
    reach = op("ReduceMax", op("Sub", op("ReduceMax", high, block_axis), start), keepdims=0)
    position = op("Add", start, op("Range", f64(0.0), reach, f64(1.0)))  # [blocks, 1, reach]

    offset = op("Add", op("Sub", position, center), f64(0.5))
    weight = _filter(graph, op("Abs", op("Mul", offset, op("Div", f64(1.0), stretch))), bicubic)
    inside = op("And", op("GreaterOrEqual", position, low), op("Less", position, high))
    weight = op("Where", inside, weight, f64(0.0))
    # CumSum adds from left to right, as Pillow does; ReduceSum would be free to add in any order.
    total = op("CumSum", weight, graph.constant(2, "int64"))
    total = op("Slice", total, *(graph.constant([v], "int64") for v in (-1, 2**62, 2)))
    scaled = op("Mul", op("Div", weight, total), f64(2.0**22))
    half = op("Where", op("Less", scaled, f64(0.0)), f64(-0.5), f64(0.5)) if bicubic else f64(0.5)
    index = graph.cast(op("Min", position, op("Sub", source, f64(1.0))), "int64")
    return _Windows(
        op("Squeeze", index, block_axis),
        _digits(graph, graph.cast(op("Add", scaled, half), "int32"), signed=bicubic),
        bicubic,
    )


def _filter(graph: Graph, distance: str, bicubic: bool) -> str:
    """Pillow's `bilinear_filter` or `bicubic_filter` (a = -0.5) of a distance >= 0, float64."""
    op, f64 = graph.op, partial(graph.constant, dtype="float64")
    if not bicubic:
        return op("Max", op("Sub", f64(1.0), distance), f64(0.0))
    near = op("Mul", op("Sub", op("Mul", f64(1.5), distance), f64(2.5)), distance)
    near = op("Add", op("Mul", near, distance), f64(1.0))
    far = op("Add", op("Mul", op("Sub", distance, f64(5.0)), distance), f64(8.0))
    far = op("Mul", op("Sub", op("Mul", far, distance), f64(4.0)), f64(-0.5))
    outer = op("Where", op("Less", distance, f64(2.0)), far, f64(0.0))
    return op("Where", op("Less", distance, f64(1.0)), near, outer)


def _digits(graph: Graph, coefficients: str, *, signed: bool) -> str:
    """int32 [blocks, n, reach] -> its base-256 digits, uint8 [blocks, 3 * n, reach].

    Signed ones (of at most 23 bits) get 128 added to every digit, which is their zero point.
    """
    if signed:
        offset = graph.constant(128 * (1 + 256 + 65536), "int32")
        coefficients = graph.op("Add", coefficients, offset)
    plain = graph.op("Unsqueeze", graph.cast(coefficients, "uint32"), graph.constant([1], "int64"))
    places = graph.constant([[[16]], [[8]], [[0]]], "uint32")
    # A cast to fewer bits keeps the low ones, by ONNX's definition of Cast.
    digits = graph.cast(graph.op("BitShift", plain, places, direction="RIGHT"), "uint8")
    return graph.op("Reshape", digits, graph.constant([0, 3 * _BLOCK, -1], "int64"))


def _reads(graph: Graph, windows: _Windows) -> tuple[str, str]:
    """The first position that any window reads, and the one after the last: int64[1] each."""
    flat = graph.op("Reshape", windows.index, graph.constant([-1], "int64"))
    ends = graph.op("Gather", flat, graph.constant([0, -1], "int64"))
    first, last = graph.ops("Split", ends, outputs=2, axis=0, num_outputs=2)
    return first, graph.op("Add", last, graph.constant([1], "int64"))


def _resample(graph: Graph, x: str, windows: _Windows, side: Side, origin: str | None) -> str:
    """One pass of Pillow's resampling over the first axis of uint8 [N, P, Q], whose row 0 is `origin`.

    Each block is an integer matrix product of its coefficients' digits and the rows in its window:
    uint8 by uint8 into int32, exact on every platform, and as fast as the processor's dot products.
    """
    op, i64 = graph.op, partial(graph.constant, dtype="int64")
    index = windows.index if origin is None else op("Sub", windows.index, origin)
    row_shape = op("Shape", x, start=1)

    def blocks(at: str) -> Value:
        digits, positions = op("Gather", windows.digits, at, axis=0), op("Gather", index, at, axis=0)
        rows = op("Reshape", op("Gather", x, positions, axis=0), i64([0, 0, -1]))
        zero_point = [graph.constant(128, "uint8")] if windows.signed else []
        sums = op("MatMulInteger", digits, rows, *zero_point)
        places = graph.constant([[65536, 256, 1]], "int32")
        total = op("MatMul", places, op("Reshape", sums, i64([0, 3, -1])))
        return Value(_round_shift_22(graph, total), "uint8", ("blocks", 1, "pixels"))

    each = op("Mul", op("ReduceProd", row_shape), i64([3 * _BLOCK]))
    pixels = by_turns(graph, op("Shape", index, end=1), each, blocks)
    return first_rows(graph, pixels, row_shape, side.count)


def _round_shift_22(graph: Graph, total: str) -> str:
    """uint8 of clip((total + 2^21) >> 22, 0, 255), for an int32 tensor.

    The 8 low bits cannot change the result and are cleared, so that a total below 2^30 is exact in
    float32 with a few bits to spare; what is beyond saturates anyway. QuantizeLinear rounds ties to
    even and the shift rounds them up, so the scale lifts them a hair (less than the next multiple of
    256) over the tie.
    """
    cut = graph.op("BitwiseAnd", total, graph.constant(-256, "int32"))
    scale = graph.constant(2.0**-22 * TIE_UP, "float32")
    return to_uint8(graph, graph.op("DequantizeLinear", cut, scale))
