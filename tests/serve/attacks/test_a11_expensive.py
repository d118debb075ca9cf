"""A11: requests that are cheap to send and dear to answer: counts, batches, log lines, metric labels."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from ...colours import picture
from .wire import Target, as_json, get, head, post


def infer(target: Target, outputs: list[dict[str, Any]], model: str = "colours.net") -> int:
    entry = {"name": "x", "datatype": "FP32", "shape": [1, 3, 8, 8], "data": [0.5] * 192}
    return target.one(
        post(f"/v2/models/{model}/infer", as_json({"inputs": [entry], "outputs": outputs}))
    ).status


@pytest.mark.parametrize("count", [2**31, 2**63, 10**30, 1e9, -1, 0.5, "1", [1], {"n": 1}, True])
def test_a_class_count_is_bounded_by_the_classes(target: Target, count: Any) -> None:
    before = psutil.Process(target.pid).memory_info().rss
    status = infer(target, [{"name": "logits", "parameters": {"classification": count}}])
    assert status == (200 if isinstance(count, int) and count >= 1 else 400)
    assert psutil.Process(target.pid).memory_info().rss - before < 32 << 20


def test_an_output_a_thousand_times_is_refused(target: Target) -> None:
    assert infer(target, [{"name": "logits"}] * 1000) == 400
    assert infer(target, [{"name": f"o{number}"} for number in range(10_000)]) == 400


def test_a_batch_of_a_million_rows_is_answered_in_parts_or_refused(target: Target) -> None:
    rows = 1_000_000
    text = as_json(
        {"inputs": [{"name": "x", "datatype": "FP32", "shape": [rows, 4],
                     "parameters": {"binary_data_size": rows * 16}}],
         "parameters": {"binary_data_output": True}}
    )  # fmt: skip
    data = struct.pack("<4f", 1, 2, 3, 4) * rows
    for model in ("sum", "sum.net"):
        reply = target.one(
            post(f"/v2/models/{model}/infer", text + data, inference_header_content_length=len(text))
        )
        assert reply.status in (200, 400, 413, 429, 503), reply.body[:200]
        if reply.status == 200:
            assert reply.body.endswith(struct.pack("<f", 10.0) * rows)


def test_many_pictures_in_one_request_are_bounded(target: Target) -> None:
    files = [picture("red")] * 5000
    data = b"".join(struct.pack("<I", len(file)) + file for file in files)
    text = as_json(
        {"inputs": [{"name": "image", "datatype": "BYTES", "shape": [5000],
                     "parameters": {"binary_data_size": len(data)}}]}
    )  # fmt: skip
    reply = target.one(
        post("/v2/models/colours/infer", text + data, inference_header_content_length=len(text))
    )
    assert reply.status in (400, 413), reply.body[:200]


def series(target: Target) -> tuple[int, bytes]:
    reply = target.one(get("/metrics"), method="GET")
    assert reply.status == 200
    return len([line for line in reply.body.splitlines() if not line.startswith(b"#")]), reply.body


def test_no_name_that_a_caller_chooses_becomes_a_label(target: Target) -> None:
    """Each new label value is a series for ever, in the server and in whoever scrapes it."""
    for request in (
        post("/predict/none", b"x"),
        post("/predict/colours/none", b"x"),
        get("/none"),
        head("BREW", "/"),
    ):
        target.talk(request, methods=("GET",))
    before, _ = series(target)
    for number in range(500):
        for request, method in (
            (post(f"/predict/evil{number}", b"x"), "POST"),
            (post(f"/predict/colours/evil{number}", b"x"), "POST"),
            (post(f"/v2/models/evil{number}.net/infer", b"{}", inference_header_content_length=2), "POST"),
            (get(f"/evil{number}", x_request_id=f"evil{number}", user_agent=f"evil{number}"), "GET"),
        ):
            target.one(request, method=method)
    after, text = series(target)
    assert b"evil" not in text
    assert after <= before + 8, f"{after - before} new series"


def test_refused_requests_do_not_flood_the_log(repo: Path, tmp_path: Path) -> None:
    """Nor do their words end a line of it or move a terminal."""
    log = tmp_path / "log"
    with log.open("wb") as stderr:
        server = subprocess.Popen(
            [sys.executable, "-m", "modelport", "serve", str(repo), "--port", "0", "--json"],
            stdout=subprocess.PIPE, stderr=stderr,
        )  # fmt: skip
        try:
            assert server.stdout is not None
            url = httpx.Response(200, content=server.stdout.readline()).json()["url"]
            target = Target(url, server.pid)
            evil = "x%0d%0a2026-01-01T00:00:00Z%20error%20forged%1b[2J"
            for number in range(1000):
                target.one(post(f"/predict/{evil}{number}", b"x"))
                target.one(post("/v2/models/sum/infer", b"{"))
                target.talk(b"\x16\x03\x01garbage\r\n\r\n", methods=("GET",))
                with target.connect() as sock:
                    sock.sendall(head("POST", "/predict/colours", content_length=1000))
        finally:
            server.terminate()
            server.wait(60)
            assert server.stdout is not None
            server.stdout.close()
    text = log.read_bytes()
    assert len(text) < 64 << 10, text[:2000]
    assert b"\x1b" not in text
    assert not [line for line in text.splitlines() if line.startswith(b"2026-01-01T00:00:00Z error forged")]


def test_the_access_log_is_one_line_a_request_whatever_is_in_it(repo: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    for form in ("text", "json"):
        with log.open("wb") as stderr:
            command = [sys.executable, "-m", "modelport", "serve", str(repo), "--port", "0", "--json"]
            server = subprocess.Popen(
                [*command, "--access-log", "--log-format", form], stdout=subprocess.PIPE, stderr=stderr
            )
            try:
                assert server.stdout is not None
                url = httpx.Response(200, content=server.stdout.readline()).json()["url"]
                target = Target(url, server.pid)
                for path in ("/x%0d%0aforged", "/x%1b[2J", "/" + "y" * 5000, '/"quote"?key=mpk_secret'):
                    target.one(
                        get(
                            path, x_request_id='"},{"forged":"' + "z" * 500, authorization="Bearer mpk_secret"
                        ),
                        method="GET",
                    )
            finally:
                server.terminate()
                server.wait(60)
                assert server.stdout is not None
                server.stdout.close()
        lines = [line for line in log.read_bytes().splitlines() if b"GET" in line]
        assert len(lines) == 4
        assert all(len(line) < 1500 and b"\x1b" not in line and b"mpk_secret" not in line for line in lines)
        assert not [line for line in log.read_bytes().splitlines() if line.startswith(b"forged")]
