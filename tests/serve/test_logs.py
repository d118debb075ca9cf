"""The access log: what is in a line, what can never be, and that a reader who stops harms nobody."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from modelport.serve import logs
from modelport.serve.logs import AccessLog, JsonLines, LogFormat, Stamp, TextLines, clean


@contextmanager
def written(form: LogFormat = "json") -> Iterator[tuple[AccessLog, list[bytes]]]:
    """A log into a pipe, and what came out of it once the block has ended."""
    reading, writing = os.pipe()
    parts: list[bytes] = []

    def read() -> None:
        while part := os.read(reading, 1 << 16):
            parts.append(part)

    reader = threading.Thread(target=read)
    reader.start()
    log = AccessLog(form, writing)
    try:
        yield log, parts
    finally:
        log.close()
        os.close(writing)
        reader.join(10)
        os.close(reading)


def lines_of(parts: list[bytes]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in b"".join(parts).splitlines()]


def test_a_line_says_what_happened() -> None:
    with written() as (log, parts):
        log.write(
            "POST",
            "/v2/models/digits/infer",
            200,
            0.0123456,
            model="digits",
            version="1",
            batch=8,
            request_id="abc-1",
            trace_id="0af7651916cd43dd8448eb211c80319c",
            client="127.0.0.1",
        )
        log.write("GET", "/v2", 200, 0.0)
    full, bare = lines_of(parts)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", full.pop("time"))
    assert full == {
        "event": "request",
        "method": "POST",
        "path": "/v2/models/digits/infer",
        "status": 200,
        "ms": 12.346,
        "model": "digits",
        "version": "1",
        "batch": 8,
        "request_id": "abc-1",
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
        "client": "127.0.0.1",
    }
    assert set(bare) == {"time", "event", "method", "path", "status", "ms"}


def test_text_is_for_people() -> None:
    with written("text") as (log, parts):
        log.write("POST", "/predict/digits", 200, 0.0031, model="digits", version="1", batch=4, client="::1")
    assert re.fullmatch(
        rb"\S+Z 200 POST /predict/digits 3\.100ms digits/1 batch=4 client=::1\n", b"".join(parts)
    )


HOSTILE = [
    "/a\n2026-11-21T00:00:00.000Z 200 GET /forged",
    '/a","status":200,"x":"',
    "/\x1b[2J\x1b[31mred",
    "/\x9b31m\u2028\u202e\x00\r",
    "/lone\udcffsurrogate",
    "/" + "a" * 100_000,
    "/ two words",
    "/日本",
]


@pytest.mark.parametrize("path", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize("form", ["json", "text"])
def test_hostile_words_forge_no_line_and_move_no_terminal(form: LogFormat, path: str) -> None:
    with written(form) as (log, parts):
        log.write("GET" + path, path, 404, 0.001, request_id=path, client="127.0.0.1")
    data = b"".join(parts)
    assert data.count(b"\n") == 1 and data.endswith(b"\n") and len(data) < 2000
    assert all(32 <= byte < 127 for byte in data[:-1])
    if form == "json":
        assert json.loads(data)["status"] == 404
    else:
        time, status, *_ = data.split(b" ")
        assert (status, len(time)) == (b"404", 24)
        assert len(data.split(b" ")) == 7


def test_a_query_may_hold_a_key_and_is_not_written() -> None:
    with written() as (log, parts):
        log.write("GET", "/metrics?key=hunter2", 200, 0.001)
    assert lines_of(parts)[0]["path"] == "/metrics"


def test_a_path_is_cut_and_says_so() -> None:
    assert clean("/" + "a" * 300, 256) == "/" + "a" * 255 + "..."
    assert clean("/predict/digits", 256) == "/predict/digits"
    assert clean("/50%/a b", 256) == "/50%/a%20b"


def test_lines_of_a_burst_all_come_and_none_is_torn() -> None:
    with written() as (log, parts):
        for number in range(20_000):
            log.write("GET", f"/{number}", 200, 0.001)
    assert [line["path"] for line in lines_of(parts)] == [f"/{number}" for number in range(20_000)]


def test_a_reader_that_stops_costs_lines_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "MAX_PENDING", 20_000)
    reading, writing = os.pipe()
    log = AccessLog("json", writing)
    for _ in range(5000):  # far more than the pipe and the bound hold; nobody reads yet
        log.write("GET", "/", 200, 0.001)
    parts: list[bytes] = []

    def end() -> None:
        log.close()
        os.close(writing)

    ending = threading.Thread(target=end)
    ending.start()
    while part := os.read(reading, 1 << 16):
        parts.append(part)
    ending.join(10)
    lines = lines_of(parts)
    came = sum(line["event"] == "request" for line in lines)
    assert came + sum(line["lines"] for line in lines if line["event"] == "dropped") == 5000
    assert 0 < came < 5000
    os.close(reading)


def test_a_reader_that_goes_is_let_go() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    log = AccessLog("json", writing)
    log.write("GET", "/", 200, 0.001)
    log.flush()
    log.write("GET", "/", 200, 0.001)
    log.close()
    os.close(writing)


def test_times_are_utc_and_whole() -> None:
    stamp = Stamp()
    assert stamp(0.0) == "1970-01-01T00:00:00.000Z"
    assert stamp(0.9999) == "1970-01-01T00:00:00.999Z"
    assert stamp(86400.25) == "1970-01-02T00:00:00.250Z"
    assert stamp(1.5) == "1970-01-01T00:00:01.500Z"


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The root logger, put back afterwards."""
    root, ours = logging.getLogger(), logging.getLogger("modelport")
    before = root.handlers[:], root.level, ours.level
    yield root
    root.handlers[:], root.level = before[0], before[1]
    ours.setLevel(before[2])


def test_other_loggers_speak_the_same_form(root: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json")
    logging.getLogger("modelport.engine").info("model %s\nloaded", "digits")
    logging.getLogger("other").info("not for us")
    try:
        raise ValueError("a bug")
    except ValueError:
        logging.getLogger("modelport.serve").exception("failed")
    said, failed = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert said["message"] == "model digits\\nloaded" and said["level"] == "info"
    assert said["logger"] == "modelport.engine" and said["event"] == "log"
    assert "ValueError: a bug" in failed["exception"]


def test_an_event_is_an_object_of_its_own(root: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("json")
    logging.getLogger("modelport.audit").info(
        "key_refused principal=%s",
        "app",
        extra={"event": "key_refused", "principal": "a\x9bb", "status": 403},
    )
    (said,) = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert said.pop("time") and said == {
        "event": "key_refused",
        "level": "info",
        "logger": "modelport.audit",
        "message": "key_refused principal=app",
        "principal": "a\\x9bb",
        "status": 403,
    }


def test_a_message_as_text_is_one_line() -> None:
    record = logging.LogRecord("x", logging.WARNING, "", 0, "a\n\x1b[31mb", None, None)
    stream = io.StringIO(TextLines().format(record))
    assert stream.getvalue().endswith("warning x: a\\n\\x1b[31mb") and "\n" not in stream.getvalue()
    assert json.loads(JsonLines().format(record))["message"] == "a\\n\\x1b[31mb"
