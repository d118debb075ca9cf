"""What a client is made with, and the calls that it writes: refused early, in words."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelport.client import TLS, Client, Output, Retries
from modelport.client.oip import HttpCalls
from modelport.client.settings import Settings, address_of, settings_of
from modelport.errors import InputError, UsageError

GOOD = {
    "http://127.0.0.1:8000": ("http", "127.0.0.1", 8000, ""),
    "http://host": ("http", "host", 80, ""),
    "https://host": ("https", "host", 443, ""),
    "https://host/": ("https", "host", 443, ""),
    "https://host:1/a/b/": ("https", "host", 1, "/a/b"),
    "http://[::1]:8000": ("http", "::1", 8000, ""),
    "grpc://host:8001": ("grpc", "host", 8001, ""),
    "grpcs://host:8001/": ("grpcs", "host", 8001, ""),
}


@pytest.mark.parametrize("url", GOOD)
def test_an_address_is_taken_apart(url: str) -> None:
    address = address_of(url)
    assert (address.scheme, address.host, address.port, address.prefix) == GOOD[url]
    assert address_of(str(address)) == address
    assert address.secure == url.startswith(("https", "grpcs"))


@pytest.mark.parametrize(
    "url",
    [
        "localhost:8000",
        "127.0.0.1",
        "ftp://host",
        "http://",
        "http://host:99999",
        "http://host:x",
        "http://user:secret@host",
        "http://host?q=1",
        "http://host#f",
        "grpc://host",
        "grpc://host:1/path",
        "http://hö.st",
        "http://[::1",
        "",
    ],
)
def test_what_is_no_address_is_refused_with_a_hint(url: str) -> None:
    with pytest.raises(UsageError) as refused:
        address_of(url)
    assert refused.value.hint and "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "options",
    [
        {"timeout": 0},
        {"timeout": -1.0},
        {"timeout": math.nan},
        {"connect_timeout": 0},
        {"connections": 0},
        {"max_reply": 0},
        {"compression": "br"},
        {"retries": -1},
        {"key": "two\r\nlines"},
        {"key": "schlüssel"},
        {"headers": {"X-A": "b\r\nX-C: d"}},
        {"tls": TLS()},
    ],
)
def test_a_client_is_not_made_with_nonsense(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Client("http://127.0.0.1:8000", **options)


def test_a_secret_is_not_shown() -> None:
    assert "hush" not in repr(Client("http://127.0.0.1:8000", key="hush"))


def test_tls_files_that_are_missing_or_something_else(tmp_path: Path) -> None:
    (tmp_path / "text.pem").write_text("no certificate")
    for tls in (TLS(ca="/nowhere.pem"), TLS(ca=tmp_path / "text.pem"), TLS(cert=tmp_path / "text.pem")):
        with pytest.raises(UsageError, match="pem"):
            Client("https://127.0.0.1:1", tls=tls)
    with pytest.raises(UsageError, match="certificate"):
        TLS(key="k.pem")


def settings(url: str = "http://host:1", **more: Any) -> Settings:
    options: dict[str, Any] = {
        "key": None,
        "timeout": None,
        "retries": Retries(),
        "connections": 1,
        "connect_timeout": 1.0,
        "headers": None,
        "compression": None,
        "tls": None,
        "max_reply": 1 << 20,
    }
    return settings_of(url, **(options | more))


def written(parts: list[Any]) -> tuple[str, dict[str, str], bytes]:
    """Request line, headers and body."""
    head, _, body = b"".join(map(bytes, parts)).partition(b"\r\n\r\n")
    line, *rest = head.decode().split("\r\n")
    return line, dict(r.split(": ", 1) for r in rest), body


def test_an_inference_request_to_the_letter() -> None:
    calls = HttpCalls(settings("http://host:1/base", key="k", headers=lambda: {"traceparent": "00-1-2-01"}))
    call = calls.infer(
        "a/b c",
        {"x": np.array([[1.5]], np.float32), "t": ["é"]},
        version=3,
        outputs=["y", Output("z", classification=2)],
        id="i",
        priority=1,
        parameters={"extra": "e"},
    )
    line, headers, body = written(call.write(1.5))
    assert line == "POST /base/v2/models/a%2Fb%20c/versions/3/infer HTTP/1.1"
    assert headers["Authorization"] == "Bearer k" and headers["traceparent"] == "00-1-2-01"
    assert headers["Host"] == "host:1" and headers["X-Request-Timeout-Ms"] == "1500"
    assert headers["User-Agent"].startswith("modelport-client/")
    assert int(headers["Content-Length"]) == len(body)
    end = int(headers["Inference-Header-Content-Length"])
    assert json.loads(body[:end]) == {
        "id": "i",
        "inputs": [
            {"name": "x", "shape": [1, 1], "datatype": "FP32", "parameters": {"binary_data_size": 4}},
            {"name": "t", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": 6}},
        ],
        "outputs": [
            {"name": "y", "parameters": {"binary_data": True}},
            {"name": "z", "parameters": {"binary_data": True, "classification": 2}},
        ],
        "parameters": {"extra": "e", "priority": 1, "timeout": 1_500_000},
    }
    assert body[end:] == np.float32(1.5).tobytes() + b"\2\0\0\0" + "é".encode()


def test_the_time_that_is_left_is_written_anew_for_each_attempt() -> None:
    call = HttpCalls(settings()).infer("m", {"x": [1.0]})
    for seconds, timeout, ms in ((2.0, 2_000_000, "2000"), (0.25, 250_000, "250"), (1e-9, 1, "1")):
        _, headers, body = written(call.write(seconds))
        assert json.loads(body[: int(headers["Inference-Header-Content-Length"])])["parameters"] == {
            "binary_data_output": True,
            "timeout": timeout,
        }
        assert headers["X-Request-Timeout-Ms"] == ms
    own = HttpCalls(settings()).infer("m", {"x": [1.0]}, parameters={"timeout": 5})
    _, headers, body = written(own.write(2.0))
    assert json.loads(body[: int(headers["Inference-Header-Content-Length"])])["parameters"]["timeout"] == 5
    _, headers, body = written(HttpCalls(settings()).infer("m", {"x": [1.0]}).write(None))
    assert "X-Request-Timeout-Ms" not in headers and b"timeout" not in body


def test_other_requests_to_the_letter() -> None:
    calls = HttpCalls(settings())

    def line(call: Any) -> str:
        return written(call.write(None))[0].removesuffix(" HTTP/1.1")

    assert line(calls.live()) == "GET /v2/health/live"
    assert line(calls.ready(None, None)) == "GET /v2/health/ready"
    assert line(calls.ready("m", "2")) == "GET /v2/models/m/versions/2/ready"
    assert line(calls.metadata("m", None)) == "GET /v2/models/m"
    assert line(calls.models()) == "POST /v2/repository/index"
    assert line(calls.statistics(None, None)) == "GET /v2/models/stats"
    assert line(calls.statistics("m", 1)) == "GET /v2/models/m/versions/1/stats"
    assert line(calls.predict("m", b"data", None)) == "POST /predict/m"
    assert line(calls.predict("m", b"data", 7)) == "POST /predict/m/7"
    assert (
        line(calls.predict("m", {"image": np.zeros((2, 2, 3), np.uint8)}, None)) == "POST /v2/models/m/infer"
    )
    assert line(calls.load("m", {})) == "POST /v2/repository/models/m/load"
    _, _, body = written(calls.unload("m", {"version": "2"}).write(None))
    assert json.loads(body) == {"parameters": {"version": "2"}}


@pytest.mark.parametrize("name", ["", ".", "..", None, 5])
def test_names_that_would_mean_another_path_are_refused(name: Any) -> None:
    with pytest.raises(UsageError, match="no model's name"):
        HttpCalls(settings()).infer(name, {"x": [1.0]})
    with pytest.raises(UsageError):
        HttpCalls(settings()).load(name, {})


@pytest.mark.parametrize("version", ["", ".", ".."])
def test_versions_that_would_mean_another_path_are_refused(version: str) -> None:
    with pytest.raises(UsageError, match="no version"):
        HttpCalls(settings()).metadata("m", version)


def test_arguments_of_infer_that_make_no_sense() -> None:
    calls = HttpCalls(settings())
    with pytest.raises(UsageError, match="sequence"):
        calls.infer("m", {"x": [1.0]}, outputs="y")
    with pytest.raises(UsageError, match="twice"):
        calls.infer("m", {"x": [1.0]}, outputs=["y", Output("y")])
    with pytest.raises(UsageError, match="parameter 'p'"):
        calls.infer("m", {"x": [1.0]}, parameters={"p": [1]})  # type: ignore[dict-item]
    with pytest.raises(InputError, match="at least one"):
        calls.infer("m", {})
