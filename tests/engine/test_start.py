"""How an executor begins: nothing heavy before it has stepped back, and back at its place when it answers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from modelport.bundle.store import Bundle
from modelport.engine.model import LiveModel
from modelport.engine.settings import EngineSettings

from ..colours import pack_colours
from .test_live import best, opened


@asynccontextmanager
async def swapped(folder: Path, settings: EngineSettings) -> AsyncIterator[tuple[int, LiveModel]]:
    """The priority of those that answered before a swap, and the model that answers after it."""
    repo = pack_colours(folder)
    async with opened(repo, settings) as repository:
        first = psutil.Process(repository.pids()[0]).nice()
        Bundle.open(repo / "colours" / "1").derive(repo / "colours" / "2", {}, version="2")
        await repository.rescan()
        yield first, repository.model("colours")


def test_nothing_heavy_is_imported_before_a_loading_executor_has_stepped_back() -> None:
    said = subprocess.run(
        [sys.executable, "-c", "import sys, modelport.engine.start; print(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    modules = set(said.stdout.split())
    assert "modelport.engine.start" in modules
    assert not modules & {"numpy", "onnx", "onnxruntime", "msgspec", "PIL", "asyncio"}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="priorities of threads are Linux's")
async def test_executors_of_a_swap_load_behind_those_that_answer_and_then_answer_beside_them(
    tmp_path: Path,
) -> None:
    async with swapped(tmp_path, EngineSettings(executors=2, wide=False)) as (first, model):
        assert model.version == "2" and len(model.pids()) == 2 and await best(model, "green") == "green"
        for pid in model.pids():
            assert psutil.Process(pid).nice() == first
            times = psutil.Process(pid).cpu_times()
            # What was done at the priority of those that answer: little of what loading takes.
            with open(f"/proc/{pid}/task/{pid}/stat") as file:
                user, system = map(int, file.read().rpartition(") ")[2].split()[11:13])
            assert (user + system) / os.sysconf("SC_CLK_TCK") < (times.user + times.system) / 2


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="only root may raise a priority")
async def test_threads_that_were_made_while_loading_answer_at_the_priority_of_the_others(
    tmp_path: Path,
) -> None:
    async with swapped(tmp_path, EngineSettings(executors=1, wide=True)) as (first, model):
        (pid,) = model.pids()
        threads = [int(name) for name in os.listdir(f"/proc/{pid}/task")]
        assert {os.getpriority(os.PRIO_PROCESS, thread) for thread in threads} == {first}
        assert len(threads) > 1
