"""Live models with real executor processes: crashes, swaps, golden cases, memory."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest

from modelport.bundle.store import Bundle
from modelport.engine.model import LiveModel
from modelport.engine.repository import Repository
from modelport.engine.settings import EngineSettings
from modelport.engine.watch import watch
from modelport.errors import BundleError, InputError, NotFound, TooLarge, Unavailable, UnsupportedMedia
from modelport.monitor.exposition import render
from modelport.monitor.snapshot import of_model

from ..colours import LABELS, pack_colours, picture

SETTINGS = EngineSettings(executors=2, wide=False)


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack_colours(tmp_path_factory.mktemp("live"))


@asynccontextmanager
async def opened(
    source: Path, settings: EngineSettings = SETTINGS, keep: int = 1
) -> AsyncIterator[Repository]:
    repository = Repository(source, settings, keep=keep)
    await repository.open()
    try:
        yield repository
    finally:
        await repository.close()


async def until(condition: object, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end, "it did not come about"
        await asyncio.sleep(0.01)


async def best(model: LiveModel, colour: str) -> str:
    answered = await model.answer(picture(colour))
    return str(answered.tensors["labels"][0])


async def test_every_kind_of_question(repo: Path) -> None:
    async with opened(repo) as repository:
        model = repository.model("colours")
        assert [await best(model, colour) for colour in LABELS] == LABELS
        image = np.zeros((9, 7, 3), np.uint8)
        image[..., 1] = 200
        decoded = await model.answer_decoded({"image": image})
        assert decoded.tensors["labels"][0] == "green" and decoded.timing.net > 0
        rows = np.random.default_rng(0).random((5, 3, 8, 8)).astype(np.float32)
        got = await model.infer({"x": rows})
        assert np.allclose(got["logits"], rows.mean((2, 3)) * 20, atol=1e-4)
        assert model.costs()["net"]["best_rows"] >= 1


async def test_what_does_not_fit_is_refused_by_kind(repo: Path) -> None:
    async with opened(repo) as repository:
        model = repository.model("colours")
        for wrong, kind in ((b"nothing", UnsupportedMedia), (picture("red", (200, 200))[:150], InputError)):
            with pytest.raises(kind):
                await model.answer(wrong)
        with pytest.raises(InputError):
            await model.infer({"x": np.zeros((1, 3, 9, 9), np.float32)})
        with pytest.raises(InputError):
            await model.infer({"x": np.zeros((0, 3, 8, 8), np.float32)})
        with pytest.raises(TooLarge):
            model.check_decoded({"image": np.broadcast_to(np.uint8(0), (20_000, 20_000, 3))})
        with pytest.raises(Unavailable):
            await model.answer(picture("red"), deadline=time.monotonic() - 1)


async def test_one_bad_picture_among_many_fails_alone(repo: Path) -> None:
    async with opened(repo) as repository:
        model = repository.model("colours")
        work = [
            model.answer(picture("red", (200, 200))[:150] if n % 7 == 3 else picture(LABELS[n % 3]))
            for n in range(60)
        ]
        done = await asyncio.gather(*work, return_exceptions=True)
        for number, each in enumerate(done):
            if number % 7 == 3:
                assert isinstance(each, InputError)
            else:
                assert not isinstance(each, BaseException), each
                assert each.tensors["labels"][0] == LABELS[number % 3]


async def test_killed_executors_lose_nothing_and_come_back(repo: Path) -> None:
    async with opened(repo) as repository:
        model = repository.model("colours")
        await until(lambda: len(model.pids()) == 2)
        stop = False
        answers = 0

        async def client(number: int) -> None:
            nonlocal answers
            while not stop:
                assert await best(model, LABELS[number % 3]) == LABELS[number % 3]
                answers += 1

        clients = [asyncio.ensure_future(client(number)) for number in range(8)]
        for _ in range(4):
            await asyncio.sleep(0.3)
            before = answers
            os.kill(model.pids()[0], signal.SIGKILL)
            await until(lambda before=before: answers > before + 10)
        stop = True
        await asyncio.gather(*clients)
        await until(lambda: len(model.pids()) == 2 and model.healthy)


async def test_readiness_is_honest_while_nobody_can_answer(repo: Path) -> None:
    async with opened(repo, EngineSettings(executors=1, wide=False)) as repository:
        assert repository.ready()
        os.kill(repository.pids()[0], signal.SIGKILL)
        await until(lambda: not repository.ready())
        assert repository.entry("colours").standing() == ("UNAVAILABLE", "no executor answers")
        metrics = repository.model("colours").metrics
        assert (
            not of_model(metrics).ready
            and b'modelport_model_ready{model="colours",version="1"} 0.0'
            in (render(repository.metrics, "", ())[0])
        )
        await until(repository.ready)
        assert repository.entry("colours").standing() == ("READY", "") and of_model(metrics).ready
        assert await best(repository.model("colours"), "blue") == "blue"


async def test_a_bundle_that_answers_differently_here_never_becomes_ready(repo: Path, tmp_path: Path) -> None:
    folder = tmp_path / "repo"
    shutil.copytree(repo, folder)
    bundle = Bundle.open(folder / "colours" / "1")
    net = bundle.graph("net")
    wrong = np.float32(20.0).tobytes()
    assert net.count(wrong) == 1
    bundle.derive(
        folder / "colours" / "2", {"net.onnx": net.replace(wrong, np.float32(-20.0).tobytes())}, version="2"
    )
    async with opened(folder) as repository:
        entry = repository.entry("colours", "2")
        assert entry.model is None and entry.state == "UNAVAILABLE"
        assert "golden cases do not replay" in entry.reason and "logits" in entry.reason
        # The version before it answers.
        assert repository.model("colours").version == "1"
        with pytest.raises(BundleError, match="golden"):
            await repository.load("colours", "2")


async def test_live_replay_feeds_the_metrics_also_where_executors_are_busy_or_end(repo: Path) -> None:
    async with opened(repo, EngineSettings(executors=1, wide=False)) as repository:
        model = repository.model("colours")
        assert model.metrics.gauges["golden_replay_ok"] == 1.0
        before = model.metrics.counters["golden_ok"]
        assert await model.replay_golden(1)
        asked = [asyncio.ensure_future(best(model, "red")) for _ in range(50)]
        await asyncio.sleep(0)
        assert await model.replay_golden(2)
        assert model.metrics.counters["golden_ok"] == before + 2
        assert set(await asyncio.gather(*asked)) == {"red"}
        (pid,) = model.pids()
        os.kill(pid, signal.SIGSTOP)
        replaying = asyncio.ensure_future(model.replay_golden(0))
        await asyncio.sleep(0)
        os.kill(pid, signal.SIGKILL)
        assert not await asyncio.wait_for(replaying, 20)
        # Nobody is there yet: no case is tried, and nothing is found.
        assert model.pids() == [] and not await model.replay_golden(0)
        assert model.metrics.counters["golden_ok"] == before + 2
        assert "golden_failed" not in model.metrics.counters
        await until(lambda: model.healthy)
        assert await model.replay_golden(0)


async def test_an_executor_that_hangs_on_a_golden_case_is_ended_and_comes_back(repo: Path) -> None:
    settings = EngineSettings(executors=1, wide=False, run_limit=0.5, golden_every=0.5)
    async with opened(repo, settings) as repository:
        model = repository.model("colours")
        (pid,) = model.pids()
        os.kill(pid, signal.SIGSTOP)
        await until(lambda: model.healthy and model.pids() != [pid])
        assert model.metrics.executors == 1


async def test_swaps_under_load_fail_nobody_and_give_their_memory_back(tmp_path: Path) -> None:
    repo = pack_colours(tmp_path)
    first = repo / "colours" / "1"
    settings = EngineSettings(executors=1, wide=False)
    async with opened(repo, settings) as repository:
        stop = False
        seen: set[str] = set()

        async def client(number: int) -> None:
            while not stop:
                model = repository.model("colours")
                seen.add(model.version)
                assert await best(model, LABELS[number % 3]) == LABELS[number % 3]

        clients = [asyncio.ensure_future(client(number)) for number in range(6)]
        here = psutil.Process()
        sizes = []
        for version in range(2, 8):
            old = repository.pids()
            Bundle.open(first).derive(repo / "colours" / str(version), {}, version=str(version))
            await repository.rescan()
            assert repository.model("colours").version == str(version)
            await until(lambda old=old: not any(psutil.pid_exists(pid) for pid in old))
            (executor,) = map(psutil.Process, repository.pids())
            sizes.append(here.memory_info().rss + executor.memory_info().rss)
        stop = True
        await asyncio.gather(*clients)
        assert seen == {str(version) for version in range(1, 8)}
        assert max(sizes[2:]) < 1.1 * min(sizes[2:])
        states = {entry.version: entry.state for entry in repository.entries()}
        assert states.pop("7") == "READY" and set(states.values()) == {"UNAVAILABLE"}


async def test_load_and_unload_by_name(tmp_path: Path) -> None:
    pack_colours(tmp_path)
    repo = pack_colours(tmp_path, version="2")
    async with opened(repo) as repository:
        assert repository.model("colours").version == "2"
        with pytest.raises(NotFound, match="is not loaded"):  # it never was: the policy keeps one
            repository.model("colours", "1")
        await repository.load("colours", "1")
        assert repository.model("colours", "1").version == "1"
        assert repository.model("colours").version == "2"
        await repository.set_default("colours", "1")
        assert repository.model("colours").version == "1"
        await repository.unload("colours", "1")
        assert repository.model("colours").version == "2"
        await repository.unload("colours")
        with pytest.raises(Unavailable, match="unloaded"):
            repository.model("colours")
        await repository.rescan()
        assert repository.entry("colours").model is None, "unloaded stays unloaded"
        await repository.load("colours")
        assert repository.model("colours").version == "2"
        for name, version in (("none", None), ("colours", "9")):
            with pytest.raises(NotFound):
                await repository.load(name, version)


async def test_loading_by_name_goes_by_what_is_on_the_disk_now(tmp_path: Path) -> None:
    pack_colours(tmp_path)
    repo = pack_colours(tmp_path, version="2")
    async with opened(repo, EngineSettings(executors=1, wide=False)) as repository:
        assert repository.model("colours").version == "2"
        shutil.rmtree(repo / "colours" / "2")
        with pytest.raises(NotFound, match="no version '2'"):
            await repository.load("colours", "2")
        await repository.load("colours")
        assert repository.model("colours").version == "1" and repository.versions("colours") == ["1"]
        # What has changed beside the one that was asked for is still a change.
        assert await repository.changed()


async def test_a_new_version_in_the_folder_is_picked_up_and_a_removed_one_let_go(tmp_path: Path) -> None:
    repo = pack_colours(tmp_path)
    async with opened(repo) as repository:
        watching = asyncio.ensure_future(watch(repository, 0.05))
        Bundle.open(repo / "colours" / "1").derive(repo / "colours" / "2", {}, version="2")
        await until(lambda: repository.model("colours").version == "2")
        shutil.rmtree(repo / "colours" / "2")
        await until(lambda: repository.model("colours").version == "1")
        # A copy of a folder makes no new version, and keeps nothing else from being seen.
        shutil.copytree(repo / "colours" / "1", repo / "colours" / "9")
        await until(lambda: any("no new version" in each.reason for each in repository.broken))
        assert repository.model("colours").version == "1"
        shutil.rmtree(repo / "colours" / "9")
        (repo / "colours" / "3").mkdir()
        (repo / "colours" / "3" / "modelport.json").write_text(json.dumps({"format": "nonsense"}))
        await until(lambda: any(each.version == "3" for each in repository.broken))
        assert repository.model("colours").version == "1"
        watching.cancel()


async def test_a_bundle_that_is_copied_slowly_is_taken_when_it_is_whole(tmp_path: Path) -> None:
    repo = pack_colours(tmp_path)
    whole = tmp_path / "elsewhere"
    Bundle.open(repo / "colours" / "1").derive(whole, {}, version="2")
    net = (whole / "net.onnx").read_bytes()
    async with opened(repo) as repository:
        watching = asyncio.ensure_future(watch(repository, 0.05))
        shutil.copytree(whole, repo / "colours" / "2")
        (repo / "colours" / "2" / "net.onnx").write_bytes(net[:100])
        await until(lambda: any("net.onnx" in each.reason for each in repository.broken))
        # As long as it will be, and still not written: it opens, and does not load.
        (repo / "colours" / "2" / "net.onnx").write_bytes(bytes(len(net)))
        await until(lambda: any(entry.failed for entry in repository.entries()))
        assert repository.model("colours").version == "1"
        (repo / "colours" / "2" / "net.onnx").write_bytes(net)
        await until(lambda: repository.model("colours").version == "2")
        watching.cancel()


async def test_a_version_that_is_replaced_in_its_place_is_swapped_like_a_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = pack_colours(tmp_path)
    monkeypatch.chdir(repo.parent)
    place = repo / "colours" / "1"
    bundle = Bundle.open(place)
    net, manifest = bundle.graph("net"), bundle.source.manifest()
    middle = bundle.derive(tmp_path / "2", {}, version="2")
    other = middle.derive(tmp_path / "1", {}, version="1")
    async with opened(Path(repo.name), EngineSettings(executors=1, wide=False)) as repository:
        watching = asyncio.ensure_future(watch(repository, 0.05))
        # File by file, and for a while no bundle at all: the one that was loaded answers on.
        (place / "net.onnx").unlink()
        shutil.copy(tmp_path / "1" / "modelport.json", place / "modelport.json")
        await until(lambda: bool(repository.broken))
        assert await best(repository.model("colours"), "green") == "green"
        (place / "net.onnx").write_bytes(net)
        await until(lambda: repository.model("colours").bundle.digest == other.digest)
        model = repository.model("colours")
        assert await best(model, "blue") == "blue" and repository.ready()
        await until(lambda: len(repository._retiring) == 0)
        assert model.metrics.ready and repository.metrics.models() == [model.metrics]
        # One that is no good takes nobody's place, and the index says why.
        (place / "net.onnx").write_bytes(bytes(len(net)))
        (place / "modelport.json").write_bytes(manifest)
        await until(lambda: "did not load" in repository.entry("colours").reason)
        assert repository.model("colours") is model and await best(model, "red") == "red"
        with pytest.raises(BundleError, match="took its place"):
            await repository.load("colours", "1")
        watching.cancel()


async def test_what_answers_is_replayed_and_comes_back_while_something_else_lies_in_its_place(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = pack_colours(tmp_path) / "colours" / "1"
    async with opened(place.parents[1], EngineSettings(executors=1, wide=False)) as repository:
        model = repository.model("colours")
        for path in list(place.rglob("*")):
            if path.is_file():
                path.write_bytes(b"no bundle")
        await repository.rescan()
        assert repository.broken and repository.model("colours") is model
        assert await model.replay_golden(0) and model.metrics.gauges["golden_replay_ok"] == 1.0
        (pid,) = model.pids()
        os.kill(pid, signal.SIGKILL)
        await until(lambda: model.healthy and model.pids() != [pid])
        assert await best(model, "green") == "green" and list(model.bundle.labels()) == LABELS
        assert await model.replay_golden(1) and model.metrics.gauges["golden_replay_ok"] == 1.0


async def test_a_recording_that_cannot_be_read_is_no_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_more(bundle: Bundle) -> Bundle:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(Bundle, "held", no_more)
    place = pack_colours(tmp_path) / "colours" / "1"
    async with opened(place.parents[1], EngineSettings(executors=1, wide=False)) as repository:
        model = repository.model("colours")
        assert "Too many open files" in caplog.text
        for path in (place / "golden").iterdir():
            path.unlink()
        before = dict(model.metrics.counters)
        assert await model.replay_golden(0)
        assert model.metrics.gauges["golden_replay_ok"] == 1.0 and model.metrics.counters == before
        assert "no golden case of colours was replayed" in caplog.text


async def test_a_replaced_bundle_that_still_drains_is_not_the_one_that_is_counted(tmp_path: Path) -> None:
    repo = pack_colours(tmp_path)
    async with opened(repo, EngineSettings(executors=1, wide=False)) as repository:
        model = repository.model("colours")
        model.metrics.executors = 7  # the one in its place
        model.retire()
        pid = model.pids()[0]
        os.kill(pid, signal.SIGKILL)
        await until(lambda: model.healthy and model.pids() != [pid])
        assert model.metrics.executors == 7
