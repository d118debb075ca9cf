"""A network that fails on some rows: who sent them hears of it, and those who ran with them have answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import modelport
from modelport.engine.model import LiveModel
from modelport.engine.repository import Repository
from modelport.engine.settings import EngineSettings
from modelport.engine.wire import INLINE, Job, Reply, TensorHead
from modelport.errors import ModelFailed

TABLE = np.arange(32, dtype=np.float32).reshape(16, 2)
OUTSIDE = 1000


@pytest.fixture
async def model(tmp_path: Path) -> AsyncIterator[LiveModel]:
    """Row x of a table of 16, by a real executor; one x outside of it fails the run of a whole batch."""
    nodes = [
        helper.make_node("Cast", ["x"], ["numbers"], to=TensorProto.INT64),
        helper.make_node("Reshape", ["numbers", "flat"], ["rows"]),
        helper.make_node("Gather", ["table", "rows"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "table",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 2])],
        [
            numpy_helper.from_array(TABLE, "table"),
            numpy_helper.from_array(np.array([-1], np.int64), "flat"),
        ],
    )
    source = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(source, tmp_path / "table.onnx")
    modelport.pack(tmp_path / "table.onnx", out=tmp_path / "repo", name="table", recipe="raw")
    repository = Repository(tmp_path / "repo", EngineSettings(executors=1, wide=False))
    await repository.open()
    yield repository.model("table")
    await repository.close()


@pytest.mark.parametrize("kind", ["net", "rows"])
async def test_a_batch_is_halved_until_the_bad_rows_are_alone(model: LiveModel, kind: str) -> None:
    (executor,) = model._scheduler.executors
    numbers = np.array([3, 1, 4, OUTSIDE, 5, 9, 2, 6], np.float32)
    heard: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
    head = TensorHead("x", "float32", (1,))
    job = Job(-1, kind, (head,), [1] * 8, [(INLINE, 4)] * 8)  # type: ignore[arg-type]
    executor.send(job, [number.tobytes() for number in numbers], heard.set_result)
    groups = (await asyncio.wait_for(heard, 20)).groups
    assert [each.count for each in groups] == [2, 1, 1, 4]
    assert [each.problem and each.problem.kind for each in groups] == [None, None, "ModelFailed", None]
    assert [head.shape for each in groups for head in each.outputs] == [(2, 2), (1, 2), (4, 2)]


async def test_who_sent_a_bad_row_hears_of_it_and_nobody_else(model: LiveModel) -> None:
    numbers = [OUTSIDE if at % 7 == 3 else at % 16 for at in range(100)]
    work = [model.infer({"x": np.array([[number]], np.float32)}) for number in numbers]
    # Rows of one caller stand and fall together.
    work.append(model.infer({"x": np.array([[1], [OUTSIDE], [2]], np.float32)}))
    *answers, several = await asyncio.gather(*work, return_exceptions=True)
    for number, answer in zip(numbers, answers, strict=True):
        if number == OUTSIDE:
            assert isinstance(answer, ModelFailed)
        else:
            assert not isinstance(answer, BaseException), answer
            assert answer["y"].tolist() == [TABLE[number].tolist()]
    assert isinstance(several, ModelFailed)
    assert model.healthy and max(model.metrics.batches) > 7, "they ran together"
