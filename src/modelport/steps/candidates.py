"""What a detector's head proposes, as one list for the whole batch, and the names that steps give it.

A candidate is a box with one class; its `row` says which item of the batch it belongs to. Only what is over
the score threshold becomes one, so that whatever comes after works on a handful and not on 25 200.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import msgspec
import numpy as np

from ..bundle.manifest import Option
from ..tensors import Array
from .graph import Graph, Value

BOXES, SCORES, CLASSES, COUNT = "boxes", "scores", "classes", "count"
"""The answer of the task object-detection."""

# No answer holds these: names in brackets are the steps' own.
ROW, BOX, SCORE, CLASS, BATCH = "(row)", "(box)", "(score)", "(class)", "(batch)"

LARGEST = float(np.finfo(np.float32).max)

SCORE_THRESHOLD = "score_threshold"
MULTI_LABEL = "multi_label"
IOU_THRESHOLD = "iou_threshold"
CLASS_AGNOSTIC = "class_agnostic"


def score_option(default: float) -> Option:
    """The option that both graphs and callers know as `score_threshold`."""
    text = "objects with a score up to this are left out"
    return Option(SCORE_THRESHOLD, "float32", default, 0.0, 1.0, text)


def multi_label_option(default: bool) -> Option:
    """Whether a box may be an object of several classes."""
    text = "whether one box may be several classes; otherwise the best one counts"
    return Option(MULTI_LABEL, "bool", default, None, None, text)


class Candidates(msgspec.Struct, frozen=True):
    """Names of tensors in a graph, P of them in all: int64[P], float32[P, 4], float32[P], int64[P]."""

    row: str
    box: str
    score: str
    kind: str
    batch: str
    """The number of items: int64 scalar."""

    def tensors(self) -> dict[str, Value]:
        """As a step hands them on."""
        return {
            ROW: Value(self.row, "int64", ("candidates",)),
            BOX: Value(self.box, "float32", ("candidates", 4)),
            SCORE: Value(self.score, "float32", ("candidates",)),
            CLASS: Value(self.kind, "int64", ("candidates",)),
            BATCH: Value(self.batch, "int64", ()),
        }

    @classmethod
    def of(cls, tensors: Mapping[str, Value]) -> Candidates | None:
        """Those that a head left; None where none did."""
        if ROW not in tensors:
            return None
        return cls(*(tensors[name].name for name in (ROW, BOX, SCORE, CLASS, BATCH)))


def batch_of(graph: Graph, raw: str) -> str:
    """The number of rows of `raw`, int64 scalar."""
    return graph.op("Squeeze", graph.op("Shape", raw, start=0, end=1))


def over(graph: Graph, gate: str, threshold: str) -> str:
    """Where `gate` [batch, n] is over the threshold: int64[m, 2], pairs of row and index."""
    return graph.op("Transpose", graph.op("NonZero", graph.op("Greater", gate, threshold)), perm=[1, 0])


def column(graph: Graph, x: str, index: int, axis: int = 1) -> str:
    """One index of an axis, which goes away."""
    return graph.op("Gather", x, graph.constant(index, "int64"), axis=axis)


def by_class(
    graph: Graph, row: str, box: str, scores: str, threshold: str, multi: str, batch: str
) -> Candidates:
    """Boxes with a score for each class -> candidates: the best class, or every one over the threshold.

    Args:
        row, box, scores: int64[m], float32[m, 4], float32[m, classes].
        threshold, multi: the options' scalars.
        batch: the number of items.
    """
    op = graph.op
    good = op(
        "And",
        op("Greater", scores, threshold),
        op("LessOrEqual", scores, graph.constant(LARGEST, "float32")),
    )
    whole = op("Unsqueeze", finite(graph, box), graph.constant([1], "int64"))
    # A NaN is no candidate, and must not become the best class either.
    best = op("ArgMax", op("Where", good, scores, graph.constant(-1.0, "float32")), axis=1)
    classes = op("Range", *_range(graph, op("Shape", scores, start=1, end=2)))
    chosen = op("Or", multi, op("Equal", best, classes))
    pairs = op("NonZero", op("And", op("And", good, whole), chosen))
    index, kind = column(graph, pairs, 0, 0), column(graph, pairs, 1, 0)
    score = op("GatherND", scores, op("Transpose", pairs, perm=[1, 0]))
    return Candidates(op("Gather", row, index), op("Gather", box, index), score, kind, batch)


def reference_by_class(
    row: Array, box: Array, scores: Array, threshold: float, multi: bool, batch: int
) -> dict[str, Array]:
    """What `by_class` computes, in NumPy."""
    limit = np.float32(threshold)
    finite = np.isfinite(box).all(axis=1)
    found: list[tuple[int, int]] = []
    for index in np.flatnonzero(finite):
        line = np.where(np.isfinite(scores[index]), scores[index], -1)
        if multi:
            found += [(int(index), int(kind)) for kind in np.flatnonzero(line > limit)]
        elif line.size and line.max() > limit:
            found.append((int(index), int(line.argmax())))
    places, kinds = np.array(found, np.int64).reshape(-1, 2).T
    return reference_candidates(row[places], box[places], scores[places, kinds], kinds, batch)


def reference_candidates(row: Array, box: Array, score: Array, kind: Array, batch: int) -> dict[str, Array]:
    """Candidates in native code, under the names that steps give them."""
    return {
        ROW: row.astype(np.int64),
        BOX: box.astype(np.float32).reshape(-1, 4),
        SCORE: score.astype(np.float32),
        CLASS: kind.astype(np.int64),
        BATCH: np.array(batch, np.int64),
    }


def corners(graph: Graph, center: str) -> str:
    """Boxes [m, 4] as center x, center y, width, height -> x1, y1, x2, y2."""
    op, i64 = graph.op, partial(graph.constant, dtype="int64")
    middle = op("Slice", center, i64([0]), i64([2]), i64([1]))
    half = op("Mul", op("Slice", center, i64([2]), i64([4]), i64([1])), graph.constant(0.5, "float32"))
    return op("Concat", op("Sub", middle, half), op("Add", middle, half), axis=1)


def reference_corners(center: Array) -> Array:
    """What `corners` computes."""
    half = center[:, 2:4] * np.float32(0.5)
    return np.concatenate([center[:, :2] - half, center[:, :2] + half], axis=1)


def finite(graph: Graph, x: str, axis: int = 1) -> str:
    """Whether all numbers along an axis, the last, are: bool without that axis."""
    # Of an infinity or NaN, and of nothing else, a number minus itself is not 0.
    total = graph.op("ReduceSum", graph.op("Sub", x, x), graph.constant([axis], "int64"), keepdims=0)
    return graph.op("Equal", total, graph.constant(0.0, "float32"))


def _range(graph: Graph, count: str) -> tuple[str, str, str]:
    return graph.constant(0, "int64"), graph.op("Squeeze", count), graph.constant(1, "int64")
