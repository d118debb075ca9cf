"""What a real server writes on stderr: each line an object, each request a line, its trace a span."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from ..administration import added_key
from ..colours import pack_colours, picture

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@contextmanager
def logging_server(
    repo: Path, stderr: Path, *options: str, **environ: str
) -> Iterator[tuple[http.client.HTTPConnection, str]]:
    """`modelport serve` with its stderr in a file: a connection to it, and its address."""
    command = [sys.executable, "-m", "modelport", "serve", str(repo), "--port", "0", "--json", *options]
    with stderr.open("wb") as lines:
        server = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=lines, env={**os.environ, **environ}
        )
        try:
            assert server.stdout is not None
            first = server.stdout.readline()
            assert first, stderr.read_text()
            address = urlsplit(json.loads(first)["url"]).netloc
            connection = http.client.HTTPConnection(address, timeout=30)
            yield connection, address
            connection.close()
        finally:
            server.terminate()
            assert server.wait(timeout=60) is not None
            assert server.stdout is not None
            server.stdout.close()


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model repository with one model."""
    return pack_colours(tmp_path_factory.mktemp("logs"))


def ask(connection: http.client.HTTPConnection, path: str, body: bytes, **headers: str) -> int:
    connection.request("POST", path, body, {name.replace("_", "-"): text for name, text in headers.items()})
    reply = connection.getresponse()
    reply.read()
    return reply.status


def objects(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_each_line_is_an_object_and_holds_no_secret(repo: Path, tmp_path: Path) -> None:
    secret = added_key(tmp_path / "keys.json", "caller", "infer")
    options = ["--log-format", "json", "--access-log", "--keys", str(tmp_path / "keys.json")]
    with logging_server(repo, tmp_path / "stderr", *options) as (connection, address):
        key = {"Authorization": f"Bearer {secret}"}
        body = picture("red")
        assert ask(connection, "/predict/colours", body, X_Request_Id="r-1", **key) == 200
        assert (
            ask(connection, f"/predict/none?key={secret}", b"SECRET-BODY", X_Request_Id="r-2", **key) == 404
        )
        assert ask(connection, "/predict/colours", b"SECRET-BODY", X_Request_Id="r-3", **key) in (400, 415)
        assert (
            ask(connection, "/predict/colours", body, X_Request_Id="r-4", Authorization="Bearer SECRET")
            == 401
        )
        host, port = address.split(":")
        with socket.create_connection((host, int(port)), timeout=30) as raw:
            raw.sendall(b'POST /a"\x1b[2J HTTP/1.1\r\nHost: x\r\n\r\n')
            raw.recv(1000)
    text = (tmp_path / "stderr").read_text()
    assert secret not in text and "SECRET" not in text and "\x1b" not in text
    lines = {
        line.get("request_id"): line for line in objects(tmp_path / "stderr") if line["event"] == "request"
    }
    assert [lines[f"r-{number}"]["status"] for number in (1, 2, 4)] == [200, 404, 401]
    answered = lines["r-1"]
    assert (answered["method"], answered["path"]) == ("POST", "/predict/colours")
    assert (answered["model"], answered["version"]) == ("colours", "1")
    assert answered["batch"] == 1 and answered["client"] == "127.0.0.1" and answered["ms"] > 0
    assert lines["r-2"]["path"] == "/predict/none" and "model" not in lines["r-2"]


def test_text_has_a_line_a_request(repo: Path, tmp_path: Path) -> None:
    options = ["--log-format", "text", "--access-log"]
    with logging_server(repo, tmp_path / "stderr", *options) as (connection, _):
        assert ask(connection, "/predict/colours", picture("red")) == 200
    lines = (tmp_path / "stderr").read_text().splitlines()
    (line,) = (line for line in lines if " POST " in line)
    assert " 200 POST /predict/colours " in line and " colours/1 " in line


def test_a_probe_has_a_line_only_where_it_fails(repo: Path, tmp_path: Path) -> None:
    options = ["--log-format", "json", "--access-log"]
    probes = ["/v2/health/ready", "/v2/health/live", "/v2/models/colours/ready", "/ping"]
    asked = [*probes, "/v2/models/colours", "/v2/models/none/ready"]
    with logging_server(repo, tmp_path / "stderr", *options) as (connection, _):
        for path in asked:
            connection.request("GET", path)
            connection.getresponse().read()
    lines = [line for line in objects(tmp_path / "stderr") if line["event"] == "request"]
    assert [(line["path"], line["status"]) for line in lines] == [
        ("/v2/models/colours", 200),
        ("/v2/models/none/ready", 404),
    ]


def test_without_the_flag_there_is_no_line(repo: Path, tmp_path: Path) -> None:
    with logging_server(repo, tmp_path / "stderr", "--log-format", "json") as (connection, _):
        assert ask(connection, "/predict/colours", picture("red")) == 200
    assert not [line for line in objects(tmp_path / "stderr") if line["event"] == "request"]


def test_spans_and_lines_share_the_callers_trace(repo: Path, tmp_path: Path) -> None:
    pytest.importorskip("opentelemetry.sdk", reason="traces need opentelemetry-sdk")
    options = ["--log-format", "json", "--access-log"]
    with logging_server(repo, tmp_path / "stderr", *options, OTEL_TRACES_EXPORTER="console") as (
        connection,
        _,
    ):
        traceparent = f"00-{TRACE}-{PARENT}-01"
        assert ask(connection, "/predict/colours", picture("red"), traceparent=traceparent) == 200
        assert ask(connection, "/hf/colours", picture("red")) == 200
        assert ask(connection, "/nothing/here", b"") == 404
    lines = objects(tmp_path / "stderr")
    request, long_way, lost = (line for line in lines if line.get("event") == "request")
    assert request["trace_id"] == TRACE
    # The dialects of others say as much of their answers as the short way does.
    assert (long_way["model"], long_way["version"], long_way["batch"]) == ("colours", "1", 1)
    after = [line for line in lines if line.get("context", {}).get("trace_id") == f"0x{long_way['trace_id']}"]
    assert {line["name"] for line in after} >= {"POST /hf/{name}", "decode", "pre", "net", "post"}
    assert "model" not in lost
    (nowhere,) = (
        line for line in lines if line.get("context", {}).get("trace_id") == f"0x{lost['trace_id']}"
    )
    assert nowhere["name"] == "POST" and nowhere["attributes"]["url.path"] == "/nothing/here"
    spans = {line["name"]: line for line in lines if line.get("context", {}).get("trace_id") == f"0x{TRACE}"}
    assert {"decode", "pre", "net", "post"} <= set(spans)
    assert {span["context"]["trace_id"] for span in spans.values()} == {f"0x{TRACE}"}
    (whole,) = (span for span in spans.values() if span["kind"] == "SpanKind.SERVER")
    assert whole["parent_id"] == f"0x{PARENT}"
    assert whole["name"] == "POST /predict/{name}" and whole["attributes"]["http.route"] == "/predict/{name}"
    assert whole["attributes"]["modelport.model.name"] == "colours"
    assert whole["attributes"]["http.response.status_code"] == 200
    assert all(
        span["parent_id"] == whole["context"]["span_id"] for span in spans.values() if span is not whole
    )
