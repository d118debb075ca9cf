"""A scheduler that has nothing left to do knows it, and one that could do something does it at once."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from modelport.engine.submission import Result
from modelport.engine.wire import Group, Job, Reply
from modelport.errors import DeadlineExceeded

from .test_scheduler import Bench


@pytest.mark.parametrize("how", ["expired", "cancelled"])
async def test_what_goes_before_it_is_handed_out_leaves_the_scheduler_idle(how: str) -> None:
    bench = Bench(max_rows=1)
    number = bench.submit(deadline=0.01)
    if how == "cancelled":
        bench.submissions[number].cancelled = True
    else:
        time.sleep(0.02)  # the event loop is busy with something else
    await bench.turn()
    assert not bench.hands[0].waiting and bench.metrics.waiting == 0
    assert bench.metrics.refusals["deadline" if how == "expired" else "cancelled"] == 1
    await asyncio.wait_for(bench.scheduler.drained(), 5)
    assert bench.scheduler.drain_seconds() == 0.0 and bench.scheduler.in_flight() == 0
    if how == "expired":
        assert isinstance(bench.results[number], DeadlineExceeded)
    # It is idle again, and so tries one that seems too slow by what it knows.
    bench.cost.observe(1, 0.2)
    late = bench.submit(deadline=0.1)
    await bench.turn()
    bench.hands[0].answer(0.01)
    assert isinstance(bench.results[late], Result)


async def test_what_came_during_a_golden_case_starts_when_that_is_through() -> None:
    bench = Bench()
    (hand,) = bench.hands
    heard: list[Any] = []
    hand.send(Job(-1, "golden", (), [0], []), [], heard.append)  # type: ignore[arg-type]
    bench.scheduler.resume()
    bench.submit()
    await bench.turn()
    assert [job.kind for job, _ in hand.waiting] == ["golden"]
    hand.waiting.pop(0)
    bench.scheduler.on_reply(hand, Reply(-1, [Group(1)], 1e-3), memoryview(b""))  # type: ignore[arg-type]
    assert len(heard) == 1
    assert [job.rows for job, _ in hand.waiting] == [[1]], "it waited for the clock"


async def test_who_stops_waiting_for_the_end_harms_nobody() -> None:
    bench = Bench()
    first = bench.submit()
    await bench.turn()
    gone, stays = (asyncio.ensure_future(bench.scheduler.drained()) for _ in range(2))
    await bench.turn()
    gone.cancel()
    await bench.turn()
    bench.hands[0].answer()
    await asyncio.wait_for(stays, 5)
    assert bench.right(first) and gone.cancelled()
