"""Between numbers and the whole numbers of a quantised network, as ONNX's own operators compute them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np

from ..errors import UsageError
from ..tensors import Array, Tensors, numpy_dtype
from .graph import Graph, Value
from .step import PostStep, PreStep

WHOLE = ("uint8", "int8")


class Quantize(PreStep, frozen=True, forbid_unknown_fields=True):
    """float32(x) / `scale`, rounded to the nearest whole number (halves to the even one), + `zero_point`, and
    no more or less than `to` holds (QuantizeLinear). uint8 or float32, any shape -> `to`, the same shape.

    `scale`, `zero_point`: those of the network's input. `to`: "int8" or "uint8".
    """

    name: ClassVar[str] = "quantize"
    scale: float
    zero_point: int = 0
    to: Literal["int8", "uint8"] = "int8"

    def __post_init__(self) -> None:
        _check(self.scale, self.zero_point, self.to)

    def compile(self, graph: Graph, x: Value) -> Value:
        if x.dtype not in ("uint8", "float32"):
            raise UsageError(f"quantize takes uint8 or float32, got {x.dtype}")
        value = x.name if x.dtype == "float32" else graph.cast(x.name, "float32")
        scale, zero = graph.constant(self.scale, "float32"), graph.constant(self.zero_point, self.to)
        return Value(graph.op("QuantizeLinear", value, scale, zero), self.to, x.shape)

    def reference(self, x: Array) -> Array:
        kind = numpy_dtype(self.to)
        limits = np.iinfo(kind)
        steps = np.rint(x.astype(np.float32) / np.float32(self.scale)) + np.float32(self.zero_point)
        whole: Array = np.clip(steps, limits.min, limits.max).astype(kind)
        return whole


class Dequantize(PostStep, frozen=True, forbid_unknown_fields=True):
    """What whole numbers stand for: (x - `zero_point`) * `scale` (DequantizeLinear); the name stays.

    `of`: the name of the network's output; nothing where it has only one. `scale`, `zero_point`: those of
    that output. uint8 or int8, any shape -> float32, the same shape.
    """

    name: ClassVar[str] = "dequantize"
    scale: float
    zero_point: int = 0
    of: str | None = None

    def __post_init__(self) -> None:
        _check(self.scale, self.zero_point, "")

    def compile(self, graph: Graph, tensors: dict[str, Value], labels: Sequence[str]) -> dict[str, Value]:
        source = _named(self.of, list(tensors))
        x = tensors[source]
        if x.dtype not in WHOLE:
            raise UsageError(f"dequantize takes uint8 or int8; {source!r} is {x.dtype}")
        _check(self.scale, self.zero_point, x.dtype)
        scale, zero = graph.constant(self.scale, "float32"), graph.constant(self.zero_point, x.dtype)
        return tensors | {
            source: Value(graph.op("DequantizeLinear", x.name, scale, zero), "float32", x.shape)
        }

    def reference(self, tensors: Tensors, labels: Sequence[str]) -> dict[str, Array]:
        source = _named(self.of, list(tensors))
        whole = tensors[source].astype(np.int32) - self.zero_point
        return dict(tensors) | {source: whole.astype(np.float32) * np.float32(self.scale)}


def _check(scale: float, zero_point: int, dtype: str) -> None:
    if not 0 < scale < float("inf"):
        raise ValueError(f"`scale` must be above 0, got {scale}")
    low, high = (np.iinfo(numpy_dtype(dtype)).min, np.iinfo(numpy_dtype(dtype)).max) if dtype else (-128, 255)
    if not low <= zero_point <= high:
        raise ValueError(f"`zero_point` must be {low} to {high}, got {zero_point}")


def _named(of: str | None, names: list[str]) -> str:
    if of is None and len(names) != 1:
        raise UsageError(f"dequantize must say `of` which output: {', '.join(names)}")
    if of is not None and of not in names:
        raise UsageError(f"dequantize: there is no output {of!r}; there are {', '.join(names)}")
    return names[0] if of is None else of
