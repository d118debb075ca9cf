"""A job's items lie side by side from the start, and whatever does not fit is left where it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import modelport
from modelport.engine.executor import Executor
from modelport.engine.slots import Slots
from modelport.engine.wire import INLINE, Job
from modelport.errors import InputError
from modelport.steps.lowering import Lowering
from modelport.tensors import Array

from ..colours import LABELS, pack_colours, picture


def item(value: int, *shape: int) -> dict[str, Array]:
    return {"x": np.full(shape, value, np.float32), "ratio": np.array(value / 2)}


def test_items_that_were_written_to_their_slots_are_the_batch_without_a_copy() -> None:
    slots = Slots(3)
    assert slots.of(0) == {}
    rows = [item(0, 2, 4)]
    slots.put(0, rows[0])
    for number in (1, 2):
        slot = slots.of(number)
        assert slot["x"].shape == (2, 4) and slot["ratio"].shape == ()
        slot["x"][...] = number
        rows.append({"x": slot["x"], "ratio": np.array(number / 2)})
        slots.put(number, rows[number])
    batch = slots.batch(rows, 0)
    assert batch["x"].shape == (3, 2, 4) and np.shares_memory(batch["x"], rows[1]["x"])
    assert batch["x"][:, 0, 0].tolist() == [0, 1, 2] and batch["ratio"].tolist() == [0, 0.5, 1]
    part = slots.batch(rows[1:], 1)
    assert np.shares_memory(part["x"], batch["x"]) and part["x"][:, 0, 0].tolist() == [1, 2]


def test_items_of_other_shapes_types_or_tensors_are_stacked() -> None:
    rows = [item(0, 2, 4), item(1, 3, 4), item(2, 3, 4), {"x": np.full((3, 4), 3)}, {"x": np.full((3, 4), 4)}]
    slots = Slots(len(rows))
    for number, row in enumerate(rows):
        slots.put(number, row)
    assert slots.batch(rows[1:3], 1)["x"][:, 0, 0].tolist() == [1, 2]
    other = slots.batch(rows[3:], 3)
    assert other.keys() == {"x"} and other["x"].dtype == np.int64 and other["x"][:, 0, 0].tolist() == [3, 4]


def test_an_item_alone_is_not_copied() -> None:
    row = item(7, 2, 4)
    slots = Slots(1)
    slots.put(0, row)
    assert slots.of(0) == {}
    batch = slots.batch([row], 0)
    assert batch["x"].shape == (1, 2, 4) and np.shares_memory(batch["x"], row["x"])


def test_one_that_failed_leaves_a_hole_that_nobody_reads() -> None:
    slots = Slots(3)
    rows = [item(0, 2), item(2, 2)]
    slots.put(0, rows[0])
    slots.of(1)["x"][...] = 99  # written by one that failed on its way
    slots.put(2, rows[1])
    assert slots.batch(rows[:1], 0)["x"][:, 0].tolist() == [0]
    assert slots.batch(rows[1:], 2)["x"][:, 0].tolist() == [2]


def test_a_batch_of_pictures_is_answered_as_each_alone_is_and_prepared_in_its_slots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []
    run = Lowering.run

    def seen(self: Lowering, image: Array, into: Array | None = None) -> Array:
        made = run(self, image, into)
        written.append(into is not None and np.shares_memory(made, into))
        return made

    monkeypatch.setattr(Lowering, "run", seen)
    monkeypatch.setattr("modelport.steps.lowering._Trials.take", lambda trials, *_: _decided(trials))
    pictures = [picture(LABELS[n % 3], (16 + n, 24), "PNG" if n % 2 else "JPEG") for n in range(9)]
    pictures[4] = b"no picture"
    with modelport.Pipeline.open(pack_colours(tmp_path) / "colours" / "1") as pipeline:
        expected = {
            number: pipeline.answer(pipeline.decode(data))["scores"].tobytes()
            for number, data in enumerate(pictures)
            if number != 4
        }
        written.clear()
        job = Job(1, "encoded", (), [1] * 9, [(INLINE, len(data)) for data in pictures])
        payload = memoryview(b"".join(pictures))
        reply, data = Executor(pipeline, None, memoryview(b"")).run(job, payload)
    # The first of a job says the shape; the others are made where the network reads them.
    assert written == [False] + [True] * 7
    assert [group.count for group in reply.groups] == [4, 1, 4]
    problem = reply.groups[1].problem
    assert problem is not None and isinstance(problem.error(), InputError)
    heads = [[head.name for head in group.outputs] for group in reply.groups if group.outputs]
    scores = heads[0].index("scores")
    first, second = bytes(data[scores]), bytes(data[len(heads[0]) + scores])
    assert first + second == b"".join(expected.values())


def _decided(trials: object) -> None:
    """One trial decides, and natively it is."""
    trials.count, trials.graph, trials.native = 3, 1.0, 0.0  # type: ignore[attr-defined]
