"""How an executor begins: nothing heavy before it has stepped back, and back at its place when it answers."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from modelport.bundle.store import Bundle
from modelport.engine import pool
from modelport.engine.model import LiveModel
from modelport.engine.process import environment
from modelport.engine.settings import EngineSettings

from ..colours import pack_colours
from .test_live import best, opened, until


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


async def killed_while_it_loads(repo: Path, times: int) -> tuple[str, str, str]:
    """Version 2 is loaded beside version 1, and so many of its processes die of nothing that is its fault:
    its state, the reason, and the version that answers."""
    Bundle.open(repo / "colours" / "1").derive(repo / "colours" / "2", {}, version="2")
    async with opened(repo, EngineSettings(executors=1, wide=False), keep=1) as repository:
        await repository.unload("colours", "2")
        await repository.load("colours", "1")

        def children() -> set[int]:
            return {child.pid for child in psutil.Process().children()}

        seen = children()  # servers of other tests are among them
        loading = asyncio.ensure_future(repository.load("colours", "2"))

        def another() -> bool:
            found = children() - seen
            seen.update(found)
            return bool(found)

        for _ in range(times):
            before = set(seen)
            await until(another)
            for pid in seen - before:
                os.kill(pid, 9)
        await asyncio.gather(loading, return_exceptions=True)
        state, reason = repository.entry("colours", "2").standing()
        model = repository.model("colours")
        assert await best(model, "green") == "green"
        return state, reason, model.version


@pytest.mark.skipif(sys.platform == "win32", reason="kills processes")
async def test_a_process_that_dies_while_it_loads_is_replaced(tmp_path: Path) -> None:
    assert await killed_while_it_loads(pack_colours(tmp_path), 1) == ("READY", "", "2")


@pytest.mark.skipif(sys.platform == "win32", reason="kills processes")
async def test_a_version_whose_processes_always_die_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "_LOADING_PAUSES", (0.01, 0.01))
    found = await killed_while_it_loads(pack_colours(tmp_path), 3)
    assert found == ("UNAVAILABLE", "an executor ended before it was ready", "1")


@pytest.mark.parametrize(
    ("said", "theirs"),
    [
        ("", "glibc.malloc.hugetlb=1"),
        ("glibc.malloc.tcache_count=4", "glibc.malloc.tcache_count=4:glibc.malloc.hugetlb=1"),
        ("glibc.malloc.hugetlb=0", "glibc.malloc.hugetlb=0"),
    ],
)
def test_executors_ask_for_huge_pages_unless_the_one_who_started_the_server_said_otherwise(
    said: str, theirs: str
) -> None:
    assert environment({"GLIBC_TUNABLES": said, "HOME": "/"}) == {
        "GLIBC_TUNABLES": theirs,
        "HOME": "/",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }


async def test_a_live_executor_has_that_environment(tmp_path: Path) -> None:
    repo = pack_colours(tmp_path)
    async with opened(repo, EngineSettings(executors=1, wide=False)) as repository:
        told = psutil.Process(repository.pids()[0]).environ()
        assert told["GLIBC_TUNABLES"] == environment(os.environ)["GLIBC_TUNABLES"]
        assert told["OMP_NUM_THREADS"] == "1"
