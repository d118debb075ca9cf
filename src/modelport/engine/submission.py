"""One request's part in the engine: what goes in, and what comes back."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from ..tensors import Array
from .arena import Slot
from .cost import CostModel
from .wire import Group, Kind, OutHead, TensorHead, unpack_tensor

log = logging.getLogger("modelport.engine")


class Lane:
    """Submissions that may run together: one kind of work on tensors of one shape."""

    __slots__ = ("cost", "kind", "tensors")

    def __init__(self, kind: Kind, tensors: tuple[TensorHead, ...], cost: CostModel) -> None:
        self.kind: Kind = kind
        self.tensors = tensors
        self.cost = cost


Done = Callable[["Result | Exception"], None]


class Submission:
    """Rows that wait for an executor. Setting `cancelled` drops them, if they have not begun.

    Args:
        lane: what they may run with.
        rows: how many; 1 for an item.
        data: the bytes of each tensor of the lane (of the one encoded file).
        slot: the arena's slot in which all of `data` lies, released when the submission is settled.
        deadline: when the caller stops waiting, on `time.monotonic`'s clock.
        done: called once on the event loop.
    """

    __slots__ = (
        "alone",
        "arrived",
        "attempts",
        "cancelled",
        "data",
        "deadline",
        "done",
        "estimate",
        "lane",
        "rows",
        "slot",
        "started",
        "starts",
    )

    def __init__(
        self,
        lane: Lane,
        rows: int,
        data: Sequence[Any],
        done: Done,
        *,
        deadline: float,
        slot: Slot | None = None,
        starts: Sequence[int] = (),
    ) -> None:
        self.lane = lane
        self.rows = rows
        self.data = data
        self.done = done
        self.deadline = deadline
        self.slot = slot
        self.starts = starts
        """Where in the slot each of `data` begins."""
        self.arrived = time.monotonic()
        self.started = 0.0
        self.cancelled = False
        self.attempts = 0
        self.alone = False
        self.estimate = 0.0

    def settle(self, result: Result | Exception) -> None:
        """Tell the caller, unless it went away, and give the memory back."""
        if self.slot is not None:
            self.slot.release()
            self.slot = None
        if not self.cancelled:
            self.cancelled = True
            try:
                self.done(result)
            except Exception:
                # One caller's bug must not keep its batch's other answers back.
                log.exception("a caller failed on its result")


class Result:
    """What came out for one submission, as bytes until somebody wants arrays; times are in seconds."""

    __slots__ = (
        "_first",
        "_group",
        "_payload",
        "_starts",
        "_total",
        "batch_rows",
        "queued",
        "rows",
        "seconds",
    )

    def __init__(
        self,
        group: Group,
        payload: memoryview,
        starts: Sequence[int],
        *,
        first: int,
        rows: int,
        total: int,
        batch_rows: int,
        queued: float,
        seconds: float,
    ) -> None:
        self._group = group
        self._payload = payload
        self._starts = starts
        self._first = first
        self._total = total
        self.rows = rows
        self.batch_rows = batch_rows
        """Rows of the run that these were part of."""
        self.queued = queued
        self.seconds = seconds
        """From submission to result."""

    @property
    def group(self) -> Group:
        """The times of the run, and the heads of its outputs."""
        return self._group

    @property
    def heads(self) -> tuple[OutHead, ...]:
        """The outputs; the first axis of each shape is that of the whole run."""
        return self._group.outputs

    def blob(self, index: int) -> memoryview:
        """The bytes of one output's rows that are this submission's; not for text."""
        head = self._group.outputs[index]
        width = head.size // self._total
        start = self._starts[index] + self._first * width
        return self._payload[start : start + self.rows * width]

    def arrays(self) -> dict[str, Array]:
        """Every output's rows: views of what was received, text as object arrays."""
        found = {}
        for index, head in enumerate(self._group.outputs):
            if head.dtype == "string":
                start = self._starts[index]
                whole = unpack_tensor(self._payload[start : start + head.size], "string", head.shape)
                found[head.name] = whole[self._first : self._first + self.rows]
            else:
                found[head.name] = unpack_tensor(self.blob(index), head.dtype, (self.rows, *head.shape[1:]))
        return found
