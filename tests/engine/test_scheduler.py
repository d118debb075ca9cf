"""The scheduler with executors that answer when the test says so."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelport.engine.cost import CostModel
from modelport.engine.scheduler import Scheduler
from modelport.engine.submission import Lane, Record, Result, Submission
from modelport.engine.wire import Group, Job, OutHead, Problem, Reply, TensorHead
from modelport.errors import DeadlineExceeded, InputError, ModelFailed, QueueFull
from modelport.monitor.metrics import Metrics


class Hand:
    """An executor process that doubles its rows when it is told to."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.ready = True
        self.wide = False
        self.jobs: dict[int, Any] = {}
        self.since = 0.0
        self.waiting: list[tuple[Job, bytes]] = []
        self.killed = False
        self.scheduler = scheduler

    def send(self, job: Job, payload: list[Any], record: Record) -> None:
        self.since = time.monotonic()
        self.jobs[job.number] = record
        self.waiting.append((job, b"".join(payload)))

    def kill(self) -> None:
        self.killed = True

    def answer(self, seconds: float = 1e-3) -> list[int]:
        """Answer the first job; the rows of its submissions."""
        job, payload = self.waiting.pop(0)
        doubled = (np.frombuffer(payload, np.float32) * 2).tobytes()
        rows = sum(job.rows)
        head = OutHead("y", "float32", (rows, len(doubled) // 4 // rows), len(doubled))
        group = Group(len(job.rows), (head,), net=seconds)
        self.scheduler.on_reply(self, Reply(job.number, [group], seconds), memoryview(doubled))  # type: ignore[arg-type]
        return job.rows

    def refuse(self) -> None:
        """Answer the first job with a problem for each submission."""
        job, _ = self.waiting.pop(0)
        problem = Problem.of(InputError("no"))
        groups = [Group(1, problem=problem) for _ in job.rows]
        self.scheduler.on_reply(self, Reply(job.number, groups, 1e-3), memoryview(b""))  # type: ignore[arg-type]

    def die(self) -> None:
        """The process is gone."""
        self.ready = False
        self.waiting.clear()
        self.scheduler.on_lost(self)  # type: ignore[arg-type]


class Bench:
    """A scheduler with hands, and the results of what was submitted."""

    def __init__(self, hands: int = 1, *, max_rows: int = 8, **options: Any) -> None:
        self.metrics = Metrics().model("m", "1")
        self.scheduler = Scheduler(self.metrics, max_rows=max_rows, **options)
        self.cost = CostModel(max_rows)
        self.hands = [self.hire() for _ in range(hands)]
        self.results: dict[int, Result | Exception] = {}
        self.submissions: list[Submission] = []

    def hire(self) -> Hand:
        hand = Hand(self.scheduler)
        self.scheduler.executors.append(hand)  # type: ignore[arg-type]
        self.scheduler.resume()
        return hand

    def submit(self, rows: int = 1, width: int = 2, *, deadline: float = 30.0) -> int:
        number = len(self.submissions)
        now = time.monotonic()
        lane = self.lanes.setdefault(width, Lane("net", (TensorHead("x", "float32", (width,)),), self.cost))
        data = np.full((rows, width), number, np.float32).tobytes()

        def done(result: Result | Exception) -> None:
            assert number not in self.results, "settled twice"
            self.results[number] = result

        submission = Submission(lane, rows, [data], done, now, now + deadline)
        self.submissions.append(submission)
        self.scheduler.submit(submission)
        return number

    async def turn(self) -> None:
        """Let the event loop do what it was asked to do soon."""
        await asyncio.sleep(0)

    lanes: dict[int, Lane]

    def __new__(cls, *_: Any, **__: Any) -> Bench:
        made = super().__new__(cls)
        made.lanes = {}
        return made

    def right(self, number: int) -> bool:
        """Whether a submission got its own rows, doubled."""
        result = self.results[number]
        assert isinstance(result, Result), result
        array = result.arrays()["y"]
        return len(array) == self.submissions[number].rows and bool((array == number * 2).all())


def in_loop(scenario: Callable[[], Any]) -> None:
    async def run() -> None:
        await scenario()

    asyncio.run(run())


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 4), st.integers(1, 3)), min_size=1, max_size=40),
    st.integers(1, 3),
    st.integers(1, 8),
    st.randoms(use_true_random=False),
)
def test_rows_never_mix(sizes: list[tuple[int, int]], hands: int, max_rows: int, chance: Any) -> None:
    async def scenario() -> None:
        bench = Bench(hands, max_rows=max_rows)
        waiting = list(sizes)
        turns = 0
        while len(bench.results) < len(sizes):
            turns += 1
            assert turns < 10_000
            busy = [hand for hand in bench.hands if hand.waiting]
            if waiting and (not busy or chance.random() < 0.6):
                bench.submit(*waiting.pop())
            elif busy:
                hand = chance.choice(busy)
                if chance.random() < 0.1 and len(bench.hands) < 8:
                    hand.die()
                    bench.hands.remove(hand)
                    bench.hands.append(bench.hire())
                else:
                    hand.answer(chance.random() * 1e-3)
            else:
                await asyncio.sleep(0.002)  # a batch is held for company
        answered = [n for n, result in bench.results.items() if isinstance(result, Result)]
        assert all(bench.right(n) for n in answered)
        # What is left died with its executor twice, and is told so.
        assert all(isinstance(bench.results[n], ModelFailed) for n in set(bench.results) - set(answered))
        await asyncio.wait_for(bench.scheduler.drained(), 5)
        assert bench.scheduler.drain_seconds() == 0.0 and bench.scheduler.in_flight() == 0

    in_loop(scenario)


async def test_a_batch_forms_while_the_executor_is_busy_and_not_before() -> None:
    bench = Bench()
    for rows in (1, 2, 4, 8):
        bench.cost.observe(rows, 5e-3)
    hand = bench.hands[0]
    bench.submit()
    await bench.turn()
    for _ in range(4):
        bench.submit()
    await bench.turn()
    assert [job.rows for job, _ in hand.waiting] == [[1]]
    assert hand.answer() == [1]
    while not hand.waiting:  # held for a moment: the first caller may come back
        await asyncio.sleep(0.001)
    assert [job.rows for job, _ in hand.waiting] == [[1, 1, 1, 1]]
    hand.answer()
    assert all(bench.right(n) for n in range(5))


async def test_idle_executors_share_what_waits() -> None:
    bench = Bench(2)
    for hand in bench.hands:
        hand.ready = False
    bench.scheduler.resume()
    for _ in range(6):
        bench.submit()
    for hand in bench.hands:
        hand.ready = True
    bench.scheduler.resume()
    assert [len(job.rows) for hand in bench.hands for job, _ in hand.waiting] == [3, 3]


async def test_a_full_batch_is_handed_out_ahead_and_a_partial_one_is_not() -> None:
    bench = Bench(max_rows=2)
    for rows, seconds in ((1, 1e-3), (2, 1e-3)):
        bench.cost.observe(rows, seconds)
    hand = bench.hands[0]
    bench.submit()
    await bench.turn()
    bench.submit()
    await bench.turn()
    assert len(hand.waiting) == 1
    bench.submit()
    await bench.turn()
    assert [len(job.rows) for job, _ in hand.waiting] == [1, 2]
    for _ in range(4):
        bench.submit()
        await bench.turn()
    assert len(hand.waiting) == 2, "one ahead, not two"


async def test_what_cannot_be_in_time_is_refused_at_once_and_says_when_to_come_back() -> None:
    bench = Bench(max_rows=1)
    bench.cost.observe(1, 0.1)
    for _ in range(10):
        bench.submit(deadline=30)
    refused = bench.submit(deadline=0.5)
    problem = bench.results[refused]
    assert isinstance(problem, QueueFull) and problem.http_status == 503
    assert 0.8 < problem.retry_after < 1.2
    late = bench.results[bench.submit(deadline=-1)]
    assert isinstance(late, DeadlineExceeded) and late.http_status == 504
    counted = {reason: times for reason, times in bench.metrics.refusals.items() if times}
    assert counted == {"overload": 1, "deadline": 1}, "no bound of the queue was reached"


async def test_a_slow_spell_does_not_keep_later_requests_out() -> None:
    bench = Bench(max_rows=1)
    bench.cost.observe(1, 0.01)
    for _ in range(20):
        bench.cost.observe(1, 0.2)
    for _ in range(100):
        number = bench.submit(deadline=0.05)
        await bench.turn()
        if bench.hands[0].waiting:
            bench.hands[0].answer(0.01)
        else:
            problem = bench.results[number]
            assert isinstance(problem, QueueFull) and "by itself" in problem.message
            await asyncio.sleep(0.02)
    answered = [isinstance(result, Result) for result in bench.results.values()]
    assert answered[0], "there is nothing before it, so that trying costs nobody anything"
    assert not all(answered[:10]), "it is tried now and then, not each time"
    assert all(answered[-20:])
    assert bench.metrics.refusals["too_slow"] == answered.count(False)


async def test_what_never_was_in_time_is_tried_now_and_then_only() -> None:
    bench = Bench(max_rows=1)
    bench.cost.observe(1, 0.1)
    ran = 0
    end = time.monotonic() + 1.2
    while time.monotonic() < end:
        bench.submit(deadline=0.05)
        await bench.turn()
        if bench.hands[0].waiting:
            bench.hands[0].answer(0.1)
            ran += 1
        await asyncio.sleep(0.005)
    assert 1 <= ran <= 3, "once in five times what it costs"


async def test_a_deadline_that_passes_in_the_queue_is_told_then_and_not_computed() -> None:
    bench = Bench(max_rows=1)
    first = bench.submit()
    await bench.turn()
    second = bench.submit(deadline=0.05)
    for _ in range(200):
        if second in bench.results:
            break
        await asyncio.sleep(0.01)
    assert isinstance(bench.results[second], DeadlineExceeded)
    bench.hands[0].answer()
    assert bench.right(first) and not bench.hands[0].waiting


async def test_who_hung_up_is_not_computed() -> None:
    bench = Bench()
    bench.submit()
    await bench.turn()
    gone, stays = bench.submit(), bench.submit()
    bench.submissions[gone].cancelled = True
    bench.hands[0].answer()
    assert [job.rows for job, _ in bench.hands[0].waiting] == [[1]]
    bench.hands[0].answer()
    assert bench.right(stays) and gone not in bench.results
    assert bench.metrics.refusals["cancelled"] == 1


async def test_a_dead_executors_work_is_done_again_and_what_kills_it_fails_alone() -> None:
    bench = Bench(max_rows=4)
    for rows in (1, 2, 4):
        bench.cost.observe(rows, 5e-3)
    hand = bench.hands[0]
    first = bench.submit()
    await bench.turn()
    for _ in range(4):
        bench.submit()
    await bench.turn()
    hand.answer()
    assert [job.rows for job, _ in hand.waiting] == [[1, 1, 1, 1]]
    hand.die()
    assert len(bench.results) == 1
    # Each is tried alone; the second one kills its executor again.
    hand = bench.hire()
    assert hand.waiting[0][0].rows == [1]
    hand.answer()
    while not hand.waiting:
        await asyncio.sleep(0.001)
    hand.die()
    failed = [n for n, result in bench.results.items() if isinstance(result, ModelFailed)]
    assert len(failed) == 1
    hand = bench.hire()
    while bench.scheduler.in_flight():
        if hand.waiting:
            assert hand.answer() == [1]
        await asyncio.sleep(0.001)
    assert bench.right(first) and len(bench.results) == 5
    assert sum(isinstance(result, Result) for result in bench.results.values()) == 4


async def test_problems_go_to_whom_they_belong() -> None:
    bench = Bench()
    number = bench.submit()
    await bench.turn()
    bench.hands[0].refuse()
    assert isinstance(bench.results[number], InputError)
    assert bench.metrics.refusals["invalid"] == 1


async def test_a_run_that_hangs_is_ended() -> None:
    bench = Bench(run_limit=0.01)
    bench.submit()
    await bench.turn()
    bench.scheduler.end_hung()
    assert not bench.hands[0].killed
    await asyncio.sleep(0.05)
    bench.scheduler.end_hung()
    assert bench.hands[0].killed


@pytest.mark.parametrize("clients", [1, 3])
async def test_a_lone_client_never_waits_and_several_come_together(clients: int) -> None:
    bench = Bench(max_rows=8)
    for rows in (1, 2, 4, 8):
        bench.cost.observe(rows, 5e-3 + 0.2e-3 * rows)
    hand = bench.hands[0]
    for _ in range(clients):
        bench.submit()
    sizes: list[int] = []
    for _ in range(12):
        while not hand.waiting:
            await asyncio.sleep(0.0005)
        sizes.append(len(hand.waiting[0][0].rows))
        answered = hand.answer(5e-3)
        if clients == 1:
            bench.submit()
            await bench.turn()
            assert hand.waiting, "a lone client was kept waiting"
        else:
            for _ in answered:
                bench.submit()
    assert sizes[-6:] == [clients] * 6
