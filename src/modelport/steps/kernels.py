"""Resize kernels written in standard ONNX operators, equal to Pillow and OpenCV to the last bit.

Knows how pixels are resampled, not how a step is written or how sizes are chosen. Images are uint8
[height, width, channels]. Everything that decides a byte is integer or float64 arithmetic done in the
order in which the library does it, so that every platform computes the same; the method is told in
docs/explanation/exact-preprocessing.md.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import msgspec

from .graph import Graph, Value

KERNELS = ("pillow-bilinear", "pillow-bicubic", "opencv-linear", "nearest", "fast")

_BLOCK = 4  # output pixels that share one window of input: measured best of 2, 4, 6, 8, 16
_TURN = 160_000  # numbers made in one turn of a loop: measured best of 30, 60, 120, 250 and 500 thousand
_JUST_OVER = 1.0 + 2.0**-23
"""The float32 after 1. A factor of it lifts exact ties over the half and moves nothing else across."""


class Side(msgspec.Struct, frozen=True):
    """One axis of a resize. `source`, `target`, `first` and `kept` name int64[1] tensors.

    The axis goes from `source` to `target` pixels, and of those only `kept`, from `first` on, are made
    (all of them where `first` is None). `length` is the result's size for `Value.shape`.
    """

    source: str
    target: str
    length: int | str
    first: str | None = None
    kept: str | None = None

    @property
    def count(self) -> str:
        """The number of pixels that are made: int64[1]."""
        return self.target if self.kept is None else self.kept


def resize(
    graph: Graph, x: Value, height: Side, width: Side, kernel: str, *, order: str = "pillow-13"
) -> Value:
    """Resample uint8 [H, W, C] to [height, width, C] with one of `KERNELS`.

    `order` is of Pillow's two passes: `pillow-13` takes the height first where the height shrinks by more
    than twice what the width does; `width-first` never does, as Pillow did before version 13.
    """
    if kernel == "opencv-linear":
        data = _opencv_linear(graph, x, height, width)
    elif kernel == "nearest":
        rows = graph.op("Gather", x.name, _nearest_index(graph, height), axis=0)
        data = graph.op("Gather", rows, _nearest_index(graph, width), axis=1)
    elif kernel == "fast":
        data = _fast(graph, x, height, width)
    else:
        data = _pillow(graph, x, height, width, bicubic=kernel == "pillow-bicubic", order=order)
    return Value(data, "uint8", (height.length, width.length, x.shape[2]))


class _Windows(msgspec.Struct, frozen=True):
    """Output pixels cut into blocks: what each block reads, and with which integer coefficients."""

    index: str  # int64[blocks, reach], the positions each block reads
    digits: str  # uint8[blocks, 3 * _BLOCK, reach], the coefficients in base 256, highest digit first
    signed: bool  # a stored digit d stands for d - 128


def _pillow(graph: Graph, x: Value, height: Side, width: Side, *, bicubic: bool, order: str) -> str:
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

    center = op("Mul", op("Add", graph.cast(_outputs(graph, side, _BLOCK), "float64"), f64(0.5)), scale)
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


def _outputs(graph: Graph, side: Side, block: int) -> str:
    """The output positions to make, int64, their number rounded up to whole blocks by repeating the last."""
    op, i64 = graph.op, partial(graph.constant, dtype="int64")
    blocks = op("Div", op("Add", side.count, i64([block - 1])), i64([block]))
    length = op("Squeeze", op("Mul", blocks, i64([block])))
    outputs = op("Min", op("Range", i64(0), length, i64(1)), op("Sub", side.count, i64([1])))
    return outputs if side.first is None else op("Add", outputs, side.first)


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
    pixels = _by_turns(graph, op("Shape", index, end=1), each, blocks)
    return _rows(graph, pixels, row_shape, side.count)


def _by_turns(graph: Graph, count: str, each: str, make: Callable[[str], Value]) -> str:
    """What `make` makes of items 0 … `count`, in turns that keep its tensors in the processor's cache.

    An item makes about `each` numbers; both are int64[1]. `make` gets the items of a turn, int64[n]; the
    last turn repeats the last item until it is full. Measured, this takes a quarter to a third off.
    """
    op, i64 = graph.op, partial(graph.constant, dtype="int64")
    most = op("Max", op("Div", i64([_TURN]), each), i64([1]))
    turns = _ceil_div(graph, count, most)
    size = _ceil_div(graph, count, turns)
    items = op("Range", i64(0), op("Squeeze", size), i64(1))
    last = op("Sub", count, i64([1]))
    return graph.repeat(
        op("Squeeze", turns),
        lambda turn: make(op("Min", op("Add", op("Mul", turn, size), items), last)),
    )


def _ceil_div(graph: Graph, a: str, b: str) -> str:
    return graph.op("Div", graph.op("Sub", graph.op("Add", a, b), graph.constant([1], "int64")), b)


def _rows(graph: Graph, pixels: str, row_shape: str, count: str) -> str:
    """The first `count` rows of `pixels`, whatever its shape, as rows of `row_shape`; int64 vectors."""
    i64 = partial(graph.constant, dtype="int64")
    rows = graph.op("Reshape", pixels, graph.op("Concat", i64([-1]), row_shape, axis=0))
    return graph.op("Slice", rows, i64([0]), count, i64([0]))


def _round_shift_22(graph: Graph, total: str) -> str:
    """uint8 of clip((total + 2^21) >> 22, 0, 255), for an int32 tensor.

    The 8 low bits cannot change the result and are cleared, so that a total below 2^30 is exact in
    float32 with a few bits to spare; what is beyond saturates anyway. QuantizeLinear rounds ties to
    even and the shift rounds them up, so the scale lifts them a hair (less than the next multiple of
    256) over the tie.
    """
    cut = graph.op("BitwiseAnd", total, graph.constant(-256, "int32"))
    scale = graph.constant(2.0**-22 * _JUST_OVER, "float32")
    return _to_uint8(graph, graph.op("DequantizeLinear", cut, scale))


def _to_uint8(graph: Graph, x: str) -> str:
    """float32 -> uint8, rounded and saturated."""
    return graph.op("QuantizeLinear", x, graph.constant(1.0, "float32"), graph.constant(0, "uint8"))


def _opencv_linear(graph: Graph, x: Value, height: Side, width: Side) -> str:
    """OpenCV's `resize(…, INTER_LINEAR)` of 8-bit images (modules/imgproc/src/resize.cpp).

    Where every second weight is zero (the same size, or an odd whole-number scale) the formula gives the
    first pixel itself, and nothing is computed.
    """
    down, across = _taps(graph, height, border=False), _taps(graph, width, border=True)
    shape = (height.length, width.length, x.shape[2])

    def pick() -> Value:
        rows = graph.op("Gather", x.name, down.first, axis=0)
        return Value(graph.op("Gather", rows, across.first, axis=1), "uint8", shape)

    def mix() -> Value:
        row_shape = graph.op("Concat", width.count, graph.constant(shape[2:], "int64"), axis=0)
        each = graph.op("ReduceProd", row_shape)
        pixels = _by_turns(graph, height.count, each, lambda at: _opencv_mix(graph, x, down, across, at))
        return Value(_rows(graph, pixels, row_shape, height.count), "uint8", shape)

    most = graph.op("Max", *(graph.op("ReduceMax", taps.far, keepdims=0) for taps in (down, across)))
    return graph.choose(graph.op("Equal", most, graph.constant(0, "int32")), pick, mix, shape).name


class _Taps(msgspec.Struct, frozen=True):
    """The two input positions of every output, int64[n], and their weights out of 2048, int32[n]."""

    first: str
    second: str
    near: str
    far: str


def _opencv_mix(graph: Graph, x: Value, down: _Taps, across: _Taps, at: str) -> Value:
    """The output rows `at`, uint8 [n, W', C]:

    out = ((b0 * (S0 >> 4)) >> 16) + ((b1 * (S1 >> 4)) >> 16) + 2 >> 2 with S = p0 * a0 + p1 * a1. A
    masked value stands here for a shifted one: the bits are dropped and the scale is kept, so that
    everything fits in 31 bits.
    """
    op, channels = graph.op, graph.constant(x.shape[2:], "int64")
    one_axis = graph.constant([1], "int64")
    sides = [
        (i, op("Unsqueeze", w, one_axis))
        for i, w in ((across.first, across.near), (across.second, across.far))
    ]
    lines = []
    for rows, weights in ((down.first, down.near), (down.second, down.far)):
        image = op("Gather", x.name, op("Gather", rows, at), axis=0)
        columns = op("Transpose", image, perm=[1, 2, 0])  # [W, C, n]
        columns = op("Reshape", columns, graph.constant([0, -1], "int64"))
        taps = [op("Mul", graph.cast(op("Gather", columns, i, axis=0), "int32"), w) for i, w in sides]
        line = op("BitwiseAnd", op("Add", *taps), graph.constant(-16, "int32"))  # [W', C * n]
        weight = op("Tile", op("Gather", weights, at), channels)
        lines.append(op("BitwiseAnd", op("Mul", line, weight), graph.constant(-(2**20), "int32")))
    # Multiples of 2^20 below 2^30 are exact in float32; the scale rounds ties up, as in Pillow's pass.
    scale = graph.constant(2.0**-22 * _JUST_OVER, "float32")
    pixels = _to_uint8(graph, op("DequantizeLinear", op("Add", *lines), scale))
    planes = op(
        "Reshape",
        pixels,
        op("Concat", graph.constant([0], "int64"), channels, graph.constant([-1], "int64"), axis=0),
    )
    return Value(op("Transpose", planes, perm=[2, 0, 1]), "uint8", ("rows", "columns", x.shape[2]))


def _taps(graph: Graph, side: Side, *, border: bool) -> _Taps:
    """OpenCV's positions and 11-bit weights of one axis.

    Past the border OpenCV takes the edge pixel whole across (`border`) and twice, weighted, down.
    """
    op, f32 = graph.op, partial(graph.constant, dtype="float32")
    source, target = graph.cast(side.source, "float64"), graph.cast(side.target, "float64")
    scale = op("Div", graph.constant(1.0, "float64"), op("Div", target, source))
    half = graph.constant(0.5, "float64")
    center = op("Add", graph.cast(_outputs(graph, side, 1), "float64"), half)
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


def _nearest_index(graph: Graph, side: Side) -> str:
    """The input position of every output of Pillow's NEAREST, int64.

    `ImagingScaleAffine` starts at scale / 2 and adds the scale again and again in double; CumSum does
    the same, with the same rounding.
    """
    op = graph.op
    scale = op("Div", graph.cast(side.source, "float64"), graph.cast(side.target, "float64"))
    first = op("Mul", scale, graph.constant(0.5, "float64"))
    more = op("Expand", scale, op("Sub", side.target, graph.constant([1], "int64")))
    places = op("CumSum", op("Concat", first, more, axis=0), graph.constant(0, "int64"))
    index = graph.cast(places, "int64")
    if side.first is None:
        return index
    return op("Slice", index, side.first, op("Add", side.first, side.count))


def _fast(graph: Graph, x: Value, height: Side, width: Side) -> str:
    """ONNX `Resize` of uint8: linear, antialiased; within a level of Pillow's bilinear nearly always."""
    data = graph.op(
        "Resize",
        x.name,
        "",
        "",
        graph.op("Concat", height.target, width.target, axis=0),
        mode="linear",
        antialias=1,
        exclude_outside=1,
        axes=[0, 1],
    )
    if height.first is None or width.first is None:
        return data
    starts = graph.op("Concat", height.first, width.first, axis=0)
    ends = graph.op("Add", starts, graph.op("Concat", height.count, width.count, axis=0))
    return graph.op("Slice", data, starts, ends, graph.constant([0, 1], "int64"))
