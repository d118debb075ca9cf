"""What the disk says at a load by name, and whose counts end when a version goes."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from pathlib import Path

import pytest

from modelport.bundle.store import Bundle
from modelport.engine.model import LiveModel
from modelport.engine.settings import EngineSettings
from modelport.errors import BundleError, NotFound, Unavailable

from ..colours import pack_colours, picture
from .test_live import best, opened, until

ONE = EngineSettings(executors=1, wide=False)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository to copy."""
    return pack_colours(tmp_path_factory.mktemp("reload"))


@pytest.fixture
def repo(packed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(packed, tmp_path / "repo"))


async def test_loading_what_is_damaged_on_the_disk_says_so(repo: Path) -> None:
    net = repo / "colours" / "1" / "net.onnx"
    whole = net.read_bytes()
    async with opened(repo, ONE) as repository:
        model = repository.model("colours")
        net.write_bytes(whole[:100])
        for version in (None, "1"):
            with pytest.raises(BundleError, match=r"version 1 is no bundle: .*net\.onnx"):
                await repository.load("colours", version)
        assert repository.model("colours") is model and await best(model, "green") == "green"
        net.write_bytes(whole)
        await repository.load("colours")
        # A newer one that is damaged is what "the newest" means; the others load by their own names.
        (repo / "colours" / "2").mkdir()
        (repo / "colours" / "2" / "modelport.json").write_text("{")
        for version in (None, "2"):
            with pytest.raises(BundleError, match="version 2 is no bundle"):
                await repository.load("colours", version)
        await repository.load("colours", "1")
        assert await best(repository.model("colours"), "red") == "red"
        (repo / "other" / "1").mkdir(parents=True)
        (repo / "other" / "1" / "modelport.json").write_text("{")
        with pytest.raises(BundleError, match="'other' version 1 is no bundle"):
            await repository.load("other")
        with pytest.raises(NotFound):
            await repository.load("another")


async def test_a_version_that_is_loaded_again_while_it_drains_keeps_its_counts(repo: Path) -> None:
    Bundle.open(repo / "colours" / "1").derive(repo / "colours" / "2", {}, version="2")
    async with opened(repo, ONE) as repository:
        await repository.load("colours", "1")
        # The policy lets a version go without waiting for it, and so it may come back while it drains.
        old = repository.model("colours", "1")
        (pid,) = old.pids()
        os.kill(pid, signal.SIGSTOP)
        asked = asyncio.ensure_future(old.answer(picture("red")))
        await until(lambda: any(each.jobs for each in old._scheduler.executors))
        entry = repository.entry("colours", "1")
        repository._retire(entry)
        loading = asyncio.ensure_future(repository.load("colours", "1"))
        await until(lambda: entry.state == "LOADING")
        os.kill(pid, signal.SIGCONT)
        assert (await asked).tensors["labels"][0] == "red"
        await loading
        new = repository.model("colours", "1")
        await until(lambda: len(repository._retiring) == 0)
        assert new is not old and entry.state == "READY"
        assert any(each is new.metrics for each in repository.metrics.models())
        assert new.metrics.ready and new.metrics.executors == 1 and sum(new.metrics.request.counts) == 1


async def test_the_counts_of_what_did_not_load_end_when_it_is_gone(repo: Path) -> None:
    second = repo / "colours" / "2"
    Bundle.open(repo / "colours" / "1").derive(second, {}, version="2")
    (second / "net.onnx").write_bytes(bytes((second / "net.onnx").stat().st_size))
    async with opened(repo, ONE) as repository:
        # As long as the index says why it does not answer, a gauge says that it does not.
        assert {each.version: each.ready for each in repository.metrics.models()} == {"1": True, "2": False}
        shutil.rmtree(second)
        await repository.rescan()
        assert [each.version for each in repository.metrics.models()] == ["1"]


@pytest.mark.parametrize("version", ["1", None])
async def test_a_load_by_name_that_fails_leaves_no_wish_behind(repo: Path, version: str | None) -> None:
    """Other workers are not told of it: this one must not load what they do not, when the file is mended."""
    second, net = repo / "colours" / "2", repo / "colours" / "1" / "net.onnx"
    Bundle.open(repo / "colours" / "1").derive(second, {}, version="2")
    if version is None:  # the newest is the damaged one, and all were unloaded by name
        net = second / "net.onnx"
    whole = net.read_bytes()
    net.write_bytes(bytes(len(whole)))
    async with opened(repo, ONE) as repository:
        if version is None:
            await repository.unload("colours")
        before = [(each.wanted, each.model is not None) for each in repository.entries()]
        with pytest.raises(BundleError, match=f"version {version or 2} did not load"):
            await repository.load("colours", version)
        for mended in (False, True):
            if mended:
                net.write_bytes(whole)
                await repository.rescan()
            assert before == [(each.wanted, each.model is not None) for each in repository.entries()]
        await repository.load("colours", version)
        assert repository.model("colours", version or "2").healthy
        # One that was told by another worker remembers what that one has.
        net.write_bytes(bytes(len(whole)))
        await repository.unload("colours", version or "2")
        with pytest.raises(BundleError):
            await repository.load("colours", version, tell=False)
        assert repository.entry("colours", version or "2").wanted == (True if version else None)


async def test_no_older_version_comes_where_the_newest_was_unloaded_by_name(repo: Path) -> None:
    """Neither at the next look at the folder nor in a worker that starts: the others have none either."""
    Bundle.open(repo / "colours" / "1").derive(repo / "colours" / "2", {}, version="2")
    async with opened(repo, ONE) as repository:
        await repository.unload("colours", "2")
        await repository.rescan()
        assert [each.model for each in repository.entries()] == [None, None]
        assert repository.ready(), "what was unloaded by name is not waited for"
        # A newer one is another matter.
        Bundle.open(repo / "colours" / "1").derive(repo / "colours" / "3", {}, version="3")
        await repository.rescan()
        assert repository.model("colours").version == "3"
        assert [each.model is None for each in repository.entries()] == [True, True, False]


async def test_a_version_that_answers_stays_where_a_newer_one_was_unloaded_by_name(repo: Path) -> None:
    second = repo / "colours" / "2"
    Bundle.open(repo / "colours" / "1").derive(second, {}, version="2")
    net = second / "net.onnx"
    net.write_bytes(bytes(net.stat().st_size))
    async with opened(repo, ONE) as repository:
        assert repository.model("colours").version == "1", "the newer one does not load"
        await repository.unload("colours", "2")
        net.touch()
        await repository.rescan()
        assert repository.model("colours").version == "1" and repository.ready()


async def test_what_a_plan_kept_stays_when_the_plan_ends_and_the_newer_one_was_unloaded(repo: Path) -> None:
    for version in ("2", "3"):
        Bundle.open(repo / "colours" / "1").derive(repo / "colours" / version, {}, version=version)
    plan = ["1", "3"]
    async with opened(repo, ONE) as repository:
        repository.also_wanted = lambda name: plan
        await repository.rescan()
        await repository.unload("colours", "3")
        await repository.rescan()
        plan.clear()
        await repository.rescan()
        assert [each.model is not None for each in repository.entries()] == [True, False, False]
        # As long as nothing newer answers: that takes over from it as ever.
        Bundle.open(repo / "colours" / "1").derive(repo / "colours" / "4", {}, version="4")
        await repository.rescan()
        assert [each.version for each in repository.entries() if each.model] == ["4"]


async def test_a_default_version_that_does_not_answer_is_not_ready(
    repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Bundle.open(repo / "colours" / "1").derive(repo / "colours" / "2", {}, version="2")
    async with opened(repo, ONE) as repository:
        await repository.load("colours", "1")
        await repository.set_default("colours", "1")
        repository.entry("colours", "1").wanted = None  # as a worker that was told the default only
        await repository.unload("colours", "2")
        assert repository.model("colours").version == "1" and repository.ready()
        monkeypatch.setattr(LiveModel, "healthy", False)
        assert not repository.ready()


def versions_of(repo: Path, *versions: str) -> None:
    """More versions, the same as the first."""
    for version in versions:
        Bundle.open(repo / "colours" / "1").derive(repo / "colours" / version, {}, version=version)


@pytest.mark.parametrize("named", ["2", None])
async def test_a_damaged_version_that_was_unloaded_by_name_is_not_loaded_when_it_is_whole(
    repo: Path, named: str | None
) -> None:
    versions_of(repo, "2")
    net = repo / "colours" / "2" / "net.onnx"
    whole = net.read_bytes()
    net.write_bytes(whole[:100])
    async with opened(repo, ONE) as repository:
        assert [each.version for each in repository.broken] == ["2"]
        await repository.unload("colours", named)
        with pytest.raises(NotFound, match="no version '3'"):
            await repository.unload("colours", "3")
        await repository.rescan()
        net.write_bytes(whole)
        await repository.rescan()
        await repository.rescan()
        second = repository.entry("colours", "2")
        assert (second.model, second.wanted, second.reason) == (None, False, "unloaded")
        assert (repository.entry("colours", "1").model is None) == (named is None)
        await repository.load("colours", "2")
        assert repository.model("colours").version == "2"


async def test_a_load_of_the_model_ends_the_unload_of_a_damaged_version(repo: Path) -> None:
    versions_of(repo, "2", "3")
    net = repo / "colours" / "2" / "net.onnx"
    whole = net.read_bytes()
    net.write_bytes(whole[:100])
    async with opened(repo, ONE, keep=0) as repository:
        await repository.unload("colours", "2")
        await repository.load("colours")
        net.write_bytes(whole)
        await repository.rescan()
        assert [each.version for each in repository.entries() if each.model] == ["1", "2", "3"]


async def test_what_was_unloaded_while_it_lay_damaged_stays_so(repo: Path) -> None:
    """It answered from memory still."""
    net = repo / "colours" / "1" / "net.onnx"
    whole = net.read_bytes()
    async with opened(repo, ONE) as repository:
        net.write_bytes(whole[:100])
        await repository.rescan()
        await repository.unload("colours", "1")
        for content in (whole[:50], whole):
            net.write_bytes(content)
            await repository.rescan()
        assert repository.entry("colours").model is None


async def test_callers_are_told_what_there_is_where_no_version_answers(repo: Path) -> None:
    versions_of(repo, "2", "3", "4")
    net = repo / "colours" / "4" / "net.onnx"
    whole = net.read_bytes()
    net.write_bytes(bytes(len(whole)))
    async with opened(repo, ONE) as repository:
        assert repository.model("colours").version == "3"
        await repository.unload("colours", "3")
        with pytest.raises(Unavailable, match=r"'colours' is not ready: version 4: .+; version 3: unloaded$"):
            repository.model("colours")
        # Unloaded too, and mended since: it is unloaded, and not on its way.
        await repository.unload("colours", "4")
        net.write_bytes(whole)
        await repository.rescan()
        with pytest.raises(Unavailable, match=r"version 4: unloaded; version 3: unloaded$"):
            repository.model("colours")
        with pytest.raises(Unavailable, match=r"version 4 is not ready: unloaded$"):
            repository.model("colours", "4")


async def test_a_version_that_is_not_to_be_loaded_is_not_waited_for(repo: Path) -> None:
    versions_of(repo, "2")
    async with opened(repo, ONE) as repository:
        with pytest.raises(NotFound, match="1 is not loaded: not one of the versions to load") as told:
            repository.model("colours", "1")
        assert "--versions 2" in str(told.value)
        assert repository.entry("colours", "1").reason == "", "nothing happened to it"
        await repository.load("colours", "1")
        assert repository.model("colours", "1").healthy


async def test_what_ends_says_which_version_answers_now(repo: Path) -> None:
    versions_of(repo, "2", "3")
    plan = ["1", "2"]
    async with opened(repo, ONE) as repository:
        repository.also_wanted = lambda name: plan
        await repository.rescan()
        plan.remove("2")
        await repository.rescan()
        assert repository.entry("colours", "2").reason == "version 1 took over"
        plan.clear()
        await repository.rescan()
        assert repository.entry("colours", "1").reason == "version 3 took over"
        assert repository.entry("colours", "2").reason == "version 1 took over"


async def test_a_default_version_stays_where_newer_ones_come(repo: Path) -> None:
    versions_of(repo, "2")
    async with opened(repo, ONE) as repository:
        await repository.load("colours", "1")
        assert repository.default("colours") is None
        await repository.set_default("colours", "1")
        versions_of(repo, "3")
        await repository.rescan()
        await repository.load("colours")
        assert repository.model("colours", "3").healthy
        assert (repository.default("colours"), repository.model("colours").version) == ("1", "1")
        await repository.unload("colours", "1")
        assert (repository.default("colours"), repository.model("colours").version) == (None, "3")
