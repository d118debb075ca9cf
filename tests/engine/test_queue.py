"""The queue decides without a clock, so every case is a line."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.engine.queue import BatchQueue


def test_a_lone_item_is_there_at_once() -> None:
    queue: BatchQueue[str] = BatchQueue(max_rows=8)
    assert queue.push("a", now=5.0) == 1
    assert queue.pop() == ["a"]
    assert queue.pop() == [] and len(queue) == 0
    with pytest.raises(KeyError):
        queue.next_lane()


def test_batches_stop_at_max_rows_and_a_larger_item_goes_alone() -> None:
    queue: BatchQueue[str] = BatchQueue(max_rows=4)
    for item, rows in (("a", 3), ("b", 2), ("c", 9), ("d", 1)):
        queue.push(item, rows)
    assert [queue.pop() for _ in range(4)] == [["a"], ["b"], ["c"], ["d"]]


def test_a_batch_may_be_asked_to_be_smaller() -> None:
    queue: BatchQueue[str] = BatchQueue(max_rows=4)
    for item in "abcde":
        queue.push(item)
    assert [queue.pop(2), queue.pop(9), queue.pop(1)] == [["a", "b"], ["c", "d", "e"], []]


def test_lanes_do_not_mix_and_the_oldest_is_first() -> None:
    queue: BatchQueue[str] = BatchQueue(max_rows=8)
    for item, lane in (("a", 1), ("b", 2), ("c", 1), ("d", 2)):
        queue.push(item, lane=lane)
    assert (queue.waiting(1), queue.waiting(2), queue.waiting(3)) == (2, 2, 0)
    assert queue.pop() == ["a", "c"]
    assert queue.pop() == ["b", "d"]


def test_the_earliest_deadline_goes_first() -> None:
    queue: BatchQueue[str] = BatchQueue(max_rows=1, max_age=100.0)
    for item, deadline in (("late", 9.0), ("soon", 2.0), ("middle", 5.0)):
        queue.push(item, deadline=deadline)
    assert [queue.pop() for _ in range(3)] == [["soon"], ["middle"], ["late"]]


def test_urgent_requests_pass_a_patient_one_only_so_long() -> None:
    queue: BatchQueue[str] = BatchQueue(max_rows=1, max_age=2.0)
    queue.push("patient", now=0.0, deadline=60.0)
    served = []
    for number in range(100):
        now = number * 0.1
        queue.push(f"urgent {number}", now=now, deadline=now + 0.5)
        served += queue.pop()
    # Those that came up to 1.5 s later are due before it, and nobody else.
    assert served.index("patient") == 15


def test_what_is_pushed_back_is_served_before_all_others() -> None:
    queue: BatchQueue[str] = BatchQueue(max_rows=1)
    queue.push("a", now=0.0, deadline=1.0)
    queue.push_back("b", rows=1, lane=None)
    queue.push_back("c", rows=1, lane=None)
    assert [queue.pop() for _ in range(3)] == [["b"], ["c"], ["a"]]


def test_expired_and_unwanted_items_leave() -> None:
    queue: BatchQueue[str] = BatchQueue(max_rows=8)
    for item, deadline in (("a", 1.0), ("b", 3.0), ("c", math.inf)):
        queue.push(item, lane=item, deadline=deadline)
    assert queue.earliest_deadline() == 1.0
    assert queue.expire(1.0) == ["a"] and queue.expire(2.9) == []
    assert queue.discard(lambda item: item == "c") == ["c"]
    assert len(queue) == 1 and queue.pop() == ["b"]


def test_a_full_queue_takes_nothing() -> None:
    queue: BatchQueue[str] = BatchQueue(max_rows=2, max_waiting=3)
    assert queue.push("a", 2) == 2 and queue.push("b", 2) == 0 and queue.push("c", 1) == 3
    assert len(queue) == 3


@given(
    st.lists(
        st.tuples(st.integers(1, 5), st.sampled_from("xyz"), st.one_of(st.just(math.inf), st.floats(0, 10))),
        max_size=60,
    ),
    st.integers(1, 8),
    st.data(),
)
def test_nothing_is_lost_doubled_or_mixed(
    items: list[tuple[int, str, float]], max_rows: int, data: st.DataObject
) -> None:
    queue: BatchQueue[int] = BatchQueue(max_rows=max_rows)
    pushed = 0
    seen: list[int] = []
    while pushed < len(items) or len(queue):
        if pushed < len(items) and (not len(queue) or data.draw(st.booleans())):
            rows, lane, deadline = items[pushed]
            queue.push(pushed, rows, lane, float(pushed), deadline)
            pushed += 1
            continue
        batch = queue.pop()
        assert batch and len({items[n][1] for n in batch}) == 1
        assert len(batch) == 1 or sum(items[n][0] for n in batch) <= max_rows
        seen += batch
    assert sorted(seen) == list(range(len(items)))
