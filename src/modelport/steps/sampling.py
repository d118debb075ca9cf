"""What the resize kernels share: the sides of a resize, loops over turns, and rounding to bytes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import msgspec

from .graph import Graph, Value

TURN = 160_000
"""Numbers made in one turn of a loop: measured best of 30, 60, 120, 250 and 500 thousand."""

TIE_UP = 1.0 + 2.0**-23
"""The float32 after 1. A factor of it lifts exact ties over the half and moves nothing else across."""


class Side(msgspec.Struct, frozen=True):
    """One axis of a resize. `source`, `target`, `first` and `kept` name int64[1] tensors.

    The axis goes from `source` to `target` pixels, and of those only `kept`, from `first` on, are made
    (all of them where `first` is None). `length` is the result's size for `Value.shape`.
    """

    source: str
    target: str
    length: int | str
    first: str | None = None
    kept: str | None = None

    @property
    def count(self) -> str:
        """The number of pixels that are made: int64[1]."""
        return self.target if self.kept is None else self.kept


def outputs(graph: Graph, side: Side, block: int) -> str:
    """The output positions to make, int64, their number rounded up to whole blocks by repeating the last."""
    op, i64 = graph.op, partial(graph.constant, dtype="int64")
    blocks = op("Div", op("Add", side.count, i64([block - 1])), i64([block]))
    length = op("Squeeze", op("Mul", blocks, i64([block])))
    outputs = op("Min", op("Range", i64(0), length, i64(1)), op("Sub", side.count, i64([1])))
    return outputs if side.first is None else op("Add", outputs, side.first)


def by_turns(graph: Graph, count: str, each: str, make: Callable[[str], Value]) -> str:
    """What `make` makes of items 0 … `count`, in turns that keep its tensors in the processor's cache.

    An item makes about `each` numbers; both are int64[1]. `make` gets the items of a turn, int64[n]; the
    last turn repeats the last item until it is full. Measured, this takes a quarter to a third off.
    """
    op, i64 = graph.op, partial(graph.constant, dtype="int64")
    most = op("Max", op("Div", i64([TURN]), each), i64([1]))
    turns = _ceil_div(graph, count, most)
    size = _ceil_div(graph, count, turns)
    items = op("Range", i64(0), op("Squeeze", size), i64(1))
    last = op("Sub", count, i64([1]))
    return graph.repeat(
        op("Squeeze", turns),
        lambda turn: make(op("Min", op("Add", op("Mul", turn, size), items), last)),
    )


def _ceil_div(graph: Graph, a: str, b: str) -> str:
    return graph.op("Div", graph.op("Sub", graph.op("Add", a, b), graph.constant([1], "int64")), b)


def first_rows(graph: Graph, pixels: str, row_shape: str, count: str) -> str:
    """The first `count` rows of `pixels`, whatever its shape, as rows of `row_shape`; int64 vectors."""
    i64 = partial(graph.constant, dtype="int64")
    rows = graph.op("Reshape", pixels, graph.op("Concat", i64([-1]), row_shape, axis=0))
    return graph.op("Slice", rows, i64([0]), count, i64([0]))


def to_uint8(graph: Graph, x: str) -> str:
    """float32 -> uint8, rounded and saturated."""
    return graph.op("QuantizeLinear", x, graph.constant(1.0, "float32"), graph.constant(0, "uint8"))
