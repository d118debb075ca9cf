"""Prepared items side by side in memory, as the network takes them: a batch that need not be stacked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..tensors import Array, Tensors


class Slots:
    """A slot for each item of a job, in one array for each tensor.

    The first item says the shapes. What is made natively is written to its slot at once; what the graph made
    is copied there; items of other shapes stay where they are.

    Args:
        count: of items.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._arrays: dict[str, Array] = {}
        self._inside = [False] * count

    def of(self, item: int) -> dict[str, Array]:
        """The arrays of one item; none where the shapes are not known yet."""
        return {name: array[item, ...] for name, array in self._arrays.items()}

    def put(self, item: int, prepared: Tensors) -> None:
        """Take a prepared item, which lies in its slot already or is copied there."""
        if self._count == 1:
            return
        if not self._arrays:
            try:
                self._arrays = {
                    name: np.empty((self._count, *array.shape), array.dtype)
                    for name, array in prepared.items()
                }
            except MemoryError:  # all as large as the first would be too much; they may not be
                self._count = 1
                return
        slot = self.of(item)
        if slot.keys() != prepared.keys() or any(
            slot[name].shape != array.shape or slot[name].dtype != array.dtype
            for name, array in prepared.items()
        ):
            return
        for name, array in prepared.items():
            if not np.may_share_memory(slot[name], array):
                slot[name][...] = array
        self._inside[item] = True

    def batch(self, rows: Sequence[Tensors], first: int) -> dict[str, Array]:
        """Neighbouring items of one shape, from `first` on, with the axis of the batch in front."""
        if len(rows) == 1:
            return {name: array[None] for name, array in rows[0].items()}
        last = first + len(rows)
        if all(self._inside[first:last]):
            return {name: array[first:last] for name, array in self._arrays.items()}
        return {name: np.stack([row[name] for row in rows]) for name in rows[0]}
