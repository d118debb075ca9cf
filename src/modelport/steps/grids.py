"""Heads whose boxes are told from the cell they were found in: YOLOX, NanoDet, raw YOLOv5."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated, ClassVar

import msgspec
import numpy as np

from ..errors import UsageError
from ..tensors import Array, Tensors, TensorSpec
from . import candidates
from .candidates import by_class, column, corners, over, reference_corners
from .graph import Graph, Value
from .heads import Head, largest, named, numbers_of, part, past, rows_of, with_objectness
from .image import Size, both_sides
from .levels import Level, Lines, Planes, Rows

Strides = tuple[Annotated[int, msgspec.Meta(ge=1, le=1024)], ...]

YOLOV5_ANCHORS = (
    (10.0, 13.0, 16.0, 30.0, 33.0, 23.0),
    (30.0, 61.0, 62.0, 45.0, 59.0, 119.0),
    (116.0, 90.0, 156.0, 198.0, 373.0, 326.0),
)
"""Width and height of three anchors for each of the strides 8, 16 and 32, as YOLOv5 is trained on COCO."""


class Yolox(Head, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """YOLOX as exported: [batch, n, 5 + classes]: x and y from the cell and the logarithms of width and
    height, all in strides; objectness; classes. A score is objectness x class.

    `of`: the name of the output; nothing where only one has three axes. `size`: the network's picture, both
    sides or [height, width]. `strides`: of the levels, in the output's order. `decoded`: whether the network
    already gives pixels (`--decode_in_inference`).
    """

    name: ClassVar[str] = "yolox"
    size: Size
    of: str | None = None
    strides: Strides = (8, 16, 32)
    decoded: bool = False

    def __post_init__(self) -> None:
        both_sides(self.size)

    def classes(self, outputs: Sequence[TensorSpec]) -> int | None:
        return numbers_of(outputs, self.of, 2, 5)

    def compile(self, graph: Graph, tensors: dict[str, Value], labels: Sequence[str]) -> dict[str, Value]:
        op, raw = graph.op, rows_of(self.name, self.of, tensors)
        threshold, multi = self.options(graph)
        place = over(graph, column(graph, raw.name, 4, 2), threshold)
        row, index = column(graph, place, 0), column(graph, place, 1)
        lines = op("GatherND", raw.name, place)
        center = part(graph, lines, 0, 4)
        if not self.decoded:
            cells, strides = cells_of(graph, raw, self.size, self.strides, 0.0)
            cell, stride = op("Gather", cells, index), op("Gather", strides, index)
            middle = op("Add", part(graph, lines, 0, 2), cell)
            sides = op("Exp", part(graph, lines, 2, 4))
            center = op("Mul", op("Concat", middle, sides, axis=1), stride)
        scores, batch = with_objectness(graph, lines), candidates.batch_of(graph, raw.name)
        box = corners(graph, center)
        return past(tensors) | by_class(graph, row, box, scores, threshold, multi, batch).tensors()

    def reference(self, tensors: Tensors, labels: Sequence[str]) -> dict[str, Array]:
        raw = tensors[named(self.of, tensors)]
        row, index = np.nonzero(raw[:, :, 4] > np.float32(self.score_threshold))
        lines = raw[row, index]
        center = lines[:, :4]
        if not self.decoded:
            cells, strides = grid(both_sides(self.size), self.strides)
            with np.errstate(over="ignore", invalid="ignore"):
                middle, sides = lines[:, :2] + cells[index], np.exp(lines[:, 2:4])
                center = np.concatenate([middle, sides], axis=1) * strides[index]
        box, scores = reference_corners(center), lines[:, 5:] * lines[:, 4:5]
        return past(tensors) | self.found(row, box, scores, len(raw))


class NanoDet(Head, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """NanoDet as exported: [batch, n, classes + 4 * (reg_max + 1)]: the score of each class, and for each of
    left, top, right and bottom how likely it is 0 to `reg_max` strides away (generalised focal loss).

    `of`: the name of the output; nothing where only one has three axes. `size`: the network's picture, both
    sides or [height, width]. `strides`: of the levels, in the output's order. `offset`: where in its cell a
    place lies, 0 for NanoDet-Plus and 0.5 for the first NanoDet.
    """

    name: ClassVar[str] = "nanodet"
    size: Size
    of: str | None = None
    strides: Strides = (8, 16, 32, 64)
    reg_max: Annotated[int, msgspec.Meta(ge=1, le=64)] = 7
    offset: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0

    def __post_init__(self) -> None:
        both_sides(self.size)

    @property
    def _bins(self) -> int:
        return 4 * (self.reg_max + 1)

    def classes(self, outputs: Sequence[TensorSpec]) -> int | None:
        return numbers_of(outputs, self.of, 2, self._bins)

    def compile(self, graph: Graph, tensors: dict[str, Value], labels: Sequence[str]) -> dict[str, Value]:
        op, i64 = graph.op, partial(graph.constant, dtype="int64")
        raw = rows_of(self.name, self.of, tensors)
        threshold, multi = self.options(graph)
        cells, strides = cells_of(graph, raw, self.size, self.strides, self.offset)
        scores = part(graph, raw.name, 0, -self._bins, axis=2)
        place = over(graph, op("ReduceMax", scores, i64([2]), keepdims=0), threshold)
        row, index = column(graph, place, 0), column(graph, place, 1)
        lines = op("GatherND", raw.name, place)
        bins = op("Reshape", part(graph, lines, -self._bins, 1 << 31), i64([0, 4, self.reg_max + 1]))
        far = op("MatMul", op("Softmax", bins, axis=2), self._steps_of(graph))
        stride = op("Gather", strides, index)
        sides = op("Mul", op("Squeeze", far, i64([2])), stride)
        middle = op("Mul", op("Gather", cells, index), stride)
        height, width = both_sides(self.size)
        box = op(
            "Concat",
            op("Sub", middle, part(graph, sides, 0, 2)),
            op("Add", middle, part(graph, sides, 2, 4)),
            axis=1,
        )
        most = graph.constant([width, height, width, height], "float32")
        box = op("Min", op("Max", box, graph.constant(0.0, "float32")), most)
        kinds = part(graph, lines, 0, -self._bins)
        batch = candidates.batch_of(graph, raw.name)
        return past(tensors) | by_class(graph, row, box, kinds, threshold, multi, batch).tensors()

    def reference(self, tensors: Tensors, labels: Sequence[str]) -> dict[str, Array]:
        raw = tensors[named(self.of, tensors)]
        cells, strides = grid(both_sides(self.size), self.strides, self.offset)
        scores = raw[:, :, : -self._bins]
        row, index = np.nonzero(largest(scores, axis=2) > np.float32(self.score_threshold))
        bins = raw[row, index, -self._bins :].reshape(-1, 4, self.reg_max + 1)
        with np.errstate(all="ignore"):
            share = np.exp(bins - bins.max(axis=2, keepdims=True))
            share = share / share.sum(axis=2, keepdims=True)
            sides = (share * np.arange(self.reg_max + 1, dtype=np.float32)).sum(axis=2) * strides[index]
        middle = cells[index] * strides[index]
        box = np.concatenate([middle - sides[:, :2], middle + sides[:, 2:]], axis=1)
        height, width = both_sides(self.size)
        box = np.minimum(np.maximum(box, np.float32(0)), np.array([width, height] * 2, np.float32))
        return past(tensors) | self.found(row, box, scores[row, index], len(raw))

    def _steps_of(self, graph: Graph) -> str:
        return graph.constant([[step] for step in range(self.reg_max + 1)], "float32")


class YoloV5Raw(Head, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """YOLOv5 and v7 without their last layer: for each level the logits, either [batch, anchors, rows,
    columns, 5 + classes] or, as the last convolution gives them, [batch, anchors * (5 + classes), rows,
    columns]; all outputs of five axes, or else of four. A score is objectness x class.

    `size`: the network's picture, both sides or [height, width]. `anchors`: for each level, finest first, the
    width and height of its anchors in pixels, one after the other. `channels_last`: whether outputs of four
    axes are [batch, rows, columns, anchors * (5 + classes)]. `strides`: pixels from one cell to the next, for
    each level, of a network that takes pictures of several sizes; without them they follow from `size`.
    """

    name: ClassVar[str] = "yolov5_raw"
    size: Size
    anchors: tuple[tuple[float, ...], ...] = YOLOV5_ANCHORS
    channels_last: bool = False
    strides: Strides | None = None

    def __post_init__(self) -> None:
        both_sides(self.size)
        if self.strides is not None and len(self.strides) != len(self.anchors):
            raise ValueError(f"{len(self.strides)} strides for the anchors of {len(self.anchors)} levels")
        if any(len(level) < 2 or len(level) % 2 for level in self.anchors):
            raise ValueError("`anchors` are pairs of width and height")

    def classes(self, outputs: Sequence[TensorSpec]) -> int | None:
        widths = {spec.shape[4] for spec in outputs if len(spec.shape) == 5}
        if not widths:
            axis = 3 if self.channels_last else 1
            planes = {spec.shape[axis] for spec in outputs if len(spec.shape) == 4}
            anchors = len(self.anchors[0]) // 2
            widths = {size // anchors for size in planes if isinstance(size, int) and not size % anchors}
        width = widths.pop() if len(widths) == 1 else None
        return width - 5 if isinstance(width, int) and width > 5 else None

    def compile(self, graph: Graph, tensors: dict[str, Value], labels: Sequence[str]) -> dict[str, Value]:
        op = graph.op
        threshold, multi = self.options(graph)
        levels = self._levels(tensors)
        rows, boxes, scores = [], [], []
        for level, anchors in zip(levels, self.anchors, strict=True):
            found, lines, cell = level.over(graph, threshold)
            lines = op("Sigmoid", lines)
            start = op("Sub", graph.cast(cell, "float32"), graph.constant(0.5, "float32"))
            double = op("Mul", part(graph, lines, 0, 4), graph.constant(2.0, "float32"))
            stride = graph.constant(level.stride, "float32")
            middle = op("Mul", op("Add", part(graph, double, 0, 2), start), stride)
            sides = part(graph, double, 2, 4)
            known = graph.constant(np.reshape(anchors, (-1, 2)), "float32")
            anchor = op("Gather", known, column(graph, found, 1))
            sides = op("Mul", op("Mul", sides, sides), anchor)
            rows.append(column(graph, found, 0))
            boxes.append(corners(graph, op("Concat", middle, sides, axis=1)))
            scores.append(with_objectness(graph, lines))
        row, box, kinds = (op("Concat", *each, axis=0) for each in (rows, boxes, scores))
        batch = candidates.batch_of(graph, levels[0].value.name)
        return past(tensors) | by_class(graph, row, box, kinds, threshold, multi, batch).tensors()

    def reference(self, tensors: Tensors, labels: Sequence[str]) -> dict[str, Array]:
        rank = 5 if any(array.ndim == 5 for array in tensors.values()) else 4
        whole = sorted((array for array in tensors.values() if array.ndim == rank), key=lambda a: -a.shape[2])
        if rank == 4 and not self.channels_last:
            whole = [array.transpose(0, 2, 3, 1) for array in whole]
        if rank == 4:
            whole = [
                array.reshape(*array.shape[:3], len(level) // 2, -1).transpose(0, 3, 1, 2, 4)
                for array, level in zip(whole, self.anchors, strict=True)
            ]
        rows, boxes, scores = [], [], []
        strides = self.strides or [both_sides(self.size)[0] // raw.shape[2] for raw in whole]
        for raw, level, pixels in zip(whole, self.anchors, strides, strict=True):
            stride = np.float32(pixels)
            with np.errstate(over="ignore"):
                sure = 1 / (1 + np.exp(-raw[..., 4]))
                row, anchor, y, x = np.nonzero(sure > np.float32(self.score_threshold))
                lines = (1 / (1 + np.exp(-raw[row, anchor, y, x]))).astype(np.float32)
            cell = np.stack([x, y], axis=1).astype(np.float32) - np.float32(0.5)
            middle = (lines[:, :2] * 2 + cell) * stride
            sides = (lines[:, 2:4] * 2) ** 2 * np.reshape(level, (-1, 2)).astype(np.float32)[anchor]
            rows.append(row)
            boxes.append(reference_corners(np.concatenate([middle, sides], axis=1)))
            scores.append(lines[:, 5:] * lines[:, 4:5])
        row, box, kinds = (np.concatenate(each) for each in (rows, boxes, scores))
        return past(tensors) | self.found(row, box, kinds, len(whole[0]))

    def _levels(self, tensors: dict[str, Value]) -> list[Level]:
        rank = 5 if any(len(value.shape) == 5 for value in tensors.values()) else 4
        found = sorted(
            (value for value in tensors.values() if len(value.shape) == rank),
            key=lambda value: -value.shape[2] if isinstance(value.shape[2], int) else 0,
        )
        if len(found) != len(self.anchors):
            raise UsageError(f"{self.name} has anchors for {len(self.anchors)} outputs, found {len(found)}")
        each = zip(found, self.anchors, self.strides or [None] * len(found), strict=True)
        return [self._level(value, len(anchors) // 2, stride) for value, anchors, stride in each]

    def _level(self, value: Value, anchors: int, stride: int | None) -> Level:
        kind: type[Level] = Lines if len(value.shape) == 5 else Rows if self.channels_last else Planes
        first = 1 if kind is Rows else 2
        said, (rows, columns) = value.shape[3 if kind is Rows else 1], value.shape[first : first + 2]
        height, width = both_sides(self.size)
        if kind is Lines and said != anchors:
            raise UsageError(f"{self.name}: {value.name!r} has {said} anchors, the step {anchors}")
        if kind is not Lines and (not isinstance(said, int) or said % anchors or said // anchors < 6):
            raise UsageError(
                f"{self.name}: {value.name!r} has {said} planes, which {anchors} anchors do not share"
            )
        if stride is not None and kind is not Planes:
            return kind(value, anchors, float(stride))
        if not isinstance(rows, int) or not isinstance(columns, int):
            raise UsageError(f"{self.name} needs outputs of known rows and columns; {value.name!r} is open")
        if height % rows or width % columns or height // rows != width // columns:
            raise UsageError(f"{self.name}: {rows} x {columns} cells do not divide {height} x {width} pixels")
        if kind is Planes:
            return Planes(value, anchors, float(height // rows), rows, columns)
        return kind(value, anchors, float(height // rows))


def grid(size: tuple[int, int], strides: Sequence[int], offset: float = 0.0) -> tuple[Array, Array]:
    """The places of all levels, row by row: x and y in cells [n, 2], and strides [n, 1]; float32.

    A level has as many rows and columns as padded convolutions make of the picture, rounded up.
    """
    cells, sizes = [], []
    for stride in strides:
        rows, columns = (-(-side // stride) for side in size)
        y, x = np.mgrid[0:rows, 0:columns]
        cells.append(np.stack([x, y], axis=-1).reshape(-1, 2) + offset)
        sizes.append(np.full((rows * columns, 1), stride))
    return np.concatenate(cells).astype(np.float32), np.concatenate(sizes).astype(np.float32)


def cells_of(graph: Graph, raw: Value, size: Size, strides: Sequence[int], offset: float) -> tuple[str, str]:
    """`grid` as constants.

    Raises:
        UsageError: the output has another number of places.
    """
    cells, sizes = grid(both_sides(size), strides, offset)
    if isinstance(raw.shape[1], int) and raw.shape[1] != len(cells):
        height, width = both_sides(size)
        raise UsageError(
            f"strides {', '.join(map(str, strides))} make {len(cells)} places of {width} x {height} pixels; "
            f"{raw.name!r} has {raw.shape[1]}",
            hint="another `size` or `strides`, or another kind of head",
        )
    return graph.constant(cells, "float32"), graph.constant(sizes, "float32")
