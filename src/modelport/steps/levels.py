"""One level of a detector with anchors: which of its places can hold an object, and their numbers."""

from __future__ import annotations

from functools import partial

import msgspec

from .candidates import column
from .graph import Graph, Value


class Level(msgspec.Struct, frozen=True):
    """An output with the logits of a grid of cells, `anchors` places in each."""

    value: Value
    anchors: int
    stride: float
    """Pixels from one cell to the next."""

    def over(self, graph: Graph, threshold: str) -> tuple[str, str, str]:
        """The places whose objectness is over the threshold.

        Returns:
            Names of: int64[m, …] that begin with row of the batch and anchor; their logits
            float32[m, 5 + classes]; column and row of their cells int64[m, 2].
        """
        raise NotImplementedError


class Lines(Level, frozen=True):
    """[batch, anchors, rows, columns, 5 + classes]."""

    def over(self, graph: Graph, threshold: str) -> tuple[str, str, str]:
        place = _places(graph, column(graph, self.value.name, 4, 4), threshold)
        cells = graph.op("Gather", place, graph.constant([3, 2], "int64"), axis=1)
        return place, graph.op("GatherND", self.value.name, place), cells


class Planes(Level, frozen=True):
    """[batch, anchors * (5 + classes), rows, columns]: the numbers of a place lie a whole plane apart."""

    rows: int
    columns: int

    def over(self, graph: Graph, threshold: str) -> tuple[str, str, str]:
        op, i64 = graph.op, partial(graph.constant, dtype="int64")
        planes = self.value.shape[1]
        assert isinstance(planes, int)
        numbers, cells = planes // self.anchors, self.rows * self.columns
        grid = op("Reshape", self.value.name, i64([0, self.anchors, numbers, cells]))
        place = _places(graph, column(graph, grid, 4, 2), threshold)
        # Of the few that are found each number is picked by itself: turning the planes takes far longer.
        weights = i64([self.anchors * numbers * cells, numbers * cells, 1])
        first = op("ReduceSum", op("Mul", place, weights), i64([1]), keepdims=1)
        index = op("Add", first, i64([[number * cells for number in range(numbers)]]))
        lines = op("Gather", op("Reshape", self.value.name, i64([-1])), index)
        cell, across = column(graph, place, 2), i64(self.columns)
        pair = [op("Unsqueeze", op(kind, cell, across), i64([1])) for kind in ("Mod", "Div")]
        return place, lines, op("Concat", *pair, axis=1)


class Rows(Level, frozen=True):
    """[batch, rows, columns, anchors * (5 + classes)]: the planes last, as 8-bit convolutions have them."""

    def over(self, graph: Graph, threshold: str) -> tuple[str, str, str]:
        op, i64 = graph.op, partial(graph.constant, dtype="int64")
        width = self.value.shape[3]
        assert isinstance(width, int)
        shape = [0, 0, 0, self.anchors, width // self.anchors]  # batch, rows and columns as they come
        whole = op("Reshape", self.value.name, i64(shape))
        place = _places(graph, column(graph, whole, 4, 4), threshold)
        ends = [op("Gather", place, i64(order), axis=1) for order in ([0, 3], [2, 1])]
        return ends[0], op("GatherND", whole, place), ends[1]


def _places(graph: Graph, objectness: str, threshold: str) -> str:
    """Where the sigmoid of the logits is over the threshold: int64[m, axes]."""
    good = graph.op("Greater", graph.op("Sigmoid", objectness), threshold)
    return graph.op("Transpose", graph.op("NonZero", good), perm=[1, 0])
