"""Submissions to executors and back: one queue for a model, as many executors as run it side by side.

A batch is formed at the instant an executor is free, from what is there. Two things bend that: a full
batch may be handed out while its executor still computes, so that it never idles between two; and a small
one may be held for a moment where waiting pays and those who were just answered are likely to return.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Hashable, Sequence
from typing import Any

from ..errors import DeadlineExceeded, ModelFailed, QueueFull, TooLarge, Unavailable
from ..monitor.metrics import ModelMetrics
from .admission import CAUTION, TRANSIT, Tries, refusal, retry_after
from .process import ExecutorProcess
from .queue import BatchQueue
from .submission import Lane, Record, Result, Run, Submission, job_of
from .wire import INLINE, Group, Reply

MAX_ATTEMPTS = 2
"""Runs of a submission whose executor died; then it is taken to be what kills it."""
_AHEAD_SECONDS = 0.02
"""Batches are handed out ahead only where they are shorter: the gap that this fills is a tenth of a
millisecond, and what waits in the queue can still be reordered, and dropped."""
_RETURN_SECONDS = 0.005
"""Callers that were answered so long ago are not expected back at once."""
_TICK_SECONDS = 0.02
_PAUSE = 4.0
"""Times its own seconds before which nothing ran: such a run tells how busy the machine is now."""


class Scheduler:
    """The queue of one live model; its owner adds executors and removes them.

    Args:
        metrics: counts of this model and version.
        max_rows: the most rows of one run.
        max_waiting: rows that may wait before submissions are refused.
        run_limit: seconds after which a run counts as hung, and its executor is ended.
    """

    def __init__(
        self,
        metrics: ModelMetrics,
        *,
        max_rows: int,
        max_waiting: int = 65536,
        run_limit: float = 60.0,
        ahead: bool = True,
    ) -> None:
        self.executors: list[ExecutorProcess] = []
        self.metrics = metrics
        self._queue: BatchQueue[Submission] = BatchQueue(max_rows=max_rows, max_waiting=max_waiting)
        self._run_limit = run_limit
        self._loop = asyncio.get_running_loop()
        self._number = 0
        self._backlog = 0.0
        self._tries = Tries()
        self._running = 0
        self._held: asyncio.TimerHandle | None = None
        self._returning = 0
        self._answered_at = 0.0
        self._hold_pays = 1.0
        self._tick: asyncio.TimerHandle | None = None
        self._free = self._ahead = 0
        """Executors without a job, and those that may be given one ahead."""
        self._soon = False
        """Whether batches will be handed out as soon as the event loop has read what is there."""
        self._idling = True
        self._drained: list[asyncio.Future[None]] = []

    def submit(self, submission: Submission) -> None:
        """Queue it and start what can start; it is settled at once if it cannot make its deadline."""
        lane = submission.lane
        now = submission.arrived
        rows = submission.rows
        cost, idle = lane.cost, self._idling
        estimate = cost.row if rows == 1 else cost.predict(rows)
        if idle or not estimate:
            estimate = cost.predict_alone(rows) or estimate
        before = self.drain_seconds()
        until = (before + estimate) * CAUTION + TRANSIT
        if submission.deadline < now + until and not (
            idle and self._tries.due(now, submission.deadline, estimate)
        ):
            reason, problem = refusal(now, submission.deadline, until, before)
            self.metrics.refused(reason)
            submission.settle(problem)
            return
        waiting = self._queue.push(submission, rows, lane, now, submission.deadline)
        if not waiting:
            if rows > self._queue.max_waiting:
                self.metrics.refused("too_large")
                submission.settle(TooLarge(f"{rows} rows; at most {self._queue.max_waiting} at once"))
                return
            self.metrics.refused("queue_full")
            submission.settle(
                QueueFull(f"{len(self._queue)} rows wait already", retry_after=retry_after(before))
            )
            return
        submission.estimate = estimate
        self._backlog += estimate
        self._idling = False
        if self._returning:
            self._returning -= 1
        # Most requests come while every executor is busy: there is nothing to decide then. Those that the
        # event loop found ready together are let in together, before the first of them is sent off alone.
        if self._free or (self._ahead and waiting >= lane.cost.best_rows()):
            if not self._soon:
                self._soon = True
                self._loop.call_soon(self._dispatch)
        elif self._tick is None:
            self._tick = self._loop.call_later(_TICK_SECONDS, self._on_tick)

    def drain_seconds(self) -> float:
        """Seconds until what waits and runs now is through, by what runs have cost so far."""
        return self._backlog / (len(self.executors) or 1)

    def in_flight(self) -> int:
        """Rows in the queue and in the executors."""
        return len(self._queue) + self._running

    async def drained(self) -> None:
        """Wait until nothing waits and nothing runs."""
        while not self._idling:
            waiting: asyncio.Future[None] = self._loop.create_future()
            self._drained.append(waiting)
            await waiting

    def fail_all(self, problem: Exception) -> None:
        """Settle everything that waits: nobody is left to run it."""
        for submission in self._queue.discard(lambda _: True):
            self._backlog -= submission.estimate
            self.metrics.refused("stopping")
            submission.settle(problem)
        self._dispatch()

    def _dispatch(self) -> None:
        """Hand out batches while there are rows and an executor for them."""
        self._soon = False
        queue = self._queue
        while len(queue):
            lane = queue.next_lane()
            assert isinstance(lane, Lane)
            waiting = queue.waiting(lane)
            limit = self._limit(lane, waiting, self._free)
            if self._free:
                if self._hold(lane, waiting, limit, self._free):
                    break
                executor = next(each for each in self.executors if each.ready and not each.jobs)
            else:
                ahead = self._one_ahead(lane, waiting, limit)
                if ahead is None:
                    break
                executor = ahead
            batch = self._pop(limit, lane)
            if batch:
                self._start(executor, lane, batch)
        waiting = self.metrics.waiting = len(queue)
        if not waiting and not self._running:
            self._idle()
        elif waiting and self._tick is None:
            self._tick = self._loop.call_later(_TICK_SECONDS, self._on_tick)

    def _limit(self, lane: Lane, waiting: int, free: int) -> int:
        """Rows of the next batch: the best size, but no more than leaves something for the others."""
        limit = lane.cost.next_rows(waiting > lane.cost.best_rows())
        if free > 1 and waiting < limit * free:
            limit = min(limit, -(-waiting // free))
        return limit

    def _one_ahead(self, lane: Lane, waiting: int, limit: int) -> ExecutorProcess | None:
        """An executor with one short run before it, if the next batch is full anyway."""
        if not self._ahead or waiting < limit or not 0.0 < lane.cost.predict(limit) <= _AHEAD_SECONDS:
            return None
        return min(
            (each for each in self.executors if each.ready and len(each.jobs) == 1),
            key=lambda each: each.since,
            default=None,
        )

    def _hold(self, lane: Lane, waiting: int, limit: int, free: int) -> bool:
        """Whether to wait a moment for those who were just answered; decided once for a batch."""
        if self._held is not None:
            if waiting < limit and self._returning:
                return True
            self._held.cancel()
            self._release_hold(1.0)
            return False
        if not self._returning or waiting >= lane.cost.best_rows() or free < len(self.executors):
            return False
        now = time.monotonic()
        if now - self._answered_at > _RETURN_SECONDS:
            self._returning = 0
            return False
        seconds = lane.cost.patience(waiting, self._returning)
        # Where holding has not paid lately it is tried now and then, not each time.
        if seconds <= 0.0 or (self._hold_pays < 0.5 and self._number % 16):
            return False
        self._held = self._loop.call_later(min(seconds, _RETURN_SECONDS), self._on_held)
        return True

    def _on_held(self) -> None:
        self._release_hold(0.0)
        self._returning = 0
        self._dispatch()

    def _release_hold(self, paid: float) -> None:
        self._held = None
        self._hold_pays += 0.1 * (paid - self._hold_pays)

    def _pop(self, rows: int, lane: Hashable) -> list[Submission]:
        """The next batch without those who hung up, whose deadline has passed, or who must be alone."""
        now = time.monotonic()
        batch = []
        for submission in self._queue.pop(rows, lane):
            if submission.cancelled or submission.deadline <= now:
                self._drop(submission)
            else:
                batch.append(submission)
        suspect = next((each for each in batch if each.alone), None)
        if suspect is None or len(batch) == 1:
            return batch
        for each in batch:
            if each is not suspect:
                self._queue.push_back(each, rows=each.rows, lane=lane, deadline=each.deadline)
        return [suspect]

    def _start(self, executor: ExecutorProcess, lane: Lane, batch: list[Submission]) -> None:
        now = time.monotonic()
        self._number += 1
        rows: list[int] = []
        places: list[tuple[int, int]] = []
        payload: list[Any] = []
        for submission in batch:
            submission.started = now
            rows.append(submission.rows)
            if submission.slot is None:
                payload.extend(submission.data)
                for data in submission.data:
                    places.append((INLINE, len(data)))
            else:
                for start, data in zip(submission.starts, submission.data, strict=True):
                    places.append((submission.slot.offset + start, len(data)))
        count = sum(rows)
        self._running += count
        lonely = len(batch) == 1 and self._running == count and not len(self._queue)
        job = job_of(self._number, batch, rows, places, lonely)
        executor.send(job, payload, Record(batch, count, lonely and executor.wide))
        self._count()

    def _count(self) -> None:
        """How many executors are free, and how many could be given a batch ahead."""
        loads = [len(each.jobs) for each in self.executors if each.ready]
        self._free, self._ahead = loads.count(0), loads.count(1)

    def on_reply(self, executor: ExecutorProcess, reply: Reply, payload: memoryview) -> None:
        """An executor's answer: start its next batch first, then tell the callers."""
        record = executor.jobs.pop(reply.number, None)
        self._count()
        if not isinstance(record, Record):
            if callable(record):
                record(reply)
            self._dispatch()
            return
        batch, rows = record.batch, record.rows
        self._running -= rows
        now = time.monotonic()
        lane = batch[0].lane
        paused = batch[0].started - self._answered_at > _PAUSE * reply.seconds
        lane.cost.observe(rows, reply.seconds, reply.apart(), wide=record.wide, paused=paused)
        if lane.kind in ("net", "rows"):
            self.metrics.batch(rows, reply.seconds)
        for submission in batch:
            self._backlog -= submission.estimate
        self._returning = len(batch)
        self._answered_at = now
        if len(self._queue) and self._held is None:
            self._returning_dispatch()
        self._tell(batch, reply.groups, payload, now)
        self._dispatch()

    def _returning_dispatch(self) -> None:
        """Keep the executor busy while the callers are told; but not where it pays to wait for them."""
        lane = self._queue.next_lane()
        assert isinstance(lane, Lane)
        if self._queue.waiting(lane) >= lane.cost.best_rows() or not lane.cost.patience(
            self._queue.waiting(lane), self._returning
        ):
            self._dispatch()

    def _tell(
        self, batch: Sequence[Submission], groups: Sequence[Group], payload: memoryview, now: float
    ) -> None:
        at = 0
        start = 0
        took = self.metrics.took
        for group in groups:
            members = batch[at : at + group.count]
            at += group.count
            if group.problem is not None:
                problem = group.problem.error()
                reason = "too_large" if isinstance(problem, TooLarge) else "invalid"
                for submission in members:
                    if problem.http_status >= 500:
                        self.metrics.failed("model", now - submission.arrived)
                    else:
                        self.metrics.refused(reason)
                    submission.settle(problem)
                continue
            total = sum([submission.rows for submission in members])
            run = Run(group, payload, start, total)
            start += sum([head.size for head in group.outputs])
            if members and members[0].lane.kind in ("encoded", "decoded"):
                self.metrics.batch(total, group.net)
            self.metrics.ran(len(members), group.decode, group.pre, group.net, group.post)
            first = 0
            for submission in members:
                rows = submission.rows
                queued = submission.started - submission.arrived
                seconds = now - submission.arrived
                took(seconds, queued, rows)
                submission.settle(Result(run, first, rows, queued, seconds))
                first += rows

    def on_lost(self, executor: ExecutorProcess) -> None:
        """Its process died: what waited in it goes back, and what it ran is tried once more, alone."""
        records = list(executor.jobs.values())
        executor.jobs.clear()
        if executor in self.executors:
            self.executors.remove(executor)
        self._count()
        for number, record in enumerate(records):
            if not isinstance(record, Record):
                record(None)
                continue
            self._running -= record.rows
            for submission in record.batch:
                if number == 0:
                    submission.attempts += 1
                    submission.alone = True
                if submission.attempts >= MAX_ATTEMPTS:
                    self._backlog -= submission.estimate
                    self.metrics.failed("model", time.monotonic() - submission.arrived)
                    submission.settle(ModelFailed("the model's process ended while it ran this input"))
                else:
                    self._queue.push_back(
                        submission, rows=submission.rows, lane=submission.lane, deadline=submission.deadline
                    )
        self._dispatch()

    def _on_tick(self) -> None:
        """While something waits: drop what nobody waits for, and end executors that hang."""
        self._tick = None
        now = time.monotonic()
        for submission in self._queue.expire(now):
            self._drop(submission)
        for submission in self._queue.discard(lambda each: each.cancelled):
            self._drop(submission)
        self._dispatch()

    def resume(self) -> None:
        """An executor came: give it work."""
        self._count()
        self._dispatch()

    def end_hung(self) -> None:
        """End executors whose run is over the limit; called now and then by the owner."""
        for executor in list(self.executors):
            if executor.jobs and time.monotonic() - executor.since > self._run_limit:
                executor.kill()

    def _drop(self, submission: Submission) -> None:
        self._backlog -= submission.estimate
        if submission.cancelled:
            self.metrics.refused("cancelled")
            submission.settle(Unavailable("the caller went away"))
        else:
            self.metrics.refused("deadline")
            submission.settle(DeadlineExceeded("the deadline passed while the request waited"))

    def _idle(self) -> None:
        """Nothing waits and nothing runs: tell those who wait for that."""
        self._backlog = 0.0
        self._idling = True
        for each in self._drained:
            if not each.done():
                each.set_result(None)
        self._drained.clear()
