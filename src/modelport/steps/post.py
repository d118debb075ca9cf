"""Steps from raw outputs to an answer: probabilities, the best classes, their names.

Ranks are taken from the logits wherever a softmax or sigmoid came before: `exp` differs in its last bit
from machine to machine, and two near-equal scores must not swap places because of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, TypeVar

import msgspec
import numpy as np

from ..errors import UsageError
from ..tensors import Array, Tensors
from .graph import Graph, Value
from .step import PostStep

LOGITS = "(logits)"
"""The tensor that `softmax` and `sigmoid` leave for `top_k` to rank by; no answer holds it."""

T = TypeVar("T")


class Squeeze(PostStep, frozen=True, forbid_unknown_fields=True):
    """Axes of size 1 behind the batch are dropped: [batch, classes, 1, 1] -> [batch, classes].

    `of`: the name of the network's output; nothing where it has only one. The name stays.
    """

    name: ClassVar[str] = "squeeze"
    of: str | None = None

    def compile(self, graph: Graph, tensors: dict[str, Value], labels: Sequence[str]) -> dict[str, Value]:
        source, x = _pick(self.name, self.of, tensors)
        axes = [axis for axis, side in enumerate(x.shape) if axis and side == 1]
        shape = tuple(side for axis, side in enumerate(x.shape) if axis not in axes)
        if not axes:
            return tensors
        return tensors | {
            source: Value(graph.op("Squeeze", x.name, graph.constant(axes, "int64")), x.dtype, shape)
        }

    def reference(self, tensors: Tensors, labels: Sequence[str]) -> dict[str, Array]:
        source, x = _picked(self.of, tensors)
        kept = [side for axis, side in enumerate(x.shape) if axis == 0 or side != 1]
        return dict(tensors) | {source: x.reshape(kept)}


class Softmax(PostStep, frozen=True, forbid_unknown_fields=True):
    """exp(x) / sum(exp(x)) over the last axis -> `scores`, in place of the output it is made of.

    `of`: the name of the network's output; nothing where it has only one. float32 [batch, classes].
    """

    name: ClassVar[str] = "softmax"
    of: str | None = None

    def compile(self, graph: Graph, tensors: dict[str, Value], labels: Sequence[str]) -> dict[str, Value]:
        source, x = _pick(self.name, self.of, tensors)
        scores = graph.op("Softmax", _float32(graph, x), axis=-1)
        return _scored(tensors, source, x, Value(scores, "float32", x.shape))

    def reference(self, tensors: Tensors, labels: Sequence[str]) -> dict[str, Array]:
        source, x = _picked(self.of, tensors)
        logits = x.astype(np.float32)
        powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
        return _scored(tensors, source, x, powers / powers.sum(axis=-1, keepdims=True))


class Sigmoid(PostStep, frozen=True, forbid_unknown_fields=True):
    """1 / (1 + exp(-x)) of every element -> `scores`, in place of the output it is made of.

    `of`: the name of the network's output; nothing where it has only one. float32 [batch, classes].
    """

    name: ClassVar[str] = "sigmoid"
    of: str | None = None

    def compile(self, graph: Graph, tensors: dict[str, Value], labels: Sequence[str]) -> dict[str, Value]:
        source, x = _pick(self.name, self.of, tensors)
        scores = graph.op("Sigmoid", _float32(graph, x))
        return _scored(tensors, source, x, Value(scores, "float32", x.shape))

    def reference(self, tensors: Tensors, labels: Sequence[str]) -> dict[str, Array]:
        source, x = _picked(self.of, tensors)
        small = np.exp(-np.abs(x.astype(np.float32)))  # never overflows
        return _scored(tensors, source, x, np.where(x >= 0, 1 / (1 + small), small / (1 + small)))


class TopK(PostStep, frozen=True, forbid_unknown_fields=True):
    """The `k` best classes, best first -> `scores` float32 [batch, k], `indices` int64 [batch, k].

    `k`: how many, at most the number of classes; 0 for all. Of equal values the lower index comes first;
    after `softmax` or `sigmoid` the order is that of the logits. `of`: the output to rank where no
    `scores` came before; nothing where there is only one.
    """

    name: ClassVar[str] = "top_k"
    k: Annotated[int, msgspec.Meta(ge=0)] = 0
    of: str | None = None

    def compile(self, graph: Graph, tensors: dict[str, Value], labels: Sequence[str]) -> dict[str, Value]:
        source, scores = _pick(self.name, _scores_or(self.of, tensors), tensors)
        rank = tensors.get(LOGITS, scores) if source == "scores" else scores
        classes = scores.shape[-1]
        if not isinstance(classes, int):
            raise UsageError(f"top_k needs a known number of classes; {source!r} has {classes!r} of them")
        if labels and len(labels) != classes:
            raise UsageError(f"{len(labels)} labels for {classes} classes in {source!r}")
        k = min(self.k or classes, classes)
        _, indices = graph.ops("TopK", rank.name, graph.constant([k], "int64"), outputs=2, axis=-1)
        best = graph.op("GatherElements", _float32(graph, scores), indices, axis=-1)
        shape = (*scores.shape[:-1], k)
        rest = {name: value for name, value in tensors.items() if name not in (source, LOGITS)}
        return rest | {
            "scores": Value(best, "float32", shape),
            "indices": Value(indices, "int64", shape),
        }

    def reference(self, tensors: Tensors, labels: Sequence[str]) -> dict[str, Array]:
        source, scores = _picked(_scores_or(self.of, tensors), tensors)
        rank = tensors.get(LOGITS, scores) if source == "scores" else scores
        k = min(self.k or scores.shape[-1], scores.shape[-1])
        indices = np.argsort(-rank, axis=-1, kind="stable")[..., :k]
        rest = {name: value for name, value in tensors.items() if name not in (source, LOGITS)}
        return rest | {
            "scores": np.take_along_axis(scores, indices, axis=-1).astype(np.float32),
            "indices": indices.astype(np.int64),
        }


class Labels(PostStep, frozen=True, forbid_unknown_fields=True):
    """The names of the classes in `indices` or `classes` -> `labels` string [batch, k]; comes after `top_k`
    or `nms`. A class of -1, where there is no object, has the empty name.

    No parameters: the names are the bundle's labels, one line for each class.
    """

    name: ClassVar[str] = "labels"

    def compile(self, graph: Graph, tensors: dict[str, Value], labels: Sequence[str]) -> dict[str, Value]:
        if not labels:
            raise UsageError(
                "labels needs class names, there are none", hint="--labels FILE, or drop the step"
            )
        indices = tensors.get("indices", tensors.get("classes"))
        if indices is None:
            raise UsageError(
                "labels names the classes in `indices` or `classes`; there are none",
                hint="`top_k` and `nms` make them",
            )
        # ONNX counts negative indices from the end, so that -1 is the empty name there.
        known = [*labels, ""] if "classes" in tensors else list(labels)
        names = graph.op("Gather", graph.constant(known, "string"), indices.name)
        return tensors | {"labels": Value(names, "string", indices.shape)}

    def reference(self, tensors: Tensors, labels: Sequence[str]) -> dict[str, Array]:
        indices = tensors["indices"] if "indices" in tensors else tensors["classes"]
        return dict(tensors) | {"labels": np.array([*labels, ""], dtype=object)[indices]}


def _pick(step: str, of: str | None, tensors: dict[str, Value]) -> tuple[str, Value]:
    """The float tensor [batch, …, classes] that `step` works on, with its name."""
    names = [name for name in tensors if name != LOGITS]
    if of is None and len(names) != 1:
        raise UsageError(f"{step} must say `of` which output: {', '.join(names)}")
    of = names[0] if of is None else of
    if of not in tensors:
        raise UsageError(f"{step}: there is no output {of!r}; there are {', '.join(names)}")
    x = tensors[of]
    if x.dtype not in ("float32", "float16", "float64") or len(x.shape) < 2:
        raise UsageError(f"{step} takes float [batch, classes]; {of!r} is {x.dtype}{list(x.shape)}")
    return of, x


def _picked(of: str | None, tensors: Tensors) -> tuple[str, Array]:
    name = next(name for name in tensors if name != LOGITS) if of is None else of
    return name, tensors[name]


def _scores_or(of: str | None, tensors: Mapping[str, object]) -> str | None:
    return "scores" if of is None and "scores" in tensors else of


def _scored(tensors: Mapping[str, T], source: str, logits: T, scores: T) -> dict[str, T]:
    rest = {name: value for name, value in tensors.items() if name not in (source, LOGITS)}
    return rest | {"scores": scores, LOGITS: logits}


def _float32(graph: Graph, x: Value) -> str:
    return x.name if x.dtype == "float32" else graph.cast(x.name, "float32")
