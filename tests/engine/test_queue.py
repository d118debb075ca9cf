"""The queue decides without a clock, so every case is a line."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from modelport.engine.queue import BatchQueue


def test_a_lone_item_is_ready_at_once() -> None:
    queue: BatchQueue[str] = BatchQueue(max_rows=8)
    assert queue.due() is None
    queue.push("a", now=5.0)
    due = queue.due()
    assert due is not None and due <= 5.0
    assert queue.pop(5.0) == ["a"]
    assert queue.pop(5.0) == [] and queue.due() is None and len(queue) == 0


def test_a_window_holds_the_first_item_and_a_full_batch_does_not_wait() -> None:
    queue: BatchQueue[str] = BatchQueue(max_rows=2, max_wait=1.0)
    queue.push("a", now=0.0)
    assert queue.due() == 1.0 and queue.pop(0.4) == []
    assert queue.pop(1.0) == ["a"]
    queue.push("b", now=2.0)
    queue.push("c", now=2.1)
    assert queue.pop(2.1) == ["b", "c"]


def test_batches_stop_at_max_rows_and_a_larger_item_goes_alone() -> None:
    queue: BatchQueue[str] = BatchQueue(max_rows=4)
    for item, rows in (("a", 3), ("b", 2), ("c", 9), ("d", 1)):
        queue.push(item, rows=rows, now=0.0)
    assert [queue.pop(0.0) for _ in range(4)] == [["a"], ["b"], ["c"], ["d"]]


def test_lanes_do_not_mix_and_the_oldest_is_first() -> None:
    queue: BatchQueue[str] = BatchQueue(max_rows=8)
    for item, lane in (("a", 1), ("b", 2), ("c", 1), ("d", 2)):
        queue.push(item, lane=lane, now=0.0)
    assert queue.pop(0.0) == ["a", "c"]
    assert queue.pop(0.0) == ["b", "d"]


def test_the_earliest_deadline_goes_first() -> None:
    queue: BatchQueue[str] = BatchQueue(max_rows=1)
    for item, deadline in (("late", 9.0), ("soon", 2.0), ("middle", 5.0)):
        queue.push(item, now=0.0, deadline=deadline)
    assert [queue.pop(0.0) for _ in range(3)] == [["soon"], ["middle"], ["late"]]


def test_expired_items_leave_without_being_served() -> None:
    queue: BatchQueue[str] = BatchQueue(max_rows=8)
    queue.push("gone", now=0.0, deadline=1.0)
    queue.push("here", now=0.0)
    assert queue.expire(0.9) == []
    assert queue.expire(1.0) == ["gone"]
    assert len(queue) == 1 and queue.pop(1.0) == ["here"]


def test_a_full_queue_refuses_and_takes_nothing() -> None:
    queue: BatchQueue[str] = BatchQueue(max_rows=8, max_waiting=3)
    assert queue.push("a", rows=2, now=0.0)
    assert not queue.push("b", rows=2, now=0.0)
    assert queue.push("c", rows=1, now=0.0)
    assert queue.pop(0.0) == ["a", "c"]
    assert queue.push("b", rows=2, now=0.0)


@given(
    st.lists(st.tuples(st.integers(1, 5), st.integers(0, 2), st.floats(0, 9) | st.none())),
    st.integers(1, 6),
)
def test_nothing_is_lost_doubled_or_mixed(pushes: list[tuple[int, int, float | None]], most: int) -> None:
    queue: BatchQueue[int] = BatchQueue(max_rows=most)
    for number, (rows, lane, deadline) in enumerate(pushes):
        limit = {} if deadline is None else {"deadline": deadline}
        assert queue.push(number, rows=rows, lane=lane, now=0.0, **limit)
    assert len(queue) == sum(rows for rows, _, _ in pushes)
    seen: list[int] = []
    while batch := queue.pop(0.0):
        assert len({pushes[n][1] for n in batch}) == 1
        assert len(batch) == 1 or sum(pushes[n][0] for n in batch) <= most
        seen += batch
    assert sorted(seen) == list(range(len(pushes)))
    assert len(queue) == 0
