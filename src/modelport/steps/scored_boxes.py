"""The head of networks that give boxes and scores as two outputs: SSD and its kin, DETR and its kin."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import product
from typing import Annotated, ClassVar, Literal

import msgspec
import numpy as np

from ..errors import UsageError
from ..tensors import Array, Tensors, TensorSpec
from . import candidates
from .candidates import by_class, column, corners, over, reference_corners
from .graph import Graph, Value
from .heads import CARRIED, Head, largest, part, past
from .image import Size, both_sides

Positive = Annotated[float, msgspec.Meta(gt=0)]
Stride = Annotated[int, msgspec.Meta(ge=1, le=1024)]


class Priors(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The boxes that a network's own are told from: for each stride, squares of `sizes` pixels in every cell.

    center = prior's + `center_variance` * raw * prior's side; side = prior's * exp(`size_variance` * raw).
    """

    size: Size
    strides: tuple[Stride, ...]
    sizes: tuple[tuple[Positive, ...], ...]
    center_variance: Positive = 0.1
    size_variance: Positive = 0.2

    def __post_init__(self) -> None:
        both_sides(self.size)
        if len(self.strides) != len(self.sizes):
            raise ValueError("as many lists of `sizes` as `strides` are needed")

    def boxes(self) -> Array:
        """center x, center y, width, height of each as shares of the picture, at most 1: float32[n, 4]."""
        height, width = both_sides(self.size)
        made: list[tuple[float, float, float, float]] = []
        for stride, sides in zip(self.strides, self.sizes, strict=True):
            rows, columns = -(-height // stride), -(-width // stride)
            for row, col, side in product(range(rows), range(columns), sides):
                x, y = (col + 0.5) * stride / width, (row + 0.5) * stride / height
                made.append((x, y, side / width, side / height))
        return np.asarray(np.clip(made, 0, 1), np.float32)


_ULTRAFACE = (8, 16, 32, 64), ((10.0, 16.0, 24.0), (32.0, 48.0), (64.0, 96.0), (128.0, 192.0, 256.0))
KNOWN = {
    "ultraface-320": Priors((240, 320), *_ULTRAFACE),
    "ultraface-640": Priors((480, 640), *_ULTRAFACE),
}
"""Those of detectors that are well known."""


class ScoredBoxes(Head, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Boxes [batch, n, 4] in one output, scores or logits [batch, n, classes] in another.

    `boxes`, `scores`: the names of the outputs; nothing where the last axes tell (4, and another number).
    `form`: "corners" (x1, y1, x2, y2) or "center" (center x, center y, width, height).
    `activation`: what makes scores of the network's numbers: "none", "softmax" or "sigmoid".
    `background`: the class that is no object: "none", "first" or "last". `priors`: what raw boxes are told
    from: {size, strides, sizes, center_variance, size_variance}, or the name of known
    ones, "ultraface-320" or "ultraface-640"; nothing where boxes are decoded already.
    """

    name: ClassVar[str] = "scored_boxes"
    boxes: str | None = None
    scores: str | None = None
    form: Literal["corners", "center"] = "corners"
    activation: Literal["none", "softmax", "sigmoid"] = "none"
    background: Literal["none", "first", "last"] = "none"
    priors: Priors | Literal["ultraface-320", "ultraface-640"] | None = None

    def classes(self, outputs: Sequence[TensorSpec]) -> int | None:
        try:
            _, scores = self._outputs({spec.name: spec.shape for spec in outputs})
        except UsageError:
            return None
        width = {spec.name: spec.shape for spec in outputs}[scores][2]
        return width - (self.background != "none") if isinstance(width, int) else None

    def compile(self, graph: Graph, tensors: dict[str, Value], labels: Sequence[str]) -> dict[str, Value]:
        op, i64 = graph.op, partial(graph.constant, dtype="int64")
        boxes, scores = self._outputs({name: value.shape for name, value in tensors.items()})
        for name in (boxes, scores):
            if tensors[name].dtype != "float32":
                raise UsageError(f"{self.name} takes float32; {name!r} is {tensors[name].dtype}")
        threshold, multi = self.options(graph)
        made = scores
        if self.activation == "softmax":
            made = op("Softmax", made, axis=2)
        elif self.activation == "sigmoid":
            made = op("Sigmoid", made)
        first, end = int(self.background == "first"), -1 if self.background == "last" else 1 << 31
        made = part(graph, made, first, end, axis=2)
        place = over(graph, op("ReduceMax", made, i64([2]), keepdims=0), threshold)
        lines = op("GatherND", boxes, place)
        if self.priors is not None:
            lines = self._decoded(graph, tensors[boxes], lines, column(graph, place, 1))
        if self.form == "center" or self.priors is not None:
            lines = corners(graph, lines)
        row, kinds = column(graph, place, 0), op("GatherND", made, place)
        batch = candidates.batch_of(graph, boxes)
        return past(tensors) | by_class(graph, row, lines, kinds, threshold, multi, batch).tensors()

    def reference(self, tensors: Tensors, labels: Sequence[str]) -> dict[str, Array]:
        boxes, scores = self._outputs({name: array.shape for name, array in tensors.items()})
        made = tensors[scores]
        with np.errstate(all="ignore"):
            if self.activation == "softmax":
                made = np.exp(made - made.max(axis=2, keepdims=True))
                made = made / made.sum(axis=2, keepdims=True)
            elif self.activation == "sigmoid":
                made = (1 / (1 + np.exp(-made))).astype(np.float32)
        made = made[:, :, int(self.background == "first") : -1 if self.background == "last" else None]
        row, place = np.nonzero(largest(made, axis=2) > np.float32(self.score_threshold))
        lines = tensors[boxes][row, place]
        if self.priors is not None:
            priors = self._known()
            prior = priors.boxes()[place]
            with np.errstate(over="ignore", invalid="ignore"):
                middle = lines[:, :2] * np.float32(priors.center_variance) * prior[:, 2:] + prior[:, :2]
                sides = np.exp(lines[:, 2:] * np.float32(priors.size_variance)) * prior[:, 2:]
            lines = np.concatenate([middle, sides], axis=1)
        if self.form == "center" or self.priors is not None:
            lines = reference_corners(lines)
        return past(tensors) | self.found(row, lines, made[row, place], len(made))

    def _decoded(self, graph: Graph, raw: Value, lines: str, index: str) -> str:
        op, f32 = graph.op, partial(graph.constant, dtype="float32")
        known = self._known()
        priors = known.boxes()
        if isinstance(raw.shape[1], int) and raw.shape[1] != len(priors):
            raise UsageError(f"there are {len(priors)} priors; {raw.name!r} has {raw.shape[1]} boxes")
        prior = op("Gather", graph.constant(priors, "float32"), index)
        side = part(graph, prior, 2, 4)
        off = op("Mul", part(graph, lines, 0, 2), f32(known.center_variance))
        middle = op("Add", op("Mul", off, side), part(graph, prior, 0, 2))
        grown = op("Exp", op("Mul", part(graph, lines, 2, 4), f32(known.size_variance)))
        return op("Concat", middle, op("Mul", grown, side), axis=1)

    def _known(self) -> Priors:
        assert self.priors is not None
        return KNOWN[self.priors] if isinstance(self.priors, str) else self.priors

    def _outputs(self, shapes: dict[str, tuple[int | str, ...]]) -> tuple[str, str]:
        """The names of boxes and scores.

        Raises:
            UsageError: they cannot be told.
        """
        three = {name: shape for name, shape in shapes.items() if len(shape) == 3}
        shown = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items() if name != CARRIED)
        for name in (self.boxes, self.scores):
            if name is not None and name not in three:
                raise UsageError(f"{self.name}: no output {name!r} of three axes; there are {shown}")
        others = {name: shape for name, shape in three.items() if name not in (self.boxes, self.scores)}
        boxes = [self.boxes] if self.boxes else [name for name in others if others[name][2] == 4]
        scores = [self.scores] if self.scores else [name for name in others if name not in boxes]
        if len(boxes) != 1 or len(scores) != 1 or boxes[0] is None or scores[0] is None:
            raise UsageError(
                f"{self.name} needs boxes [batch, n, 4] and scores [batch, n, classes]; there are {shown}",
                hint="say which they are: --set boxes=NAME --set scores=NAME"
                + ("" if len(three) > 1 else "; without two such outputs, leave --recipe out"),
            )
        return boxes[0], scores[0]
