"""Preparing many rows of a table at once, with the bytes of the compiled graph, which takes one.

The graph is the truth: of the first calls a row goes through both, and one difference ends the lowering.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import numpy as np

from ..bundle.manifest import Manifest
from ..tensors import Array, Tensors
from .compile import reference_table
from .step import PreStep

TRIALS = 16
"""Rows that are prepared by both."""

log = logging.getLogger("modelport.steps")


class TableLowering:
    """The steps of a table in native code, for many rows at once."""

    def __init__(self, manifest: Manifest, steps: Sequence[PreStep]) -> None:
        self._columns = manifest.columns
        self._steps = tuple(steps)
        self._inputs = manifest.graphs.net.signature.inputs
        self._outputs = manifest.graphs.pre.signature.outputs
        self._left = TRIALS
        self._differs = False

    def prepare(self, rows: Tensors, graph: Callable[[Tensors], dict[str, Array]]) -> dict[str, Array]:
        """A batch for the network.

        Args:
            rows: `[rows, 1]` for each column.
            graph: runs the compiled graph on one row.
        """
        count = len(next(iter(rows.values())))
        if self._differs or len(self._inputs) != len(self._outputs):
            return self._by_graph(rows, count, graph)
        made = reference_table(self._columns, self._steps, self._inputs, rows)
        for row in range(min(count, self._left)):
            self._left -= 1
            expected = graph({name: array[row] for name, array in rows.items()})
            if any(not _same(expected[name], made[name][row]) for name in made):
                self._differs = True
                log.warning("native code here prepares rows otherwise than the graph")
                return self._by_graph(rows, count, graph)
        return made

    def _by_graph(
        self, rows: Tensors, count: int, graph: Callable[[Tensors], dict[str, Array]]
    ) -> dict[str, Array]:
        items = [graph({name: array[row] for name, array in rows.items()}) for row in range(count)]
        return {name: np.stack([item[name] for item in items]) for name in items[0]}


def _same(expected: Array, got: Array) -> bool:
    if expected.dtype.kind in "OUS":
        return expected.shape == got.shape and expected.ravel().tolist() == got.ravel().tolist()
    return expected.dtype == got.dtype and np.array_equal(expected, got, equal_nan=expected.dtype.kind == "f")
