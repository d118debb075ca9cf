"""Detection heads: what a network says of every place in the picture -> candidates in the network's pixels.

A head first asks which places can hold anything over the threshold, and decodes those only: of 25 200 a
handful is left. `nms` or `best` makes the answer of what it finds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, ClassVar, TypeVar

import msgspec
import numpy as np

from ..errors import UsageError
from ..tensors import Array, Tensors, TensorSpec
from . import candidates
from .candidates import Candidates, by_class, column, corners, over, reference_by_class, reference_corners
from .graph import Graph, Value
from .step import PostStep

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Extra = Annotated[int, msgspec.Meta(ge=0)]
T = TypeVar("T")

CARRIED = "placement"
_END = 1 << 31
MOST_PLANES = 256
"""Classes up to which each gets an output of its own inside the graph."""


class Head(PostStep, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What all heads have: `score_threshold` and `multi_label`, defaults of options of the same names."""

    score_threshold: Share = 0.25
    multi_label: bool = False
    numbers_axis: ClassVar[int | None] = None
    """Which axis of the output, 1 or 2, holds the numbers of a place; the other one the places."""

    def classes(self, outputs: Sequence[TensorSpec]) -> int | None:
        """How many classes a network with these outputs knows, where they tell."""
        raise NotImplementedError

    def options(self, graph: Graph) -> tuple[str, str]:
        """The two options, declared: names of scalars."""
        return (
            graph.option(candidates.score_option(self.score_threshold)),
            graph.option(candidates.multi_label_option(self.multi_label)),
        )

    def found(self, row: Array, box: Array, scores: Array, batch: int) -> dict[str, Array]:
        """Candidates of places that can hold something, in native code."""
        return reference_by_class(row, box, scores, self.score_threshold, self.multi_label, batch)


class YoloV5(Head, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """YOLOv5 and v7 as exported: [batch, n, 5 + classes]: center x, center y, width, height in pixels of
    the network's picture, objectness, and classes. A score is objectness x class.

    `of`: the name of the output; nothing where only one has three axes. `extra`: numbers behind the classes
    that are no classes (masks).
    """

    name: ClassVar[str] = "yolov5"
    numbers_axis = 2
    of: str | None = None
    extra: Extra = 0

    def classes(self, outputs: Sequence[TensorSpec]) -> int | None:
        return numbers_of(outputs, self.of, 2, 5 + self.extra)

    def compile(self, graph: Graph, tensors: dict[str, Value], labels: Sequence[str]) -> dict[str, Value]:
        raw = rows_of(self.name, self.of, tensors)
        threshold, multi = self.options(graph)
        # A class is at most 1, so no score is over the objectness.
        place = over(graph, column(graph, raw.name, 4, 2), threshold)
        lines = graph.op("GatherND", raw.name, place)
        box = corners(graph, part(graph, lines, 0, 4))
        scores = with_objectness(graph, lines, _kinds_end(raw, self.extra))
        row, batch = column(graph, place, 0), candidates.batch_of(graph, raw.name)
        return past(tensors) | by_class(graph, row, box, scores, threshold, multi, batch).tensors()

    def reference(self, tensors: Tensors, labels: Sequence[str]) -> dict[str, Array]:
        raw = tensors[named(self.of, tensors)]
        row, place = np.nonzero(raw[:, :, 4] > np.float32(self.score_threshold))
        lines = raw[row, place]
        box, scores = (
            reference_corners(lines[:, :4]),
            lines[:, 5 : lines.shape[1] - self.extra] * lines[:, 4:5],
        )
        return past(tensors) | self.found(row, box, scores, len(raw))


class YoloV8(Head, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """YOLOv8, v9, v11, v12 as exported: [batch, 4 + classes, n]: center x, center y, width, height in
    pixels of the network's picture, and the score of each class.

    `of`: the name of the output; nothing where only one has three axes. `extra`: numbers behind the classes
    that are no classes (masks, key points).
    """

    name: ClassVar[str] = "yolov8"
    numbers_axis = 1
    of: str | None = None
    extra: Extra = 0

    def classes(self, outputs: Sequence[TensorSpec]) -> int | None:
        return numbers_of(outputs, self.of, 1, 4 + self.extra)

    def compile(self, graph: Graph, tensors: dict[str, Value], labels: Sequence[str]) -> dict[str, Value]:
        op, i64 = graph.op, partial(graph.constant, dtype="int64")
        raw = rows_of(self.name, self.of, tensors)
        threshold, multi = self.options(graph)
        end = _kinds_end(raw, self.extra, axis=1)
        # "Not up to": a maximum that is no number is looked at with the others, and left out one by one.
        gate = op("Not", op("LessOrEqual", _best_of(graph, raw, end), threshold))
        place = op("Transpose", op("NonZero", gate), perm=[1, 0])
        # Places lie along the last axis: picking their numbers one by one spares turning 700 000 of them.
        row, index = column(graph, place, 0), column(graph, place, 1)
        size = op("Shape", raw.name)
        width, count = (op("Slice", size, i64([axis]), i64([axis + 1]), i64([0])) for axis in (1, 2))
        first = op("Add", op("Mul", row, op("Mul", width, count)), index)
        steps = op("Mul", op("Range", i64(0), op("Squeeze", width), i64(1)), count)
        lines = op(
            "Gather",
            op("Reshape", raw.name, i64([-1])),
            op("Add", op("Unsqueeze", first, i64([1])), op("Unsqueeze", steps, i64([0]))),
        )
        box, scores = corners(graph, part(graph, lines, 0, 4)), part(graph, lines, 4, end)
        batch = candidates.batch_of(graph, raw.name)
        return past(tensors) | by_class(graph, row, box, scores, threshold, multi, batch).tensors()

    def reference(self, tensors: Tensors, labels: Sequence[str]) -> dict[str, Array]:
        raw = tensors[named(self.of, tensors)]
        scores = raw[:, 4 : raw.shape[1] - self.extra]
        row, place = np.nonzero(largest(scores, axis=1) > np.float32(self.score_threshold))
        box = reference_corners(raw[row, :4, place])
        return past(tensors) | self.found(row, box, scores[row, :, place], len(raw))


class YoloV10(Head, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """End-to-end exports (YOLOv10, `nms=True`): [batch, n, 6] of x1, y1, x2, y2 in pixels, score, class.

    `of`: the name of the output; nothing where only one has three axes. Every place has one class, so
    `multi_label` changes nothing and is no option.
    """

    name: ClassVar[str] = "yolov10"
    numbers_axis = 2
    of: str | None = None

    def classes(self, outputs: Sequence[TensorSpec]) -> int | None:
        return None

    def compile(self, graph: Graph, tensors: dict[str, Value], labels: Sequence[str]) -> dict[str, Value]:
        op = graph.op
        raw = rows_of(self.name, self.of, tensors)
        threshold = graph.option(candidates.score_option(self.score_threshold))
        score, kind = column(graph, raw.name, 4, 2), column(graph, raw.name, 5, 2)
        most = float(len(labels) or 1 << 20)
        known = op(
            "And",
            op("GreaterOrEqual", kind, graph.constant(0.0, "float32")),
            op("Less", kind, graph.constant(most, "float32")),
        )
        box = part(graph, raw.name, 0, 4, axis=2)
        whole = op("And", known, candidates.finite(graph, raw.name, axis=2))
        good = op("And", op("Greater", score, threshold), whole)
        place = op("Transpose", op("NonZero", good), perm=[1, 0])
        made = Candidates(
            column(graph, place, 0),
            op("GatherND", box, place),
            op("GatherND", score, place),
            graph.cast(op("GatherND", kind, place), "int64"),
            candidates.batch_of(graph, raw.name),
        )
        return past(tensors) | made.tensors()

    def reference(self, tensors: Tensors, labels: Sequence[str]) -> dict[str, Array]:
        raw = tensors[named(self.of, tensors)]
        score, kind = raw[:, :, 4], raw[:, :, 5]
        good = (score > np.float32(self.score_threshold)) & np.isfinite(raw).all(axis=2)
        row, place = np.nonzero(good & (kind >= 0) & (kind < (len(labels) or 1 << 20)))
        lines = raw[row, place]
        return past(tensors) | candidates.reference_candidates(
            row, lines[:, :4], lines[:, 4], lines[:, 5], len(raw)
        )


def past(tensors: Mapping[str, T]) -> dict[str, T]:
    """What goes on past a head: the placement alone."""
    return {name: value for name, value in tensors.items() if name == CARRIED}


def part(graph: Graph, x: str, first: int, end: int, axis: int = 1) -> str:
    """`x[first:end]` along an axis; a negative end counts from the last."""
    i64 = partial(graph.constant, dtype="int64")
    return graph.op("Slice", x, i64([first]), i64([end]), i64([axis]))


def with_objectness(graph: Graph, lines: str, end: int = _END) -> str:
    """Scores [m, classes] of lines [m, 5 + classes]: objectness x class."""
    return graph.op("Mul", part(graph, lines, 5, end), part(graph, lines, 4, 5))


def rows_of(step: str, of: str | None, tensors: dict[str, Value], rank: int = 3) -> Value:
    """The output of `rank` axes that a head reads.

    Raises:
        UsageError: none, several and none named, or another rank or datatype.
    """
    fitting = [name for name, value in tensors.items() if len(value.shape) == rank]
    shown = ", ".join(
        f"{name} {value.dtype}{list(value.shape)}" for name, value in tensors.items() if name != CARRIED
    )
    if not fitting:
        raise UsageError(
            f"this network has no detector output: {step} takes one of {rank} axes; there are {shown}",
            hint="a classifier? --recipe imagenet; leave --recipe out to have a detector recognised",
        )
    if of is None and len(fitting) != 1:
        raise UsageError(
            f"{step} must say `of` which output, of {rank} axes; there are {shown}",
            hint="with the recipes that ship: --set output=NAME",
        )
    name = fitting[0] if of is None else of
    if name not in fitting or tensors[name].dtype != "float32":
        raise UsageError(f"{step} takes an output of float32 with {rank} axes; there are {shown}", at=of)
    return tensors[name]


def named(of: str | None, tensors: Tensors, rank: int = 3) -> str:
    """The name of the output that `rows_of` gives."""
    return of if of is not None else next(name for name, array in tensors.items() if array.ndim == rank)


def _kinds_end(raw: Value, extra: int, axis: int = 2) -> int:
    """Where the classes end: there must be one at least."""
    width = raw.shape[axis]
    if isinstance(width, int) and width < 5 + extra:
        raise UsageError(f"the output has {width} numbers for each place, too few for boxes and classes")
    return -extra if extra else _END


def _best_of(graph: Graph, raw: Value, end: int) -> str:
    """The highest score of each place, [batch, n], of numbers [batch, 4 + classes, n]."""
    width = raw.shape[1]
    if not isinstance(width, int) or not 1 < (classes := width - 4 + min(end, 0)) <= MOST_PLANES:
        scores = part(graph, raw.name, 4, end, axis=1)
        return graph.op("ReduceMax", scores, graph.constant([1], "int64"), keepdims=0)
    # Planes that lie one after another are compared as wholes, in half the time that the reduction takes.
    sizes = [4, *[1] * classes, *([-end] if end < 0 else [])]
    planes = graph.ops("Split", raw.name, graph.constant(sizes, "int64"), outputs=len(sizes), axis=1)
    best = graph.op("Max", *planes[1 : classes + 1])
    return graph.op("Squeeze", best, graph.constant([1], "int64"))


def numbers_of(outputs: Sequence[TensorSpec], of: str | None, axis: int, other: int) -> int | None:
    """The classes along an axis of the output of three axes, which has `other` numbers beside them."""
    found = [spec for spec in outputs if len(spec.shape) == 3 and of in (None, spec.name)]
    size = found[0].shape[axis] if len(found) == 1 else None
    return size - other if isinstance(size, int) and size > other else None


def largest(scores: Array, axis: int) -> Array:
    """The largest number that is one; -1 where there is none."""
    largest: Array = np.where(np.isnan(scores), np.float32(-1), scores).max(axis=axis, initial=-1)
    return largest
