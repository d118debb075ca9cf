"""The batcher gives each caller its own rows, whatever its neighbours do."""

from __future__ import annotations

import asyncio
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelport.engine.batcher import Batcher, check_rows
from modelport.errors import InputError, ModelFailed, Unavailable
from modelport.tensors import Array, Tensors


def doubled(batch: Tensors) -> dict[str, Array]:
    return {"y": batch["x"] * 2}


def rows_of(*values: float) -> dict[str, Array]:
    return {"x": np.array(values, np.float32)[:, None]}


class Slow:
    """Waits until it is let go, and remembers how many rows each call had."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.calls: list[int] = []

    def __call__(self, batch: Tensors) -> dict[str, Array]:
        self.calls.append(len(batch["x"]))
        if not self.go.wait(30):
            raise TimeoutError
        return doubled(batch)


async def until(condition: object, seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end, "it did not come about"
        await asyncio.sleep(0.005)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 3)), min_size=1, max_size=40), st.integers(1, 8))
def test_rows_never_mix_under_concurrency(sizes: list[tuple[int, int]], most: int) -> None:
    async def scenario() -> None:
        batcher = Batcher(doubled, max_rows=most)
        inputs = [
            {"x": np.random.default_rng(n).random((rows, width)).astype(np.float32)}
            for n, (rows, width) in enumerate(sizes)
        ]
        done = await asyncio.gather(*(batcher.submit(each) for each in inputs))
        for given_rows, result in zip(inputs, done, strict=True):
            assert np.array_equal(result.outputs["y"], given_rows["x"] * 2)
        await batcher.close()

    asyncio.run(scenario())


async def test_requests_gather_while_the_executor_is_busy() -> None:
    slow = Slow()
    batcher = Batcher(slow, max_rows=8)
    first = asyncio.ensure_future(batcher.submit(rows_of(1)))
    await until(lambda: slow.calls)
    rest = [asyncio.ensure_future(batcher.submit(rows_of(n))) for n in range(6)]
    await asyncio.sleep(0)
    slow.go.set()
    done = await asyncio.gather(first, *rest)
    assert slow.calls == [1, 6]
    assert [r.rows for r in done] == [1, 6, 6, 6, 6, 6, 6]
    assert done[-1].queued > 0
    await batcher.close()


async def test_one_bad_row_fails_alone() -> None:
    slow = Slow()

    def picky(batch: Tensors) -> dict[str, Array]:
        slow(batch)
        if (batch["x"] < 0).any():
            raise ModelFailed("negative")
        return doubled(batch)

    batcher = Batcher(picky, max_rows=16)
    first = asyncio.ensure_future(batcher.submit(rows_of(0)))
    await until(lambda: slow.calls)
    futures = [asyncio.ensure_future(batcher.submit(rows_of(n))) for n in (1, 2, -3, 4, 5)]
    await asyncio.sleep(0)
    slow.go.set()
    await first
    done = await asyncio.gather(*futures, return_exceptions=True)
    assert isinstance(done[2], ModelFailed)
    assert [float(r.outputs["y"][0, 0]) for r in done if not isinstance(r, BaseException)] == [2, 4, 8, 10]
    await batcher.close()


async def test_a_network_that_loses_rows_is_caught() -> None:
    batcher = Batcher(lambda batch: {"y": batch["x"][:1]}, max_rows=4)
    with pytest.raises(ModelFailed, match="for a batch of 2 rows"):
        await batcher.submit(rows_of(1, 2))
    await batcher.close()


async def test_a_caller_that_left_is_not_computed() -> None:
    slow = Slow()
    batcher = Batcher(slow, max_rows=1)
    first = asyncio.ensure_future(batcher.submit(rows_of(1)))
    await until(lambda: slow.calls)
    left = asyncio.ensure_future(batcher.submit(rows_of(2)))
    stays = asyncio.ensure_future(batcher.submit(rows_of(3)))
    await asyncio.sleep(0)
    left.cancel()
    slow.go.set()
    assert float((await stays).outputs["y"][0, 0]) == 6
    await first
    assert len(slow.calls) == 2
    await batcher.close()


async def test_a_passed_deadline_is_refused_without_computing() -> None:
    slow = Slow()
    batcher = Batcher(slow, max_rows=1)
    first = asyncio.ensure_future(batcher.submit(rows_of(1)))
    await until(lambda: slow.calls)
    late = asyncio.ensure_future(batcher.submit(rows_of(2), deadline=time.monotonic()))
    await asyncio.sleep(0.01)
    slow.go.set()
    with pytest.raises(Unavailable, match="deadline"):
        await late
    await first
    assert slow.calls == [1]
    await batcher.close()


async def test_a_full_queue_is_refused() -> None:
    slow = Slow()
    batcher = Batcher(slow, max_rows=1, max_waiting=2)
    taken = [asyncio.ensure_future(batcher.submit(rows_of(n))) for n in range(3)]
    await until(lambda: len(batcher) == 2)
    with pytest.raises(Unavailable, match="full"):
        await batcher.submit(rows_of(9))
    slow.go.set()
    await asyncio.gather(*taken)
    await batcher.close()


async def test_close_finishes_what_was_taken_and_refuses_the_rest() -> None:
    slow = Slow()
    batcher = Batcher(slow, max_rows=1)
    taken = [asyncio.ensure_future(batcher.submit(rows_of(n))) for n in range(3)]
    await until(lambda: slow.calls)
    closing = asyncio.ensure_future(batcher.close())
    await asyncio.sleep(0.01)
    with pytest.raises(Unavailable, match="stopping"):
        await batcher.submit(rows_of(4))
    slow.go.set()
    await closing
    assert [float(r.outputs["y"][0, 0]) for r in await asyncio.gather(*taken)] == [0, 2, 4]


@pytest.mark.parametrize(
    "inputs",
    [{}, {"x": np.float32(1)}, {"x": np.zeros((0, 2))}, {"x": np.zeros((2, 1)), "y": np.zeros((3, 1))}],
)
def test_rows_must_agree(inputs: dict[str, Array]) -> None:
    with pytest.raises(InputError, match="same number of rows"):
        check_rows({name: np.asarray(array) for name, array in inputs.items()})
