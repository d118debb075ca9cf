"""The benchmarks of the server: what can be wrong in them without anybody seeing it in a table.

Nothing is timed here. One scenario's server is started for real, so that the harness itself keeps working.
"""

from __future__ import annotations

import asyncio
import itertools
import shlex
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from benchmarks.serving import __main__ as program
from benchmarks.serving import machine, places, report, wires
from benchmarks.serving.contestants import net_of
from benchmarks.serving.models import INPUT, MODELS
from benchmarks.serving.openloop import Client, Job, Tally, moments, percentile
from benchmarks.serving.process import Failed, running
from benchmarks.serving.result import Goal, Result, Table


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache: nothing of this machine's is used or changed."""
    monkeypatch.setattr(places, "CACHE", tmp_path)
    for model in MODELS.values():
        model.__dict__.pop("path", None)
    yield tmp_path
    for model in MODELS.values():
        model.__dict__.pop("path", None)


# --- the networks and the wires


@pytest.mark.parametrize("name", ["digits", "tiny", "sleep"])
def test_a_network_takes_and_gives_what_it_says(cache: Path, name: str) -> None:
    model = MODELS[name]
    session = onnxruntime.InferenceSession(model.path)
    (answer,) = session.run(None, {INPUT: model.example(3)})
    assert answer.shape == (3, model.outputs)
    assert np.isfinite(answer).all()


@pytest.mark.parametrize("wire", [wires.raw, wires.oip_binary, wires.oip_json, wires.plain_json])
def test_a_wrong_answer_is_seen_on_every_wire(cache: Path, wire: object) -> None:
    assert callable(wire)
    request = wire(MODELS["digits"], "/x")
    right = onnxruntime.InferenceSession(MODELS["digits"].path).run(
        None, {INPUT: MODELS["digits"].example()}
    )[0]
    for answer, good in ((right, True), (right[:, ::-1], False), (right[:, :4], False)):
        data, headers = np.ascontiguousarray(answer).tobytes(), {}
        if wire is wires.oip_binary:
            data, headers = b"{}" + data, {"inference-header-content-length": "2"}
        elif wire is wires.oip_json:
            data = b'{"outputs": [{"data": %s}]}' % str(answer.ravel().tolist()).encode()
        elif wire is wires.plain_json:
            data = str(answer.tolist()).encode()
        assert (request.judge(0, data, headers) is None) == good


def test_labels_in_another_order_are_wrong() -> None:
    expected = [[("cat", 0.7), ("dog", 0.2)]]
    request = wires.pictures([b"jpeg"], expected, "/predict/x")

    def reply(*pairs: str) -> bytes:
        return b'{"answer": [%s]}' % ", ".join(pairs).encode()

    cat, dog = '{"label": "cat", "score": 0.7}', '{"label": "dog", "score": 0.2}'
    assert request.judge(0, reply(cat, dog), {}) is None
    assert request.judge(0, reply(dog, cat), {})
    assert request.judge(0, reply(cat, dog.replace("0.2", "0.3")), {})
    form = wires.pictures([b"jpeg"], expected, "/predict/x", form=True)
    assert b'name="file"' in form.bodies[0]
    assert b"\r\n\r\njpeg\r\n--" in form.bodies[0]


# --- the open-loop client


def test_requests_are_due_at_the_rate_that_was_asked_for() -> None:
    due = list(moments(1000, 10, seed=1))
    assert due == sorted(due) == list(moments(1000, 10, seed=1))
    assert 9700 < len(due) < 10300
    gaps = np.diff(due)
    assert 0.9 < gaps.std() / gaps.mean() < 1.1, "a Poisson process: the gaps are exponential"


def test_a_tally_counts_every_request_once() -> None:
    tally = Tally(deadline=0.05, due=5)
    tally.answered(200, 0.01)
    tally.answered(200, 0.06)
    tally.answered(503, 0.001)
    tally.ended("gave_up")
    with pytest.raises(RuntimeError, match="5 requests were due"):
        tally.summary(1.0)
    tally.ended("lost")
    summary = tally.summary(2.0)
    assert [summary[kind] for kind in ("good", "late", "refused", "gave_up", "lost")] == [0.5] * 5
    assert summary["p50"] == summary["p99"] == 0.01
    assert percentile([], 0.5) == 0.0
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0


class Stuck(asyncio.Protocol):
    """Answers every second request of a connection, and hangs up on none."""

    def __init__(self) -> None:
        self.turns = itertools.count()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if next(self.turns) % 2 == 0:
            assert isinstance(self.transport, asyncio.Transport)
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


@asynccontextmanager
async def listening() -> AsyncIterator[int]:
    known: list[Stuck] = []

    def connected() -> Stuck:
        known.append(Stuck())
        return known[-1]

    server = await asyncio.get_running_loop().create_server(connected, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for each in known:
            each.transport.close()
        await asyncio.sleep(0.01)
        await server.wait_closed()


async def test_what_is_never_answered_is_given_up_and_counted(tmp_path: Path) -> None:
    body = tmp_path / "body"
    body.write_bytes(b"x")
    async with listening() as port:
        job = Job(port, "/", {}, str(body), rate=200, seconds=0.5, deadline=10, patience=0.2, connections=4)
        summary = await Client(job).run()
        sent = len(list(moments(200, 0.5, 0))) / 0.5
        assert summary["gave_up"] > 0
        assert summary["good"] > 0
        assert summary["good"] + summary["gave_up"] + summary["lost"] == pytest.approx(sent)


async def test_nobody_listening_is_lost(tmp_path: Path, unused_tcp_port: int) -> None:
    body = tmp_path / "body"
    body.write_bytes(b"x")
    summary = await Client(Job(unused_tcp_port, "/", {}, str(body), 100, 0.2, 1.0)).run()
    assert summary["lost"] == len(list(moments(100, 0.2, 0))) / 0.2


# --- processes


def test_a_server_is_started_asked_and_stopped_with_all_its_processes(cache: Path) -> None:
    server = net_of(MODELS["tiny"])
    with running(server) as live:
        pids = live.processes()
        assert live.root in pids
        assert live.started > 0
        assert machine.memory_mb(pids) > 10
        assert machine.cpu_seconds(pids) > 0
    assert not machine.alive(live.known)


def test_a_server_that_answers_wrong_is_refused(cache: Path) -> None:
    server = net_of(MODELS["tiny"])
    wrong = replace(server, request=replace(server.request, judge=lambda turn, reply, headers: "all zeros"))
    with pytest.raises(Failed, match="all zeros"), running(wrong):
        pass


def test_the_process_of_another_shell_is_found_by_its_mark(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "print('up', flush=True); input()"]
    other = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={machine.MARK: "it"},
        start_new_session=True,
    )
    try:
        assert other.stdout
        assert other.stdout.readline() == b"up\n"
        assert other.pid in machine.family(1 << 30, "it", set())
        assert other.pid not in machine.family(1 << 30, "another", set())
    finally:
        other.communicate(b"\n", timeout=30)
    assert other.pid not in machine.alive({other.pid})


# --- the report


def test_results_are_saved_and_read_back(tmp_path: Path) -> None:
    result = Result("x", "An x", "How.", [Table("T", ["a", "b"], [["1", "2"]])], command="run")
    result.goals = [Goal("more", 1.0, 1.5), Goal("less", 1.0, 1.5, at_most=True), Goal("none", 1.0, None)]
    path = result.save(tmp_path)
    back = Result.load(path)
    assert back.markdown() == result.markdown()
    assert [goal.met for goal in back.goals] == [True, False, False]
    assert "| a | b |\n|---|---|\n| 1 | 2 |" in back.markdown()
    assert "not measured" in back.markdown()
    path.write_text("{}")
    with pytest.raises(ValueError, match="schema"):
        Result.load(path)


@pytest.mark.parametrize("said", ["", " --rounds 1 --seconds 3.0", " --only 'modelport|mosec' --noise 0.3"])
def test_the_command_that_is_reported_measures_the_same(said: str, tmp_path: Path) -> None:
    parser = program.parser()
    given = parser.parse_args(["tiny", *shlex.split(said), "--out", str(tmp_path)])
    assert program.options(parser, given) == said


def test_the_published_page_is_what_the_results_say() -> None:
    if not report.TARGET.exists():
        pytest.skip("nothing is published yet")
    assert report.TARGET.read_text() == report.report(places.RESULTS)
