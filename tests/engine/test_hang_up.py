"""What a repository was told to do is done, though who told it hangs up meanwhile."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import signal
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import psutil
import pytest

from modelport.bundle.store import Bundle
from modelport.engine import pool
from modelport.engine.process import ExecutorProcess
from modelport.engine.repository import Repository
from modelport.engine.settings import EngineSettings
from modelport.engine.watch import watch
from modelport.errors import Unavailable

from ..colours import pack_colours, picture
from .test_live import best, opened, until

ONE = EngineSettings(executors=1, wide=False)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository to copy, with two versions."""
    repo = pack_colours(tmp_path_factory.mktemp("hang_up"))
    Bundle.open(repo / "colours" / "1").derive(repo / "colours" / "2", {}, version="2")
    return repo


@pytest.fixture
def repo(packed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(packed, tmp_path / "repo"))


def listening(repository: Repository) -> list[tuple[str, str, str | None]]:
    """What the other processes are told from now on."""
    told: list[tuple[str, str, str | None]] = []

    async def tell(what: str, name: str, version: str | None) -> None:
        await asyncio.sleep(0.05)
        told.append((what, name, version))

    repository.tell_others = tell
    return told


def processes() -> set[psutil.Process]:
    """The executors, and what other tests left there."""
    return set(psutil.Process().children())


async def hang_up(work: Coroutine[Any, Any, None], seconds: float = 0.0) -> None:
    """Begin `work`, and stop waiting for it."""
    asked = asyncio.ensure_future(work)
    await asyncio.sleep(seconds)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked


async def test_an_unload_frees_everything_and_the_others_hear_of_it(repo: Path) -> None:
    async with opened(repo, ONE, keep=2) as repository:
        told = listening(repository)
        model = repository.model("colours", "1")
        pids = repository.pids()
        os.kill(model.pids()[0], signal.SIGSTOP)
        asked = asyncio.ensure_future(model.answer(picture("red")))
        await until(lambda: any(each.jobs for each in model._scheduler.executors))
        await hang_up(repository.unload("colours"), 0.1)
        os.kill(model.pids()[0], signal.SIGCONT)
        assert (await asked).tensors["labels"][0] == "red"
        await until(lambda: bool(told))
        assert told == [("unload", "colours", None)] and not any(map(psutil.pid_exists, pids))
        assert {each.state for each in repository.entries()} == {"UNAVAILABLE"}


async def test_a_load_answers_and_the_others_hear_of_it(repo: Path) -> None:
    async with opened(repo, ONE) as repository:
        told = listening(repository)
        await hang_up(repository.load("colours", "1"), 0.1)
        assert repository.entry("colours", "1").state == "LOADING"
        await until(lambda: bool(told))
        assert told == [("load", "colours", "1")] and repository.ready()
        assert await best(repository.model("colours", "1"), "green") == "green"
        await hang_up(repository.set_default("colours", "1"))
        await until(lambda: told[1:] == [("set_default", "colours", "1")])


async def test_a_load_that_fails_unheard_is_in_the_log(repo: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with opened(repo, ONE) as repository:
        await hang_up(repository.load("colours", "9"))
        await until(lambda: "has no version '9'" in caplog.text)


async def test_a_newer_version_takes_over_and_the_older_goes(repo: Path) -> None:
    second = repo.parent / "2"
    shutil.move(repo / "colours" / "2", second)
    async with opened(repo, ONE) as repository:
        old = repository.pids()
        shutil.move(second, repo / "colours" / "2")
        await hang_up(repository.rescan(), 0.1)
        await until(lambda: repository.model("colours").version == "2")
        await until(lambda: repository.entry("colours", "1").state == "UNAVAILABLE")
        assert not any(map(psutil.pid_exists, old)) and repository.entry("colours").state == "READY"


async def test_what_was_cut_off_while_it_opened_can_be_opened_again(repo: Path) -> None:
    repository = Repository(repo, ONE)
    before = processes()
    opening = asyncio.ensure_future(repository.open())
    await until(lambda: processes() > before)
    opening.cancel()
    await asyncio.wait([opening])
    assert {each.state for each in repository.entries()} == {"UNAVAILABLE"}
    await until(lambda: processes() == before)
    await repository.open()
    assert repository.ready()
    await repository.close()


async def test_the_end_does_not_wait_for_what_loads(repo: Path) -> None:
    before = processes()
    async with opened(repo, ONE) as repository:
        loading = asyncio.ensure_future(repository.load("colours", "1"))
        await until(lambda: len(processes()) == len(before) + 2)
    with pytest.raises(Unavailable, match="the server stops"):
        await loading
    assert processes() == before


async def test_one_model_that_breaks_the_loading_keeps_no_other_from_it(
    repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Bundle.open(repo / "colours" / "1").derive(repo / "others" / "1", {}, version="1", name="others")
    apply = Repository._apply

    async def broken(self: Repository, name: str, *, swap: bool) -> None:
        if name == "colours":
            raise RuntimeError("of all things")
        await apply(self, name, swap=swap)

    monkeypatch.setattr(Repository, "_apply", broken)
    repository = Repository(repo, ONE)
    with pytest.raises(RuntimeError, match="of all things"):
        await repository.open()
    assert repository.model("others").healthy
    await repository.close()


async def test_watching_goes_on_after_what_nobody_expected(
    repo: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(repo, ONE) as repository:
        calls = 0

        async def changed() -> bool:
            nonlocal calls
            calls += 1
            raise RuntimeError("of all things")

        monkeypatch.setattr(repository, "changed", changed)
        watching = asyncio.ensure_future(watch(repository, 0.01))
        await until(lambda: calls > 2)
        watching.cancel()
        assert "of all things" in caplog.text


async def test_a_version_that_ends_while_its_executor_comes_back_answers_what_waits(repo: Path) -> None:
    async with opened(repo, ONE) as repository:
        model = repository.model("colours")
        (pid,) = model.pids()
        os.kill(pid, signal.SIGSTOP)
        asked = [asyncio.ensure_future(best(model, "blue")) for _ in range(3)]
        await until(lambda: any(each.jobs for each in model._scheduler.executors))
        os.kill(pid, signal.SIGKILL)
        await until(lambda: not model.healthy)
        await repository.unload("colours")
        assert await asyncio.gather(*asked) == ["blue"] * 3
        assert model.pids() == []


async def test_an_executor_that_does_not_start_beside_the_first_is_tried_again(
    repo: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pool, "_LOADING_PAUSES", (0.01, 0.01))
    start, calls = ExecutorProcess.start, 0

    async def no_memory(self: ExecutorProcess, *args: Any, **options: Any) -> None:
        nonlocal calls
        if not options["check"]:
            calls += 1
            if calls < 6:
                raise OSError(errno.ENOMEM, "Cannot allocate memory")
        await start(self, *args, **options)

    monkeypatch.setattr(ExecutorProcess, "start", no_memory)
    async with opened(repo, EngineSettings(executors=2, wide=False)) as repository:
        model = repository.model("colours")
        await until(lambda: model.metrics.executors == 2)
        assert "did not start: " in caplog.text and "did not come back: " in caplog.text
