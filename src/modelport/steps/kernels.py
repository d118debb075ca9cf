"""Resize kernels written in standard ONNX operators, equal to Pillow and OpenCV to the last bit.

Knows how pixels are resampled, not how a step is written or how sizes are chosen. Images are uint8
[height, width, channels]. Everything that decides a byte is integer or float64 arithmetic done in the
order in which the library does it, so that every platform computes the same; the method is told in
docs/explanation/exact-preprocessing.md.
"""

from __future__ import annotations

from .graph import Graph, Value
from .opencv_kernel import opencv_linear
from .pillow_kernel import pillow
from .sampling import Side

KERNELS = ("pillow-bilinear", "pillow-bicubic", "opencv-linear", "nearest", "fast")


def resize(
    graph: Graph, x: Value, height: Side, width: Side, kernel: str, *, order: str = "pillow-13"
) -> Value:
    """Resample uint8 [H, W, C] to [height, width, C] with one of `KERNELS`.

    `order` is of Pillow's two passes: `pillow-13` takes the height first where the height shrinks by more
    than twice what the width does; `width-first` never does, as Pillow did before version 13.
    """
    if kernel == "opencv-linear":
        data = opencv_linear(graph, x, height, width)
    elif kernel == "nearest":
        rows = graph.op("Gather", x.name, _nearest_index(graph, height), axis=0)
        data = graph.op("Gather", rows, _nearest_index(graph, width), axis=1)
    elif kernel == "fast":
        data = _fast(graph, x, height, width)
    else:
        data = pillow(graph, x, height, width, bicubic=kernel == "pillow-bicubic", order=order)
    return Value(data, "uint8", (height.length, width.length, x.shape[2]))


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
