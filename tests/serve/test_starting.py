"""A server whose models take long to load: it says so, and looks after its connections meanwhile."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psutil
import pytest
from click.testing import CliRunner

from modelport.bundle.store import Bundle
from modelport.cli.main import root
from modelport.errors import UsageError
from modelport.rollout.change import set_plan
from modelport.rollout.plan import Plan
from modelport.rollout.state import change as change_rollout

from ..colours import pack_colours, picture

T = TypeVar("T")

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="stops processes by signals")


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two versions."""
    repo = pack_colours(tmp_path_factory.mktemp("starting"))
    Bundle.open(repo / "colours" / "1").derive(repo / "colours" / "2", {}, version="2")
    return repo


@contextmanager
def starting(repo: Path, log: Path, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-P", "-m", "modelport", "serve", str(repo), "--port", "0", "--json"]
    with log.open("wb") as lines:
        server = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=lines)
        try:
            yield server
        finally:
            children = psutil.Process(server.pid).children() if server.poll() is None else []
            server.terminate()
            for child in children:
                child.send_signal(signal.SIGCONT)
            assert server.wait(60) is not None
            assert server.stdout is not None
            server.stdout.close()


def until(found: Callable[[], T], seconds: float = 60.0) -> T:
    end = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.005)
    return value


def stopped_executor(server: subprocess.Popen[bytes], known: set[int]) -> psutil.Process:
    """The next executor that the server starts, kept from loading."""
    children = psutil.Process(server.pid).children

    def begun(child: psutil.Process) -> bool:
        # Before its program is there, the server waits for it inside of fork.
        with contextlib.suppress(psutil.Error):
            return child.pid not in known and any("modelport.engine" in word for word in child.cmdline())
        return False

    (executor,) = until(lambda: [each for each in children() if begun(each)])
    executor.send_signal(signal.SIGSTOP)
    return executor


def swept(address: tuple[str, int]) -> None:
    """A connection that says nothing is closed when its time is over."""
    with socket.create_connection(address, timeout=30) as idle:
        assert idle.recv(1) in (b"", b"H")


def told(server: subprocess.Popen[bytes]) -> dict[str, Any]:
    assert server.stdout is not None
    found: dict[str, Any] = json.loads(server.stdout.readline())
    return found


def test_it_listens_at_once_and_is_honest_about_what_it_cannot_answer_yet(repo: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with starting(repo, log, "--executors", "1", "--header-timeout", "1s") as server:
        executor = stopped_executor(server, set())
        (url,) = until(lambda: re.findall(r"(http://\S+) listens and loads model colours\n", log.read_text()))
        with httpx.Client(base_url=url, timeout=30) as http:
            assert http.get("/v2/health/live").status_code == 200
            assert http.get("/v2/health/ready").status_code == 503
            assert http.get("/v2/models/colours/ready").status_code == 503
            reply = http.post("/predict/colours", content=picture("red"))
            assert reply.status_code == 503 and "loading" in reply.json()["error"]
            assert int(reply.headers["retry-after"]) >= 1
            assert http.post("/predict/none", content=b"x").status_code == 404
            swept((http.base_url.host, http.base_url.port or 0))
            executor.send_signal(signal.SIGCONT)
            assert told(server)["url"] == url
            assert http.get("/v2/health/ready").status_code == 200
            assert http.post("/predict/colours", content=picture("red")).json()["version"] == "2"
            # A rollout that needs another version loads it, and keeps nothing else waiting.
            known = {each.pid for each in psutil.Process(server.pid).children()}
            plan = ["rollout", str(repo / "colours"), "--canary", "1", "--weight", "0.5"]
            done = CliRunner().invoke(root, plan)
            assert done.exit_code == 0, done.output
            executor = stopped_executor(server, known)
            swept((http.base_url.host, http.base_url.port or 0))
            assert http.post("/predict/colours", content=picture("red")).json()["version"] == "2"
            executor.send_signal(signal.SIGCONT)
            until(lambda: http.get("/v2/models/colours/versions/1/ready").status_code == 200)
        server.terminate()
        assert server.wait(60) == 0


def test_who_asks_while_the_stable_version_loads_gets_no_other_ones_answer(
    repo: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    copy = shutil.copytree(repo, tmp_path / "repo")
    change_rollout(
        copy / "colours", lambda state: set_plan(state, Plan(model="colours", stable="1"), now=1.0, by="cli")
    )
    with starting(copy, log, "--executors", "1") as server:
        executor = stopped_executor(server, set())
        url = until(lambda: re.search(r"(http://\S+) listens", log.read_text()))[1]
        with httpx.Client(base_url=url, timeout=30) as http:
            assert http.get("/v2/health/ready").status_code == 503
            assert http.post("/predict/colours", content=picture("red")).status_code == 503
            executor.send_signal(signal.SIGCONT)
            versions = set()
            for _ in range(200):
                reply = http.post("/predict/colours", content=picture("red"))
                ready = http.get("/v2/health/ready").status_code == 200
                if reply.status_code == 200:
                    versions.add(reply.json()["version"])
                    loaded = [each["state"] for each in http.post("/v2/repository/index").json()]
                    if ready and loaded == ["READY", "READY"]:
                        break
                time.sleep(0.02)
            assert versions == {"1"} and ready, "version 2 is the newest, and answers nobody"


def test_it_stops_at_once_while_it_loads(repo: Path, tmp_path: Path) -> None:
    with starting(repo, tmp_path / "log", "--executors", "1") as server:
        stopped_executor(server, set())
        server.terminate()
        assert server.wait(60) == 0


def test_a_port_that_is_taken_is_told_before_anything_loads(repo: Path, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        with starting(repo, tmp_path / "log", "--grpc-port", port) as server:
            assert server.wait(60) == 2
        said = (tmp_path / "log").read_text()
        assert "cannot serve gRPC on" in said and "answers" not in said


@pytest.mark.parametrize("option", ["--grpc-port", "--admin-port"])
def test_several_workers_share_ports_that_are_named(repo: Path, tmp_path: Path, option: str) -> None:
    options = [option, "0", "--workers", "2", "--port", "0"]
    if option == "--admin-port":
        keys = tmp_path / "keys.json"
        made = CliRunner().invoke(root, ["keys", "add", "ops", "--scope", "admin", "--file", str(keys)])
        assert made.exit_code == 0, made.output
        options += ["--keys", str(keys)]
    done = CliRunner().invoke(root, ["serve", str(repo), *options])
    assert isinstance(done.exception, UsageError) and f"{option} 0 takes a free port" in str(done.exception)


def test_several_workers_say_where_they_answer_grpc(repo: Path, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path / "log"
    options = ["--workers", "2", "--executors", "1", "--grpc-port", str(port)]
    with starting(repo, log, *options) as server:
        assert server.stdout is not None
        assert json.loads(server.stdout.readline())["grpc"] == f"127.0.0.1:{port}", log.read_text()
