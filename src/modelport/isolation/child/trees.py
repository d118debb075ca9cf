"""Ensembles of decision trees as one ONNX node, compared in the precision that the framework compares in.

Each tree is arrays of one entry for each node; a leaf's `feature` is -1. A node sends a row to its `left`
where the value is at most (or below) the threshold, or is one of some categories.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import numpy_helper

from .frames import Array
from .onnx_writer import ML, Block, Writer

LEQ, LT, IN = "BRANCH_LEQ", "BRANCH_LT", "BRANCH_EQ"


@dataclass
class Tree:
    """One tree; the first node is its root."""

    feature: list[int] = field(default_factory=list)
    mode: list[str] = field(default_factory=list)
    threshold: list[float] = field(default_factory=list)
    left: list[int] = field(default_factory=list)
    right: list[int] = field(default_factory=list)
    missing_left: list[bool] = field(default_factory=list)
    value: list[float] = field(default_factory=list)
    """What a leaf adds."""

    def leaf(self, value: float) -> int:
        """A new leaf's index."""
        return self._add(-1, LEQ, 0.0, -1, -1, False, value)

    def split(self, feature: int, mode: str, threshold: float, missing_left: bool) -> int:
        """A new inner node's index; its branches are set afterwards."""
        return self._add(feature, mode, threshold, -1, -1, missing_left, 0.0)

    def branches(self, node: int, left: int, right: int) -> None:
        """Where a node leads to."""
        self.left[node], self.right[node] = left, right

    def one_of(self, feature: int, values: list[float], left: int, right: int) -> int:
        """A chain of comparisons: to `left` where the value is one of `values`; the first one's index.

        All of them share the branch `left`, which ONNX Runtime takes for membership of a set.
        """
        first = following = right
        for value in reversed(values):
            first = self.split(feature, IN, value, False)
            self.branches(first, left, following)
            following = first
        return first

    def _add(self, *entry: Any) -> int:
        columns = (
            self.feature,
            self.mode,
            self.threshold,
            self.left,
            self.right,
            self.missing_left,
            self.value,
        )
        for column, value in zip(columns, entry, strict=True):
            column.append(value)  # type: ignore[attr-defined]
        return len(self.feature) - 1

    def rooted(self, root: int) -> Tree:
        """The same tree with `root` as its first node, and without nodes that nothing leads to."""
        order: dict[int, int] = {}
        waiting = [root]
        while waiting:
            node = waiting.pop()
            if node in order:
                continue
            order[node] = len(order)
            if self.feature[node] >= 0:
                waiting += [self.right[node], self.left[node]]
        tree = Tree()
        for node in order:
            leaf = self.feature[node] < 0
            tree._add(
                self.feature[node],
                self.mode[node],
                self.threshold[node],
                -1 if leaf else order[self.left[node]],
                -1 if leaf else order[self.right[node]],
                self.missing_left[node],
                self.value[node],
            )
        return tree


def tree_sum(writer: Writer, rows: str, trees: list[Tree], targets: list[int], outputs: int) -> str:
    """The sum of the trees' leaves for each output -> the name of float32 [batch, outputs].

    Compared and summed in float64; the framework's precision is had by rounding `rows` to it beforehand.

    Args:
        writer: the graph.
        rows: the features, float64 [batch, columns].
        trees, targets: which output each tree adds to.
        outputs: how many there are.
    """
    places = [(number, node) for number, tree in enumerate(trees) for node in range(len(tree.feature))]
    leaves = [(number, node) for number, node in places if trees[number].feature[node] < 0]

    def of(name: str, which: list[tuple[int, int]]) -> list[Any]:
        return [getattr(trees[number], name)[node] for number, node in which]

    features = of("feature", places)
    modes = of("mode", places)
    attributes = {
        "n_targets": outputs,
        "aggregate_function": "SUM",
        "post_transform": "NONE",
        "nodes_treeids": [number for number, _ in places],
        "nodes_nodeids": [node for _, node in places],
        "nodes_featureids": [max(feature, 0) for feature in features],
        "nodes_modes": [mode if at >= 0 else "LEAF" for mode, at in zip(modes, features, strict=True)],
        "nodes_truenodeids": [max(node, 0) for node in of("left", places)],
        "nodes_falsenodeids": [max(node, 0) for node in of("right", places)],
        "nodes_missing_value_tracks_true": [int(left) for left in of("missing_left", places)],
        "target_treeids": [number for number, _ in leaves],
        "target_nodeids": [node for _, node in leaves],
        "target_ids": [targets[number] for number, _ in leaves],
        "nodes_values_as_tensor": _float64(of("threshold", places)),
        "target_weights_as_tensor": _float64(of("value", leaves)),
    }
    return writer.op("TreeEnsembleRegressor", rows, domain=ML, **attributes)


def _float64(values: list[float]) -> Any:
    return numpy_helper.from_array(np.asarray(values, np.float64))


def rounded(writer: Writer, block: Block) -> str:
    """A block's numbers as float32 has them, in float64: for frameworks that compare in float32."""
    return writer.cast(writer.cast(block.name, "float32"), "float64")


def leaf_values(writer: Writer, rows: str, trees: list[Tree], tables: list[Array]) -> str:
    """What the reached leaves hold, summed over the trees -> the name of float64 [batch, outputs].

    ONNX's node sums in what its output has room for, float32; here it tells the leaves, and the sum is
    computed behind it.

    Args:
        writer: the graph.
        rows: the features, float64 [batch, columns].
        trees: their leaves' `value` is the leaf's row in its table.
        tables: float64 [leaves, outputs] for each tree.
    """
    start = np.cumsum([0, *(len(table) for table in tables[:-1])])
    if max(len(table) for table in tables) >= 1 << 24:
        raise ValueError("a tree with more than 16 million leaves")
    found = tree_sum(writer, rows, trees, list(range(len(trees))), len(trees))
    places = writer.op("Add", writer.cast(found, "int64"), writer.constant(start.reshape(1, -1), "int64"))
    held = writer.op("Gather", writer.constant(np.concatenate(tables)), places, axis=0)
    return writer.op("ReduceSum", held, writer.constant([1], "int64"), keepdims=0)
