"""One request's part in the engine: what goes in, and what comes back."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from ..tensors import Array
from .arena import Slot
from .cost import CostModel
from .wire import Group, Job, Kind, Options, OutHead, Shapes, TensorHead, unpack_tensor

log = logging.getLogger("modelport.engine")


class Lane:
    """Submissions that may run together: one kind of work on tensors of one shape (of one rank, for decoded
    items: each is prepared by itself)."""

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
        done: called once on the event loop.
        arrived: now, on `time.monotonic`'s clock.
        deadline: when the caller stops waiting, on the same.
        slot: the arena's slot in which all of `data` lies, released when the submission is settled.
        starts: where in the slot each of `data` begins.
        options: what the caller chose of the bundle's options, for `post`.
        shapes: of a decoded item the shape of each of its tensors.
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
        "options",
        "rows",
        "shapes",
        "slot",
        "started",
        "starts",
        "watch",
    )

    def __init__(
        self,
        lane: Lane,
        rows: int,
        data: Sequence[Any],
        done: Done,
        arrived: float,
        deadline: float,
        slot: Slot | None = None,
        starts: Sequence[int] = (),
        options: Options | None = None,
        shapes: Shapes = (),
    ) -> None:
        self.lane = lane
        self.rows = rows
        self.data = data
        self.done = done
        self.deadline = deadline
        self.slot = slot
        self.starts = starts
        self.options = options
        self.shapes = shapes
        self.arrived = arrived
        self.started = 0.0
        self.cancelled = False
        self.attempts = 0
        self.alone = False
        self.estimate = 0.0
        self.watch: Done | None = None
        """Called with the result before the caller is told, where somebody watches."""

    def settle(self, result: Result | Exception) -> None:
        """Tell the caller, unless it went away, and give the memory back."""
        if self.slot is not None:
            self.slot.release()
            self.slot = None
        gone, self.cancelled = self.cancelled, True
        watch, self.watch = self.watch, None
        try:
            if watch is not None:
                watch(result)
            if not gone:
                self.tell(result)
        except Exception:
            # One caller's bug must not keep its batch's other answers back.
            log.exception("a caller failed on its result")

    def tell(self, result: Result | Exception) -> None:
        """Give the result to the caller; called once."""
        done, self.done = self.done, _nobody
        done(result)


def job_of(
    number: int, batch: Sequence[Submission], rows: list[int], places: list[tuple[int, int]], wide: bool
) -> Job:
    """The job that runs a batch of one lane."""
    lane = batch[0].lane
    job = Job(number, lane.kind, lane.tensors, rows, places, wide)
    if lane.kind != "net":
        if any(each.options is not None for each in batch):
            job.options = [each.options for each in batch]
        if lane.kind == "decoded":
            job.shapes = [each.shapes for each in batch]
    return job


class Record:
    """A batch on its way through an executor."""

    __slots__ = ("batch", "rows", "wide")

    def __init__(self, batch: list[Submission], rows: int, wide: bool = False) -> None:
        self.batch = batch
        self.rows = rows
        self.wide = wide
        """Whether it had every core: that says nothing of what a run beside others costs."""


class Run:
    """One group of a reply, as its results share it."""

    __slots__ = ("group", "line", "payload", "places", "rows", "shapes", "texts")

    def __init__(self, group: Group, payload: memoryview, start: int, rows: int) -> None:
        self.group = group
        self.payload = payload
        self.rows = rows
        self.line = b""
        """What a front end says of it to each caller, made once."""
        self.places: list[tuple[int, int]] = []
        """Where each output begins, and the bytes of one of its rows."""
        for head in group.outputs:
            self.places.append((start, head.size // rows))
            start += head.size
        self.shapes = tuple([head.shape[1:] for head in group.outputs])
        """The shape of a row of each output."""
        self.texts: dict[int, Array] = {}
        """Outputs of text by place, unpacked once for all results that share them."""

    def text(self, index: int) -> Array:
        """An output of text, all rows of it."""
        whole = self.texts.get(index)
        if whole is None:
            head, start = self.group.outputs[index], self.places[index][0]
            data = self.payload[start : start + head.size]
            whole = self.texts[index] = unpack_tensor(data, "string", head.shape)
        return whole


class Result:
    """What came out for one submission, as bytes until somebody wants arrays; times are in seconds."""

    __slots__ = ("_first", "queued", "rows", "run", "seconds")

    def __init__(self, run: Run, first: int, rows: int, queued: float, seconds: float) -> None:
        self.run = run
        """The run that these rows were part of."""
        self._first = first
        self.rows = rows
        self.queued = queued
        self.seconds = seconds
        """From submission to result."""

    @property
    def group(self) -> Group:
        """The times of the run, and the heads of its outputs."""
        return self.run.group

    @property
    def heads(self) -> tuple[OutHead, ...]:
        """The outputs; the first axis of each shape is that of the whole run."""
        return self.run.group.outputs

    def blob(self, index: int) -> memoryview:
        """The bytes of one output's rows that are this submission's; not for text."""
        start, width = self.run.places[index]
        start += self._first * width
        return self.run.payload[start : start + self.rows * width]

    def arrays(self) -> dict[str, Array]:
        """Every output's rows: views of what was received, text as object arrays."""
        found = {}
        for index, head in enumerate(self.heads):
            if head.dtype == "string":
                found[head.name] = self.run.text(index)[self._first : self._first + self.rows]
            else:
                found[head.name] = unpack_tensor(self.blob(index), head.dtype, (self.rows, *head.shape[1:]))
        return found


def _nobody(result: Result | Exception) -> None:
    """A submission that was settled tells nobody again, and holds on to nobody."""
