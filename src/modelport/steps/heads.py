"""Detection heads: what a network says of every place in the picture -> candidates in its own pixels."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated, ClassVar

import msgspec
import numpy as np

from ..errors import UsageError
from ..tensors import Array, Tensors, TensorSpec
from . import candidates
from .candidates import by_class, column, corners, over, reference_by_class, reference_corners
from .graph import Graph, Value
from .step import PostStep

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class Head(PostStep, frozen=True, forbid_unknown_fields=True):
    """What all heads have: the defaults of the options `score_threshold` and `multi_label`."""

    score_threshold: Share = 0.25
    multi_label: bool = False

    @classmethod
    def classes(cls, outputs: Sequence[TensorSpec]) -> int | None:
        """How many classes a network with these outputs knows, where they tell."""
        raise NotImplementedError

    def options(self, graph: Graph) -> tuple[str, str]:
        """The two options, declared: names of scalars."""
        return (
            graph.option(candidates.score_option(self.score_threshold)),
            graph.option(candidates.multi_label_option(self.multi_label)),
        )


class YoloV5(Head, frozen=True, forbid_unknown_fields=True):
    """YOLOv5 and v7 as exported: [batch, n, 5 + classes] of center x, center y, width, height in pixels of
    the network's picture, objectness, and classes. A score is objectness x class.

    `of`: the name of the output; nothing where one has three axes.
    """

    name: ClassVar[str] = "yolov5"
    of: str | None = None

    @classmethod
    def classes(cls, outputs: Sequence[TensorSpec]) -> int | None:
        found = [spec.shape[2] for spec in outputs if len(spec.shape) == 3]
        return found[0] - 5 if len(found) == 1 and isinstance(found[0], int) else None

    def compile(self, graph: Graph, tensors: dict[str, Value], labels: Sequence[str]) -> dict[str, Value]:
        op, i64 = graph.op, partial(graph.constant, dtype="int64")
        raw = rows_of(self.name, self.of, tensors)
        threshold, multi = self.options(graph)
        # A class is at most 1, so no score is over the objectness.
        place = over(graph, column(graph, raw.name, 4, 2), threshold)
        lines = op("GatherND", raw.name, place)
        box = corners(graph, op("Slice", lines, i64([0]), i64([4]), i64([1])))
        kinds = op("Slice", lines, i64([5]), i64([1 << 31]), i64([1]))
        scores = op("Mul", kinds, op("Slice", lines, i64([4]), i64([5]), i64([1])))
        row, batch = column(graph, place, 0), candidates.batch_of(graph, raw.name)
        made = by_class(graph, row, box, scores, threshold, multi, batch)
        return carried(tensors) | made.tensors()

    def reference(self, tensors: Tensors, labels: Sequence[str]) -> dict[str, Array]:
        raw = tensors[reference_rows(self.of, tensors)]
        row, place = np.nonzero(raw[:, :, 4] > np.float32(self.score_threshold))
        lines = raw[row, place]
        box, scores = reference_corners(lines[:, :4]), lines[:, 5:] * lines[:, 4:5]
        made = reference_by_class(row, box, scores, self.score_threshold, self.multi_label, len(raw))
        return {name: tensors[name] for name in carried(tensors)} | made


def carried(tensors: dict[str, Value] | Tensors) -> dict[str, Value]:
    """What goes on past the head: the placement alone."""
    return {name: value for name, value in tensors.items() if name == "placement"}  # type: ignore[misc]


def rows_of(step: str, of: str | None, tensors: dict[str, Value]) -> Value:
    """The output [batch, n, width] that a head reads.

    Raises:
        UsageError: none, several and none named, or another rank or datatype.
    """
    fitting = [name for name, value in tensors.items() if len(value.shape) == 3]
    shown = ", ".join(f"{name} {value.dtype}{list(value.shape)}" for name, value in tensors.items())
    if of is None and len(fitting) != 1:
        raise UsageError(f"{step} must say `of` which output, of three axes; there are {shown}")
    name = fitting[0] if of is None else of
    if name not in fitting or tensors[name].dtype != "float32":
        raise UsageError(f"{step} takes float32[batch, n, width]; there are {shown}", at=of)
    return tensors[name]


def reference_rows(of: str | None, tensors: Tensors) -> str:
    """The name of the output that `rows_of` gives."""
    return of if of is not None else next(name for name, array in tensors.items() if array.ndim == 3)
