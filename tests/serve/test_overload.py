"""Deadlines over HTTP while the executor stands still: who cannot be in time hears so without any run."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil

from ..colours import pack_colours, picture, served

RED = picture("red")
TENSOR = {"name": "x", "shape": [1, 3, 8, 8], "datatype": "FP32", "data": [0.5] * 192}


def waiting(http: httpx.Client) -> float:
    """Rows in the queue."""
    found = re.search(r"^modelport_waiting_rows\{.*\} (.*)$", http.get("/metrics").text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def test_who_cannot_be_in_time_is_refused_at_once_and_told_when_to_come_back(tmp_path: Path) -> None:
    with (
        served(pack_colours(tmp_path), "--executors", "1") as (url, server),
        httpx.Client(base_url=url, timeout=30) as http,
        ThreadPoolExecutor(4) as callers,
    ):
        (executor,) = psutil.Process(server.pid).children()
        executor.suspend()
        try:
            patient = [
                callers.submit(httpx.post, f"{url}/predict/colours", content=RED, timeout=60)
                for _ in range(4)
            ]
            end = time.monotonic() + 20
            while not waiting(http):
                assert time.monotonic() < end, "nothing waits"
                time.sleep(0.02)
            tensor = {"inputs": [TENSOR], "parameters": {"timeout": 2000}}
            for path, asked, headers in (
                ("/predict/colours", {"content": RED}, {"X-Request-Timeout-Ms": "2"}),
                ("/v2/models/colours.net/infer", {"json": tensor}, {}),
            ):
                for _ in range(50):
                    reply = http.post(path, headers=headers, **asked)  # type: ignore[arg-type]
                    if reply.status_code != 504:  # where this machine took the two milliseconds to read it
                        break
                assert reply.status_code == 503 and int(reply.headers["retry-after"]) >= 1, reply.text
                assert "its deadline is in" in reply.json()["error"]
            # One that could be in time, by what runs have cost, waits and hears when its time is over.
            late = http.post("/predict/colours", content=RED, headers={"X-Request-Timeout-Ms": "500"})
            assert late.status_code == 504 and "while the request waited" in late.json()["error"]
        finally:
            executor.resume()
        for each in patient:
            assert each.result(30).json()["answer"][0]["label"] == "red"
