"""Several workers on one port: each is kept running, and what one is told holds in all of them."""

from __future__ import annotations

import asyncio
import re
import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import msgspec
import psutil
import pytest

from modelport.engine.repository import Repository
from modelport.engine.settings import EngineSettings
from modelport.errors import ModelportError
from modelport.monitor.metrics import Metrics
from modelport.serve import workers
from modelport.serve.settings import ServeSettings
from modelport.serve.siblings import Siblings, _Counted

from ..administration import administration
from ..colours import pack_colours, picture, served

RED = picture("red")
SETTINGS = EngineSettings(executors=1, wide=False)


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("workers")
    pack_colours(folder, name="other")
    pack_colours(folder, version="1")
    return pack_colours(folder, version="2")


# -- kept running --------------------------------------------------------------------------------------------


def test_the_pause_before_another_start_grows_up_to_half_a_minute() -> None:
    assert [workers.pause(failures) for failures in (0, 1, 3)] == [0.2, 0.4, 1.6]
    assert {workers.pause(failures) for failures in (8, 1024, 10**9)} == {30.0}


async def test_a_worker_that_ends_again_and_again_is_started_again_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paused: list[int] = []

    def pause(failures: int) -> float:
        paused.append(failures)
        if len(paused) == 1200:
            supervisor._stopping.set()
        return real(failures) * 0.0

    async def ended(number: int, first: asyncio.Future[list[workers.State]]) -> int:
        if not first.done():
            first.set_result([])
        return 1

    real = workers.pause
    supervisor = workers._Supervisor(tmp_path, ServeSettings(workers=2), tmp_path, lambda states: None)
    monkeypatch.setattr(workers, "pause", pause)
    monkeypatch.setattr(supervisor, "_once", ended)
    async with asyncio.timeout(60):
        await supervisor._keep(0, asyncio.get_running_loop().create_future())
    # Each time counts as one more, so that the pauses grow; and none of them ends the keeper.
    assert paused == list(range(1, 1201)) and supervisor._failed == 0


def test_the_figures_are_of_the_processes_of_all_workers(repo: Path) -> None:
    with served(repo / "other", "--workers", "2", "--executors", "1") as (url, _):
        found: dict[str, list[Any]] = {name: [] for name in ("server", "executor", "cpu")}
        for _ in range(10):  # a new connection each: whichever worker is asked
            text = httpx.get(f"{url}/metrics", timeout=30).text
            for role in ("server", "executor"):
                found[role] += re.findall(rf'^modelport_processes{{role="{role}"}} (\S+)$', text, re.M)
            cpu = re.findall(r'^modelport_processes_cpu_seconds_total{role="server"} (\S+)$', text, re.M)
            found["cpu"] += map(float, cpu)
        assert found["server"] == found["executor"] == ["2.0"] * 10
        assert found["cpu"] == sorted(found["cpu"]), "a counter never falls"
        for _ in range(10):
            assert httpx.post(f"{url}/predict/other", content=RED, timeout=30).status_code == 200
        for _ in range(10):
            (stats,) = httpx.get(f"{url}/v2/models/other/stats", timeout=30).json()["model_stats"]
            assert stats["inference_stats"]["success"]["count"] == 10


def test_no_counter_falls_when_a_worker_is_killed(repo: Path) -> None:
    with served(repo / "other", "--workers", "2", "--executors", "1") as (url, process):

        def counted(series: str) -> float:
            text = httpx.get(f"{url}/metrics", timeout=30).text
            return sum(map(float, re.findall(rf"^{series} (\S+)$", text, re.M)))

        def figures() -> tuple[float, ...]:
            return (
                counted(r'modelport_requests_total{model="other",outcome="answered",version="1"}'),
                counted(r'modelport_refused_total{model="",reason="not_found",version=""}'),
                counted(r'modelport_processes_cpu_seconds_total{role="server"}'),
            )

        for _ in range(40):  # a new connection each, so that both have some
            httpx.post(f"{url}/predict/other", content=RED, timeout=30)
            httpx.post(f"{url}/predict/nobody", content=RED, timeout=30)
        seen = [figures()]
        assert seen[0][:2] == (40, 40)
        for _ in range(2):  # the second time perhaps the one that was started again
            psutil.Process(process.pid).children()[-1].kill()
            for _ in range(30):
                with suppress(httpx.TransportError):  # it was on its way to the one that is gone
                    seen.append(figures())
                time.sleep(0.1)
            until(lambda: counted(r'modelport_processes{role="executor"}') == 2)
        for before, after in pairwise(seen):
            assert all(b <= a for b, a in zip(before, after, strict=True)), (before, after)
        assert {each[:2] for each in seen} == {(40, 40)}
        httpx.post(f"{url}/predict/other", content=RED, timeout=30)
        assert [figures()[0] for _ in range(10)] == [41] * 10


def test_what_another_release_wrote_down_is_not_gone_on_from(tmp_path: Path) -> None:
    siblings = Siblings(tmp_path, 0, 2)
    counted = _Counted(Metrics().dump(), [])
    file = tmp_path / "0.counted"
    assert siblings._kept(0) is None
    file.write_bytes(msgspec.msgpack.encode(counted))
    assert siblings._kept(0) == counted
    file.write_bytes(msgspec.msgpack.encode(msgspec.structs.replace(counted, release="0.0.1")))
    assert siblings._kept(0) is None


def test_the_statistics_of_grpc_are_of_all_workers(repo: Path) -> None:
    grpc = pytest.importorskip("grpc")
    from modelport.protos import open_inference as oi

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = ("--workers", "2", "--executors", "1", "--grpc-port", str(port))
    with served(repo / "other", *options) as (url, _):
        for _ in range(20):  # a new connection each, so that both have some
            assert httpx.post(f"{url}/predict/other", content=RED, timeout=30).status_code == 200
        found = set()
        for number in range(10):
            # A pool of its own for each, or all would share one connection.
            own = (("grpc.use_local_subchannel_pool", 1), ("grpc.primary_user_agent", str(number)))
            with grpc.insecure_channel(f"127.0.0.1:{port}", options=own) as channel:
                ask = channel.unary_unary(
                    "/inference.GRPCInferenceService/ModelStatistics",
                    request_serializer=oi.ModelStatisticsRequest.SerializeToString,
                    response_deserializer=oi.ModelStatisticsResponse.FromString,
                )
                (stats,) = ask(oi.ModelStatisticsRequest(name="other"), timeout=30).model_stats
                found.add(stats.inference_stats.success.count)
        assert found == {20}


# -- what one is told ----------------------------------------------------------------------------------------


def until(found: Callable[[], Any], seconds: float = 60.0) -> Any:
    end = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < end, "it never came"
        time.sleep(0.1)
    return value


class Told:
    """A server of two workers, and what it is told on its port for administration."""

    def __init__(self, url: str, process: subprocess.Popen[bytes], admin: str, key: str) -> None:
        self.url, self.process = url, process
        self._admin, self._key = admin, {"Authorization": f"Bearer {key}"}

    def __call__(self, method: str, path: str, **body: Any) -> None:
        reply = httpx.request(method, self._admin + path, headers=self._key, timeout=60, json=body)
        assert reply.status_code == 200, reply.text

    def answers(self, model: str) -> set[str | int]:
        """The versions that answer for a model's bare name, or statuses; every worker is asked."""
        found: set[str | int] = set()
        for _ in range(40):  # a new connection each
            reply = httpx.post(f"{self.url}/predict/{model}", content=RED, timeout=30)
            found.add(reply.json()["version"] if reply.status_code == 200 else reply.status_code)
        return found

    def workers(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children()

    def kill_one(self) -> None:
        """End a worker, and wait until another one is there in its place and takes connections."""
        before = {each.pid for each in self.workers()}
        self.workers()[0].kill()
        port = int(self.url.rpartition(":")[2])

        def back() -> bool:
            pids = {each.pid: each for each in self.workers()}
            new = [each for pid, each in pids.items() if pid not in before]
            return len(pids) == 2 and any(
                c.status == psutil.CONN_LISTEN and c.laddr.port == port
                for each in new
                for c in each.net_connections()
            )

        until(back)


@contextmanager
def told(repo: Path, folder: Path) -> Iterator[Told]:
    admin, key, options = administration(folder)
    with served(repo, "--workers", "2", "--executors", "1", *options) as (url, process):
        yield Told(url, process, admin, key)


def test_a_worker_that_comes_back_knows_what_was_loaded_unloaded_and_made_the_default(
    repo: Path, tmp_path: Path
) -> None:
    with told(repo, tmp_path) as server:
        load = "/v2/repository/models/{}/{}"
        server("POST", load.format("other", "unload"))
        server("POST", load.format("colours", "load"), parameters={"version": "1"})
        server("PUT", "/models/colours/1/set-default")
        for _ in range(2):  # then the worker that was told itself is another one as well
            server.kill_one()
            assert server.answers("other") == {503} and server.answers("colours") == {"1"}
        server("POST", load.format("other", "load"))
        server("POST", load.format("colours", "unload"), parameters={"version": "1"})
        server.kill_one()
        assert server.answers("other") == {"1"} and server.answers("colours") == {"2"}


def test_a_worker_comes_back_though_every_model_was_unloaded(repo: Path, tmp_path: Path) -> None:
    with told(repo / "other", tmp_path) as server:
        server("POST", "/v2/repository/models/other/unload")
        server.kill_one()
        assert server.answers("other") == {503}
        server("POST", "/v2/repository/models/other/load")
        assert server.answers("other") == {"1"}


@asynccontextmanager
async def beside(
    source: Path, folder: Path, number: int, **options: float
) -> AsyncIterator[tuple[Repository, Siblings]]:
    """Worker `number` of two, without its server: it has loaded, and not caught up yet."""
    repository = Repository(source, SETTINGS)
    siblings = Siblings(folder, number, 2, **options)
    await repository.look()
    await siblings.open(repository)
    await repository.open()
    try:
        yield repository, siblings
    finally:
        siblings.close()
        await repository.close()


async def test_what_another_worker_does_not_do_is_said_and_can_be_asked_again(
    repo: Path, tmp_path: Path
) -> None:
    shutil.copytree(repo / "colours" / "2", tmp_path / "repo" / "colours" / "2")
    async with (
        beside(repo / "colours", tmp_path, 0) as (one, its),
        beside(tmp_path / "repo", tmp_path, 1) as (other, others),
    ):
        await its.catch_up()
        await others.catch_up()
        with pytest.raises(
            ModelportError, match="not by all: worker 1: model 'colours' has no ver"
        ) as caught:
            await one.load("colours", "1")
        assert caught.value.http_status == 500 and one.model("colours", "1").healthy
        shutil.copytree(repo / "colours" / "1", tmp_path / "repo" / "colours" / "1")
        await one.load("colours", "1")
        assert other.model("colours", "1").healthy


async def test_a_worker_that_starts_knows_which_damaged_version_was_unloaded(
    repo: Path, tmp_path: Path
) -> None:
    shutil.copytree(repo / "colours", tmp_path / "repo" / "colours")
    net = tmp_path / "repo" / "colours" / "2" / "net.onnx"
    whole = net.read_bytes()
    net.write_bytes(whole[:100])
    async with beside(tmp_path / "repo", tmp_path, 0) as (one, its):
        await its.catch_up()
        await one.unload("colours", "2")
        async with beside(tmp_path / "repo", tmp_path, 1) as (other, others):
            await others.catch_up()
            net.write_bytes(whole)
            for each in (one, other):
                await each.rescan()
                assert each.model("colours").version == "1"
                assert each.entry("colours", "2").reason == "unloaded"
            await one.load("colours", "2")
            assert other.model("colours").version == "2"


async def test_a_load_that_fails_is_the_same_in_all_workers_when_the_file_is_mended(
    repo: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(repo / "colours", tmp_path / "repo" / "colours"))
    net = folder / "1" / "net.onnx"
    whole = net.read_bytes()
    net.write_bytes(bytes(len(whole)))
    async with (
        beside(folder.parent, tmp_path, 0) as (one, its),
        beside(folder.parent, tmp_path, 1) as (other, others),
    ):
        await its.catch_up()
        await others.catch_up()
        with pytest.raises(ModelportError, match="version 1 did not load"):
            await one.load("colours", "1")
        net.write_bytes(whole)
        for each in (one, other):
            await each.rescan()
            assert [entry.model is not None for entry in each.entries()] == [False, True]
        await one.load("colours", "1")
        assert all(entry.model for each in (one, other) for entry in each.entries())


@pytest.mark.parametrize("answers", [True, False])
async def test_a_worker_that_starts_has_what_the_others_have_where_a_version_was_unloaded(
    repo: Path, tmp_path: Path, answers: bool
) -> None:
    """The older version answers in both, or in none."""
    changing = Path(shutil.copytree(repo / "colours", tmp_path / "repo" / "colours")).parent
    net = changing / "colours" / "2" / "net.onnx"
    whole = net.read_bytes()
    if answers:
        net.write_bytes(bytes(len(whole)))
    async with beside(changing, tmp_path, 0) as (one, its):
        await its.catch_up()
        await one.unload("colours", "2")
        net.write_bytes(whole)
        async with beside(changing, tmp_path, 1) as (other, others):
            await others.catch_up()
            for each in (one, other):
                await each.rescan()
                assert [entry.model is not None for entry in each.entries()] == [answers, False]
                assert each.ready()
            # The second was told once what the first has: from now on it has its own.
            await one.load("colours")
            await one.unload("colours", "2")
            for each in (one, other):
                await each.rescan()
                assert [entry.model for entry in each.entries()] == [None, None]


async def test_a_worker_that_does_not_come_to_it_is_not_waited_for_for_ever(
    repo: Path, tmp_path: Path
) -> None:
    async with (
        beside(repo / "other", tmp_path, 0, patience=0.5) as (one, its),
        beside(repo / "other", tmp_path, 1) as (other, _),
    ):
        await its.catch_up()
        with pytest.raises(ModelportError, match=r"not by all: worker 1 has not answered for 0\.5 s\. Ask"):
            await one.unload("other")
        assert one.entry("other").wanted is False and other.entry("other").wanted is None


async def test_what_is_told_while_a_worker_starts_is_done_before_it_listens(
    repo: Path, tmp_path: Path
) -> None:
    changing = tmp_path / "repo"
    shutil.copytree(repo, changing)
    shutil.move(changing / "colours" / "2", tmp_path / "2")
    async with beside(changing, tmp_path, 0) as (one, its):
        await its.catch_up()
        await one.set_default("colours", "1")
        shutil.move(tmp_path / "2", changing / "colours" / "2")
        await one.rescan()
        async with beside(changing, tmp_path, 1) as (other, others):
            telling = asyncio.ensure_future(one.unload("other"))
            await asyncio.sleep(0.2)
            assert not telling.done()
            await others.catch_up()
            await telling
            assert other.entry("other").model is None
            # The default is loaded as long as it is that, and beside it the newest.
            for each in (one, other):
                assert each.model("colours").version == "1" and each.model("colours", "2").healthy
            await one.set_default("colours", None)
            await other.rescan()
            assert other.model("colours").version == "2" and other.entry("colours", "1").model is None
