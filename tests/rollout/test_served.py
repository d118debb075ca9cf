"""A rollout in the real server: by its files, by its admin port, through a restart, and by its policy."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from modelport.rollout.plan import Plan
from modelport.rollout.state import load

from ..administration import administration
from ..colours import pack_colours, picture, served

RED = picture("red")


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rollout")
    pack_colours(folder, version="1")
    return pack_colours(folder, version="2")


def modelport(*words: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "modelport", *words, "--json"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    shown: dict[str, Any] = json.loads(done.stdout)
    return shown


def answering(http: httpx.Client, count: int = 20, **headers: str) -> set[str]:
    """The versions that answer `count` requests, every one of which is answered."""
    seen: Counter[str] = Counter()
    for _ in range(count):
        reply = http.post("/predict/colours", content=RED, headers=headers)
        assert reply.status_code == 200 and reply.json()["answer"][0]["label"] == "red"
        seen[reply.json()["version"]] += 1
    return set(seen)


def until(found: Callable[[], Any]) -> Any:
    """Ask until the answer is yes; a server takes a second or two to see a changed file."""
    for _ in range(150):
        if value := found():
            return value
        time.sleep(0.1)
    raise AssertionError("it never came")


@contextmanager
def client(repo: Path, *options: str) -> Iterator[httpx.Client]:
    with served(repo, *options) as (url, _), httpx.Client(base_url=url, timeout=30) as http:
        yield http


def test_by_the_files_and_through_a_restart(repo: Path) -> None:
    model = str(repo / "colours")
    with client(repo) as http:
        assert answering(http) == {"2"}
        modelport(
            "rollout",
            model,
            "--canary",
            "2",
            "--weight",
            "0.5",
            "--header",
            "X-Canary: yes",
            "--sticky",
            "X-User",
        )
        until(lambda: answering(http) == {"1", "2"})
        assert answering(http, **{"X-Canary": "yes"}) == {"2"}
        users = {user: answering(http, 5, **{"X-User": user}) for user in "abcdefghijklmnop"}
        assert all(len(versions) == 1 for versions in users.values())
        assert set.union(*users.values()) == {"1", "2"}
        modelport("rollout", model, "--rollback")
        until(lambda: answering(http) == {"1"})
    with client(repo) as http:
        # The newest version is loaded and is the one that was rolled back: it answers nobody, from the start.
        assert answering(http) == {"1"}
        modelport("rollout", model, "--shadow", "2")
        until(lambda: answering(http) == {"1"} and shadowed(http) > 0)
        line = 'modelport_shadow_agreement_ratio{model="colours",version="2"} 1.0'
        until(lambda: line in http.get("/metrics").text)
        modelport("rollout", model, "--clear")
        until(lambda: answering(http) == {"2"})


def test_going_back_after_a_promotion_takes_no_time(repo: Path) -> None:
    model = str(repo / "colours")
    modelport("rollout", model, "--stable", "1", "--canary", "2", "--weight", "0.1")
    # One model of the repository, with what its rollout says.
    with client(repo / "colours") as http:
        until(lambda: answering(http) == {"1", "2"})
        loaded = figure(http, 'modelport_executors{model="colours",version="1"} ')
        modelport("rollout", model, "--promote")
        until(lambda: answering(http) == {"2"})
        for _ in range(30):
            time.sleep(0.1)
            assert figure(http, 'modelport_executors{model="colours",version="1"} ') == loaded > 0
        modelport("rollout", model, "--rollback")
        until(lambda: answering(http, 3) == {"1"})
        states = {each["state"] for each in http.post("/v2/repository/index").json()}
        assert states == {"READY"}, "both are there"
    modelport("rollout", model, "--clear")


def shadowed(http: httpx.Client) -> float:
    """Requests that the shadow answered as the stable version did."""
    return figure(http, 'modelport_shadow_compared_total{model="colours",result="agreed",version="2"} ')


def figure(http: httpx.Client, name: str) -> float:
    """A sample of /metrics; 0 where it is not there yet."""
    lines = [line for line in http.get("/metrics").text.splitlines() if line.startswith(name)]
    return float(lines[0].removeprefix(name)) if lines else 0.0


def test_who_hung_up_is_dropped_with_the_shadow_and_who_closed_half_is_answered(repo: Path) -> None:
    modelport("rollout", str(repo / "colours"), "--stable", "1", "--shadow", "2")
    asking = (
        b"POST /predict/colours HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(RED) + RED
    )
    name = 'modelport_refused_total{model="colours",reason="cancelled",version="%s"} '
    with served(repo, "--executors", "1") as (url, server), httpx.Client(base_url=url) as http:
        until(lambda: answering(http, 1) == {"1"} and shadowed(http) > 0)
        executors = psutil.Process(server.pid).children()
        address = (http.base_url.host, http.base_url.port)
        for each in executors:
            each.suspend()
        try:
            for _ in range(150):
                with socket.create_connection(address) as sock:
                    sock.sendall(asking)
            half = socket.create_connection(address, 20)
            half.sendall(asking)
            half.shutdown(socket.SHUT_WR)
            until(lambda: figure(http, name % "1") > 10)
            until(lambda: figure(http, name % "2") > 10)
        finally:
            for each in executors:
                each.resume()
        with half, half.makefile("rb") as reply:
            assert b'"label":"red"' in reply.read()
    modelport("rollout", str(repo / "colours"), "--clear")


@contextmanager
def administered(repo: Path, folder: Path) -> Iterator[tuple[httpx.Client, list[str]]]:
    """A server with an admin port, and the words that the command line needs to reach it."""
    admin, key, options = administration(folder)
    with client(repo, *options) as http:
        yield http, ["colours", "--url", admin, "--key", key]


def test_by_the_admin_port(repo: Path, tmp_path: Path) -> None:
    with administered(repo, tmp_path) as (http, words):
        assert modelport("rollout", *words)["versions"] == ["1", "2"]
        policy = ["--auto", "--steps", "0.5,1", "--min-requests", "20", "--min-duration", "0s"]
        policy += ["--max-error-difference", "0.5", "--max-p99-ratio", "0"]
        shown = modelport("rollout", *words, "--canary", "2", *policy, "--reason", "friday")
        assert shown["plan"]["policy"]["min_requests"] == 20
        # Good answers take it all the way, by itself.
        done = Plan(model="colours", stable="2")
        until(lambda: answering(http) and (state := load(repo / "colours")) and state.plan == done)
        shown = modelport("rollout", *words)
        assert shown["plan"] == {"model": "colours", "stable": "2"}
        assert [(line["by"], line["did"]) for line in shown["history"]][-3:] == [
            ("api", "set"),
            ("policy", "advance"),
            ("policy", "promote"),
        ]
        # What the server did is in the file, and the file's commands see it.
        assert modelport("rollout", str(repo / "colours"))["history"] == shown["history"]
        # Nobody without the key, and nobody on the public port.
        path = "/api/models/colours/rollout"
        assert httpx.put(words[2] + path, json={"stable": "1"}).status_code == 401
        assert http.put(path, json={"stable": "1"}).status_code in (404, 405)
        modelport("rollout", *words, "--clear")


def test_every_worker_shows_and_goes_by_a_change_that_was_answered(repo: Path, tmp_path: Path) -> None:
    admin, key, options = administration(tmp_path)
    url, headers = f"{admin}/api/models/colours/rollout", {"Authorization": f"Bearer {key}"}

    def asked(method: str, path: str = "", *, seen: str = "*", **body: Any) -> httpx.Response:
        """A new connection each time: whichever worker takes it."""
        more = {"If-Match": seen, "Content-Type": "application/json"}
        words = json.dumps(body).encode() if method != "GET" else None
        reply = httpx.request(method, url + path, headers=headers | more, content=words, timeout=30)
        assert reply.status_code == 200, reply.text
        return reply

    def versions() -> set[str]:
        replies = [httpx.post(f"{public}/predict/colours", content=RED, timeout=30) for _ in range(20)]
        return {each.json()["version"] for each in replies}

    canary = {"version": "2", "weight": 0.5}
    with served(repo, "--workers", "2", "--executors", "1", *options) as (public, _):
        tag = asked("GET").headers["etag"]
        for method, path, body in (
            ("PUT", "", {"stable": "1", "canary": canary}),
            ("POST", "/promote", {}),
            ("POST", "/rollback", {}),
            ("DELETE", "", {}),
        ):
            changed = asked(method, path, seen=tag, **body)
            shown = [asked("GET") for _ in range(20)]
            assert {each.headers["etag"] for each in shown} == {changed.headers["etag"]} != {tag}
            assert all(each.json()["plan"] == changed.json()["plan"] for each in shown)
            tag = changed.headers["etag"]
        asked("PUT", stable="1")
        until(lambda: versions() == {"1"})
        asked("DELETE")
        assert versions() == {"2"}


def test_what_a_plan_over_the_admin_port_names_is_loaded_though_no_folder_is_watched(
    repo: Path, tmp_path: Path
) -> None:
    admin, key, options = administration(tmp_path)
    with client(repo, "--watch", "0", *options) as http:
        words = ["colours", "--url", admin, "--key", key]
        assert answering(http) == {"2"}
        modelport("rollout", *words, "--stable", "1")
        until(lambda: answering(http) == {"1"})
        modelport("rollout", *words, "--clear")
