"""From candidates to the answer: the best ones, without those that are the same object twice.

Rows of a batch never see each other: each is worked on by itself, in one turn of a loop, and gets the same
number of places whatever its neighbours hold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, ClassVar

import msgspec
import numpy as np

from ..bundle.manifest import Option
from ..errors import UsageError
from ..tensors import Array, Tensors
from .candidates import (
    BATCH,
    BOX,
    BOXES,
    CLASS,
    CLASS_AGNOSTIC,
    CLASSES,
    COUNT,
    IOU_THRESHOLD,
    ROW,
    SCORE,
    SCORES,
    Candidates,
    column,
)
from .graph import Graph, Value
from .step import PostStep

Choose = Callable[[str, str, str], str]
Keep = Callable[[Array, Array], list[int]]

MOST = 30_000
"""Candidates of one item that are looked at, the best ones; as many as Ultralytics looks at."""

Places = Annotated[int, msgspec.Meta(ge=1, le=10_000)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class Nms(PostStep, frozen=True, forbid_unknown_fields=True):
    """Non-maximum suppression: of boxes that overlap by more than `iou_threshold`, the best one stays.

    `iou_threshold`, `class_agnostic` (whether boxes of different classes suppress each other): defaults of
    options of the same names. `max_detections`: the places in the answer.

    Candidates -> `boxes` float32[batch, max_detections, 4] (x1, y1, x2, y2), `scores` float32[batch,
    max_detections] best first, `classes` int64, `count` int64[batch]; 0, 0 and -1 behind the last.
    """

    name: ClassVar[str] = "nms"
    iou_threshold: Share = 0.45
    class_agnostic: bool = False
    max_detections: Places = 300

    def compile(self, graph: Graph, tensors: dict[str, Value], labels: Sequence[str]) -> dict[str, Value]:
        text = "of two boxes that share more than this of their union, the better one stays"
        iou = graph.option(Option(IOU_THRESHOLD, "float32", self.iou_threshold, 0.0, 1.0, text))
        text = "whether boxes of different classes suppress each other"
        agnostic = graph.option(Option(CLASS_AGNOSTIC, "bool", self.class_agnostic, None, None, text))

        def suppress(box: str, score: str, kind: str) -> str:
            return _suppressed(graph, box, score, kind, iou, agnostic, self.max_detections)

        return _best(graph, tensors, self.name, self.max_detections, suppress)

    def reference(self, tensors: Tensors, labels: Sequence[str]) -> dict[str, Array]:
        def keep(box: Array, kind: Array) -> list[int]:
            group = np.zeros_like(kind) if self.class_agnostic else kind
            return _greedy(box, group, np.float32(self.iou_threshold), self.max_detections)

        return _reference_best(tensors, self.max_detections, keep)


class Best(PostStep, frozen=True, forbid_unknown_fields=True):
    """The `max_detections` best candidates, for heads that find an object once; the answer is as in `nms`."""

    name: ClassVar[str] = "best"
    max_detections: Places = 300

    def compile(self, graph: Graph, tensors: dict[str, Value], labels: Sequence[str]) -> dict[str, Value]:
        def everything(box: str, score: str, kind: str) -> str:
            return graph.op(
                "Range",
                graph.constant(0, "int64"),
                graph.op("Squeeze", graph.op("Shape", score)),
                graph.constant(1, "int64"),
            )

        return _best(graph, tensors, self.name, self.max_detections, everything)

    def reference(self, tensors: Tensors, labels: Sequence[str]) -> dict[str, Array]:
        return _reference_best(tensors, self.max_detections, lambda box, kind: list(range(len(box))))


def _best(
    graph: Graph, tensors: dict[str, Value], step: str, places: int, choose: Choose
) -> dict[str, Value]:
    """Each row's candidates, best first, those that `choose` keeps, in `places` places."""
    found = Candidates.of(tensors)
    if found is None:
        raise UsageError(f"{step} takes what a detection head makes; there is none before it")
    op, i64 = graph.op, partial(graph.constant, dtype="int64")

    def row(turn: str) -> Value:
        mine = op("Squeeze", op("NonZero", op("Equal", found.row, turn)), i64([0]))
        own = op("Gather", found.score, mine)
        score, order = graph.ops("TopK", own, op("Min", op("Shape", own), i64([MOST])), outputs=2)
        index = op("Gather", mine, order)
        box, kind = op("Gather", found.box, index), op("Gather", found.kind, index)
        kept = op("Slice", choose(box, score, kind), i64([0]), i64([places]))
        # What is behind the last is an entry of its own, behind all others.
        rest = op("Expand", op("Shape", score), op("Sub", i64([places]), op("Shape", kept)))
        filled = op("Concat", kept, rest, axis=0)
        lines = op(
            "Concat",
            box,
            op("Unsqueeze", score, i64([1])),
            op("Unsqueeze", graph.cast(kind, "float32"), i64([1])),
            axis=1,
        )
        last = graph.constant([[0, 0, 0, 0, 0, -1]], "float32")
        lines = op("Concat", lines, last, axis=0)
        return Value(op("Gather", lines, filled), "float32", (places, 6))

    lines = graph.repeat(found.batch, row)
    classes = graph.cast(column(graph, lines, 5, 2), "int64")
    used = graph.cast(op("GreaterOrEqual", classes, i64(0)), "int64")
    boxes = op("Slice", lines, i64([0]), i64([4]), i64([2]))
    rest = {name: value for name, value in tensors.items() if not name.startswith("(")}
    return rest | {
        BOXES: Value(boxes, "float32", ("batch", places, 4)),
        SCORES: Value(column(graph, lines, 4, 2), "float32", ("batch", places)),
        CLASSES: Value(classes, "int64", ("batch", places)),
        COUNT: Value(op("ReduceSum", used, i64([1]), keepdims=0), "int64", ("batch",)),
    }


def _suppressed(graph: Graph, box: str, score: str, kind: str, iou: str, agnostic: str, places: int) -> str:
    """The indices of the boxes that stay, in the order of the boxes, which is that of their scores."""
    op, i64 = graph.op, partial(graph.constant, dtype="int64")
    # One entry more, which never stays: the operator is not asked about no boxes at all.
    box = op("Concat", box, graph.constant([[0.0] * 4], "float32"), axis=0)
    score = op("Concat", score, graph.constant([-1.0], "float32"), axis=0)
    kind = op("Concat", kind, i64([0]), axis=0)
    group = op("Where", agnostic, i64(0), kind)
    groups = op("Range", i64(0), op("Add", op("ReduceMax", group, keepdims=0), i64(1)), i64(1))
    member = op("Equal", op("Unsqueeze", groups, i64([1])), op("Unsqueeze", group, i64([0])))
    scores = op("Where", member, score, graph.constant(-1.0, "float32"))
    chosen = op(
        "NonMaxSuppression",
        op("Unsqueeze", box, i64([0])),
        op("Unsqueeze", scores, i64([0])),
        i64([places]),
        op("Unsqueeze", iou, i64([0])),
        graph.constant([-0.5], "float32"),
    )
    index = column(graph, chosen, 2)
    none = op("Expand", i64([0]), op("Shape", score))
    marks = op("ScatterElements", none, index, op("Expand", i64([1]), op("Shape", index)))
    return op("Squeeze", op("NonZero", marks), i64([0]))


def _reference_best(tensors: Tensors, places: int, keep: Keep) -> dict[str, Array]:
    batch = int(tensors[BATCH])
    boxes = np.zeros((batch, places, 4), np.float32)
    scores = np.zeros((batch, places), np.float32)
    classes = np.full((batch, places), -1, np.int64)
    count = np.zeros(batch, np.int64)
    for row in range(batch):
        mine = np.flatnonzero(tensors[ROW] == row)
        mine = mine[np.argsort(-tensors[SCORE][mine], kind="stable")][:MOST]
        kept = mine[keep(tensors[BOX][mine], tensors[CLASS][mine])[:places]]
        count[row] = len(kept)
        boxes[row, : len(kept)] = tensors[BOX][kept]
        scores[row, : len(kept)] = tensors[SCORE][kept]
        classes[row, : len(kept)] = tensors[CLASS][kept]
    rest = {name: value for name, value in tensors.items() if not name.startswith("(")}
    return rest | {BOXES: boxes, SCORES: scores, CLASSES: classes, COUNT: count}


def _greedy(box: Array, group: Array, threshold: np.float32, places: int) -> list[int]:
    """The boxes that stay, best first; each suppresses what overlaps it in its group."""
    kept: list[int] = []
    standing = np.ones(len(box), bool)
    low, high = np.minimum(box[:, :2], box[:, 2:]), np.maximum(box[:, :2], box[:, 2:])
    with np.errstate(over="ignore", invalid="ignore"):
        area = np.prod(high - low, axis=1)
        for index in range(len(box)):
            if not standing[index]:
                continue
            kept.append(index)
            if len(kept) == places:
                break
            sides = np.minimum(high, high[index]) - np.maximum(low, low[index])
            shared = np.where((sides > 0).all(axis=1), sides[:, 0] * sides[:, 1], np.float32(0))
            union = area + area[index] - shared
            iou = np.divide(shared, union, out=np.zeros_like(shared), where=(shared > 0) & (union > 0))
            standing &= ~((iou > threshold) & (group == group[index]))
    return kept
