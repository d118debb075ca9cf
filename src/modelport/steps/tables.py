"""Steps after a network that answers rows: both classes of one probability, and a predicted number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, TypeVar

import numpy as np

from ..errors import UsageError
from ..tensors import Array, Tensors
from .graph import Graph, Value
from .step import PostStep

T = TypeVar("T")

_NUMBERS = ("float16", "float32", "float64", "int32", "int64")


class Binary(PostStep, frozen=True, forbid_unknown_fields=True):
    """One probability of "yes" -> two `scores`, "no" and "yes": [batch] or [batch, 1] -> float32 [batch, 2].

    `of`: the name of the network's output, or `scores` after `sigmoid`; nothing where there is only one.
    """

    name: ClassVar[str] = "binary"
    of: str | None = None

    def compile(self, graph: Graph, tensors: dict[str, Value], labels: Sequence[str]) -> dict[str, Value]:
        source = _source(self.name, self.of, tensors)
        x = tensors[source]
        if x.dtype not in ("float16", "float32", "float64") or x.shape[1:] not in ((), (1,)):
            raise UsageError(
                f"binary takes one probability for each row; {source!r} is {x.dtype}{list(x.shape)}"
            )
        yes = _column(graph, x, "float32")
        no = graph.op("Sub", graph.constant(1.0, "float32"), yes)
        return _without(tensors, source) | {
            "scores": Value(graph.op("Concat", no, yes, axis=1), "float32", (x.shape[0], 2))
        }

    def reference(self, tensors: Tensors, labels: Sequence[str]) -> dict[str, Array]:
        source = _source(self.name, self.of, tensors)
        yes = tensors[source].astype(np.float32).reshape(-1, 1)
        return _without(tensors, source) | {"scores": np.concatenate([np.float32(1) - yes, yes], axis=1)}


class Predicted(PostStep, frozen=True, forbid_unknown_fields=True):
    """A predicted number: [batch] or [batch, 1] -> `value` float32 [batch]; [batch, k] -> [batch, k].

    `of`: the name of the network's output; nothing where it has only one. `scale`, `offset`: `value` is the
    output times `scale` plus `offset`, in float32, where the network was trained on another scale.
    """

    name: ClassVar[str] = "predicted"
    of: str | None = None
    scale: float = 1.0
    offset: float = 0.0

    def __post_init__(self) -> None:
        if not all(np.isfinite(np.float32(number)) for number in (self.scale, self.offset)) or not self.scale:
            raise ValueError("scale and offset must be finite float32 numbers, and scale not 0")

    def compile(self, graph: Graph, tensors: dict[str, Value], labels: Sequence[str]) -> dict[str, Value]:
        source = _source(self.name, self.of, tensors)
        x = tensors[source]
        if x.dtype not in _NUMBERS or len(x.shape) not in (1, 2):
            raise UsageError(
                f"predicted takes a number or some for each row; {source!r} is {x.dtype}{list(x.shape)}"
            )
        value = x.name if x.dtype == "float32" else graph.cast(x.name, "float32")
        shape = x.shape
        if shape[1:] == (1,):
            value, shape = graph.op("Squeeze", value, graph.constant([1], "int64")), shape[:1]
        if self.scale != 1.0:
            value = graph.op("Mul", value, graph.constant(self.scale, "float32"))
        if self.offset:
            value = graph.op("Add", value, graph.constant(self.offset, "float32"))
        return _without(tensors, source) | {"value": Value(value, "float32", shape)}

    def reference(self, tensors: Tensors, labels: Sequence[str]) -> dict[str, Array]:
        source = _source(self.name, self.of, tensors)
        value = tensors[source].astype(np.float32)
        value = value[:, 0] if value.shape[1:] == (1,) else value
        scaled = value * np.float32(self.scale) if self.scale != 1.0 else value
        made = scaled + np.float32(self.offset) if self.offset else scaled
        return _without(tensors, source) | {"value": np.asarray(made)}


class Drop(PostStep, frozen=True, forbid_unknown_fields=True):
    """An output that the answer does not need, such as a label beside the probabilities.

    `of`: the name of the network's output.
    """

    name: ClassVar[str] = "drop"
    of: str

    def compile(self, graph: Graph, tensors: dict[str, Value], labels: Sequence[str]) -> dict[str, Value]:
        rest = {name: value for name, value in tensors.items() if name != self.of}
        if len(rest) == len(tensors):
            raise UsageError(f"drop: there is no output {self.of!r}; there are {', '.join(tensors)}")
        return rest

    def reference(self, tensors: Tensors, labels: Sequence[str]) -> dict[str, Array]:
        return {name: value for name, value in tensors.items() if name != self.of}


def _column(graph: Graph, x: Value, dtype: str) -> str:
    value = x.name if x.dtype == dtype else graph.cast(x.name, dtype)
    return value if len(x.shape) == 2 else graph.op("Unsqueeze", value, graph.constant([1], "int64"))


def _source(step: str, of: str | None, tensors: Mapping[str, object]) -> str:
    """The tensor that a step works on: the one that is named, or the scores, or the only one."""
    names = [name for name in tensors if not name.startswith("(")]
    if of is None and "scores" in names:
        return "scores"
    if of is None and len(names) != 1:
        raise UsageError(f"{step} must say `of` which output: {', '.join(names)}")
    if of is not None and of not in names:
        raise UsageError(f"{step}: there is no output {of!r}; there are {', '.join(names)}")
    return of or names[0]


def _without(tensors: Mapping[str, T], source: str) -> dict[str, T]:
    # What a sigmoid left to rank by has one column, and there are two scores now.
    return {name: value for name, value in tensors.items() if name not in (source, "(logits)")}
