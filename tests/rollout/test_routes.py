"""The admin routes, and `modelport rollout --url` against a real server of them."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.testclient import TestClient

from modelport.cli import main
from modelport.engine.traffic import Traffic
from modelport.errors import ModelportError
from modelport.rollout.plan import Plan
from modelport.rollout.state import FILE
from modelport.serve import rollout

from .servers import Models, traffic_of

PATH = "/api/models/m/rollout"
JSON = {"Content-Type": "application/json"}


async def refused(request: Request, problem: Exception) -> JSONResponse:
    assert isinstance(problem, ModelportError)
    return JSONResponse({"error": str(problem)}, problem.http_status)


@pytest.fixture
def app(traffic: Traffic) -> Starlette:
    app = Starlette(routes=rollout.ADMIN_ROUTES, exception_handlers={ModelportError: refused})
    app.state.traffic = traffic
    return app


@pytest.fixture
async def http(app: Starlette) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        yield client


async def test_a_rollout_over_http(http: httpx.AsyncClient, traffic: Traffic) -> None:
    empty = await http.get(PATH)
    assert empty.json()["plan"] is None and empty.headers["etag"] == '"0"'
    assert empty.headers["cache-control"] == "no-store"
    body = {"stable": "1", "canary": {"version": "2", "weight": 1}, "reason": "friday"}
    put = await http.put(PATH, json=body)
    assert put.status_code == 200 and put.headers["etag"] == '"1"'
    shown = put.json()
    assert shown["plan"] == {"model": "m", "stable": "1", "canary": {"version": "2", "weight": 1.0}}
    assert shown["history"][0]["reason"] == "friday" and shown["history"][0]["by"] == "api"
    assert [(row["version"], row["role"]) for row in shown["seen"]] == [("1", "stable"), ("2", "canary")]
    assert traffic.route("m", {}, None) == ("2", None)
    promoted = await http.post(PATH + "/promote", headers=JSON)
    assert promoted.json()["plan"] == {"model": "m", "stable": "2"}
    back = await http.post(PATH + "/rollback", json={"reason": "slow"})
    assert back.json()["plan"]["stable"] == "1" and back.json()["history"][-1]["reason"] == "slow"
    gone = await http.delete(PATH)
    assert gone.json()["plan"] is None and traffic.route("m", {}, None) == (None, None)


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ("{", 400, "no rollout"),
        ("[]", 400, "no rollout"),
        ("{}", 400, "stable"),
        ('{"stable": "1", "canry": {}}', 400, "canry"),
        ('{"stable": "1", "canary": {"version": "2", "weight": 2}}', 400, "$.canary.weight"),
        ('{"stable": "1", "canary": {"version": "2", "weight": "0.5"}}', 400, "$.canary.weight"),
        ('{"stable": "1", "canary": {"version": "9", "weight": 0.5}}', 404, "no version '9'"),
        ('{"stable": "1", "model": "other"}', 400, "model"),
        ("[" * 100_000, 413, "at most 65536"),
        ("[" * 60_000, 400, "no rollout"),
        ('{"stable": "../../etc"}', 400, "not the name of a version"),
    ],
)
async def test_bad_plans_are_refused(
    http: httpx.AsyncClient, traffic: Traffic, body: str, status: int, words: str
) -> None:
    reply = await http.put(PATH, content=body, headers=JSON)
    assert reply.status_code == status and words in reply.text
    assert traffic.report("m").plan is None


async def test_what_another_process_wrote_is_shown_at_once(http: httpx.AsyncClient, models: Models) -> None:
    assert (await http.put(PATH, json={"stable": "1"})).headers["etag"] == '"1"'
    traffic_of(models).put("m", Plan(model="m", stable="2"), now=1.0)
    shown = await http.get(PATH)
    assert shown.headers["etag"] == '"2"' and shown.json()["plan"]["stable"] == "2"
    gone = await http.delete(PATH, headers={"If-Match": shown.headers["etag"]})
    assert gone.status_code == 200 and gone.headers["etag"] == '"3"'


async def test_nobody_overwrites_what_they_have_not_seen(http: httpx.AsyncClient) -> None:
    body = {"stable": "1"}
    first = await http.put(PATH, json=body, headers={"If-Match": '"0"'})
    assert first.status_code == 200
    for request in (
        http.put(PATH, json={"stable": "2"}, headers={"If-Match": '"0"'}),
        http.delete(PATH, headers={"If-Match": '"0"'}),
        http.post(PATH + "/promote", json={}, headers={"If-Match": '"7"'}),
    ):
        late = await request
        assert late.status_code == 409 and "somebody else" in late.json()["error"]
    for tag in ('"1"', 'W/"2"', "*"):
        assert (await http.put(PATH, json={"stable": "2"}, headers={"If-Match": tag})).status_code == 200
    for tag in ("x", '"-1"', '"1", "2"', '"' + "9" * 30 + '"', '"²"'):
        bad = await http.put(PATH, json=body, headers={"If-Match": tag.encode()})
        assert bad.status_code == 400, tag


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""]
)
async def test_a_page_of_another_origin_cannot_change_anything(http: httpx.AsyncClient, kind: str) -> None:
    # What a form or a `no-cors` fetch may send without asking first: attack class A16.
    for method, path in (("PUT", PATH), ("POST", PATH + "/promote"), ("POST", PATH + "/rollback")):
        reply = await http.request(method, path, content=b'{"stable": "2"}', headers={"Content-Type": kind})
        assert reply.status_code == 415 and "application/json" in reply.json()["error"]
    assert (await http.get(PATH)).json()["revision"] == 0


async def test_unknown_models_and_wrong_methods(http: httpx.AsyncClient) -> None:
    for path in ("/api/models/none/rollout", "/api/models/..%2f..%2fetc/rollout"):
        assert (await http.get(path)).status_code == 404
        assert (await http.put(path, json={"stable": "1"})).status_code == 404
        assert (await http.delete(path)).status_code == 404
    assert (await http.get(PATH + "/promote")).status_code == 405
    assert (await http.post(PATH + "/promote", json={"why": "x"})).status_code == 400
    assert (await http.post(PATH + "/rollback", json={})).status_code == 400


@contextmanager
def listening(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """An HTTP server on the loopback, for as long as it is needed: its URL."""
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join(30)


class Quiet(BaseHTTPRequestHandler):
    """A handler that answers every method by `reply`, and logs nothing."""

    def reply(self, body: bytes) -> tuple[int, bytes]:
        raise NotImplementedError

    def do_GET(self) -> None:
        status, data = self.reply(self.rfile.read(int(self.headers.get("content-length", 0))))
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_PUT = do_POST = do_DELETE = do_GET

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def url(app: Starlette) -> Iterator[str]:
    class Bridge(Quiet):
        def reply(self, body: bytes) -> tuple[int, bytes]:
            answer = TestClient(app).request(
                self.command, self.path, content=body, headers=dict(self.headers.items())
            )
            return answer.status_code, answer.content

    with listening(Bridge) as address:
        yield address


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Any:
    monkeypatch.setitem(main.VERBS, "rollout", "…")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_COLOR", "1")

    def call(*words: str) -> tuple[int, str, str]:
        code = main.run(["rollout", *words])
        out, err = capsys.readouterr()
        return code, out, err

    return call


def test_the_command_line_on_a_running_server(cli: Any, url: str, traffic: Traffic, tmp_path: Path) -> None:
    code, out, _ = cli("repo/m", "--url", url)
    assert code == 0 and "none: the newest version answers" in out
    flags = ("--canary", "2", "--weight", "1", "--sticky", "X-User", "--header", "X-Canary: yes")
    assert cli("m", "--url", url, *flags, "--reason", "friday")[0] == 0
    assert traffic.report("m").history[0].reason == "friday"
    traffic.observe("m", "2", False, 0.1)
    traffic.observe("m", "3", True, 0.1)
    code, out, _ = cli("m", "--url", url)
    assert code == 0 and "canary 2 at 1 by x-user and for x-canary: yes" in out and "1 (100.00%)" in out
    shown = json.loads(cli("m", "--url", url, "--weight", "0.5", "--json")[1])
    assert shown["schema"] == "modelport.rollout/1" and shown["plan"]["canary"]["weight"] == 0.5
    assert cli("m", "--url", url, "--promote")[0] == 0
    assert traffic.report("m").plan == Plan(model="m", stable="2")
    assert cli("m", "--url", url, "--rollback", "--reason", "slow")[0] == 0
    assert cli("m", "--url", url, "--clear", "--reason", "done")[0] == 0
    assert traffic.report("m").plan is None and traffic.report("m").history[-1].reason == "done"


def test_a_default_that_answers_without_a_plan_is_told(
    cli: Any, url: str, app: Starlette, traffic: Traffic
) -> None:
    app.state.repository = SimpleNamespace(default=lambda name: "1")
    code, out, _ = cli("m", "--url", url)
    assert code == 0 and "none: version 1 answers, which was set as the default" in out
    assert json.loads(cli("m", "--url", url, "--json")[1])["default"] == "1"
    shown = json.loads(cli("m", "--url", url, "--stable", "2", "--json")[1])
    assert shown["plan"]["stable"] == "2" and shown["default"] is None


def test_the_servers_refusals_keep_their_exit_codes(cli: Any, url: str, tmp_path: Path) -> None:
    for words, code, said in (
        (["none", "--url", url], 3, "unknown model 'none'"),
        (["m", "--url", url, "--promote"], 2, "nothing to promote"),
        (["m", "--url", url, "--canary", "9", "--weight", "0.1"], 3, "no version '9'"),
        (["m", "--url", url + "/elsewhere"], 3, "--admin-port"),
        (["m", "--url", "127.0.0.1:8000"], 2, "expected http://HOST:PORT"),
        (["m", "--url", "ftp://127.0.0.1"], 2, "expected http://HOST:PORT"),
        (["m", "--url", "http://127.0.0.1:1"], 4, "no answer from"),
        (["m", "--key", "x"], 2, "--key is for a server"),
        (["/", "--url", url], 2, "which model"),
    ):
        got, out, err = cli(*words)
        assert (got, out) == (code, "") and said in err, (words, err)
    (tmp_path / "m" / FILE).write_text("{")
    got, _, err = cli("m", "--url", url, "--canary", "2", "--weight", "0.1")
    assert got == 4 and "damaged" in err


class Strange(Quiet):
    """Notes what it was asked; redirects, refuses, or answers with something else."""

    asked: ClassVar[list[tuple[str, str | None]]] = []

    def reply(self, body: bytes) -> tuple[int, bytes]:
        self.asked.append((self.path, self.headers.get("authorization")))
        replies = {"r": (302, b""), "u": (401, b'{"error": "no key"}'), "t": (500, b"\xff")}
        return replies.get(self.path.split("/")[1], (200, b"<html>"))


def test_other_servers_get_the_key_once_and_are_not_believed(
    cli: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELPORT_ROLLOUT_KEY", "secret")
    with listening(Strange) as address:
        for path, code, words in (
            ("/r", 3, "says 302"),
            ("/u", 4, "no key"),
            ("/t", 4, "says 500"),
            ("/other", 4, "does not answer as Modelport does"),
        ):
            got, _, err = cli("m", "--url", address + path)
            assert got == code and words in err, err
    paths = [f"/{part}/api/models/m/rollout" for part in ("r", "u", "t", "other")]
    assert Strange.asked == [(path, "Bearer secret") for path in paths]
