"""A10: callers name no memory of the server's, and what it shares with itself is open to nobody else."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import psutil
import pytest

from .wire import Target, as_json, head, post


@pytest.mark.parametrize("kind", ["systemsharedmemory", "cudasharedmemory", "xpusharedmemory"])
def test_regions_cannot_be_registered(target: Target, kind: str) -> None:
    body = as_json({"key": "/psm_00000000", "offset": 0, "byte_size": 64})
    for path in (
        f"/v2/{kind}/region/x/register",
        f"/v2/{kind}/region/x/unregister",
        f"/v2/{kind}/unregister",
    ):
        assert target.one(post(path, body)).status in (403, 404, 501)
    for path in (f"/v2/{kind}/status", f"/v2/{kind}/region/x/status"):
        assert target.one(head("GET", path), method="GET").status in (404, 501)


@pytest.mark.parametrize("name", ["x", "/psm_1", "../../etc/passwd", "/dev/zero", "modelport", ""])
def test_tensors_in_regions_are_refused_by_name(target: Target, name: str) -> None:
    """CVE-2025-23319: the server's own region, taken for the caller's."""
    parameters = {"shared_memory_region": name, "shared_memory_byte_size": 16, "shared_memory_offset": 0}
    entry = {"name": "x", "datatype": "FP32", "shape": [1, 4], "parameters": parameters}
    reply = target.one(post("/v2/models/sum/infer", as_json({"inputs": [entry]})))
    assert reply.status in (400, 501) and "/dev" not in reply.error.replace(name, "")
    good = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}
    out = {"name": "total", "parameters": parameters}
    reply = target.one(post("/v2/models/sum/infer", as_json({"inputs": [good], "outputs": [out]})))
    assert reply.status in (400, 501), reply


def test_memory_shared_with_executors_is_ours_alone(target: Target) -> None:
    process = psutil.Process(target.pid)
    for each in (process, *process.children(recursive=True)):
        for line in Path(f"/proc/{each.pid}/maps").read_text().splitlines():
            path = line.split(maxsplit=5)[-1]
            if path.startswith("/dev/shm/") and not path.endswith("(deleted)"):
                mode = os.stat(path).st_mode
                assert not mode & (stat.S_IRWXG | stat.S_IRWXO), f"{path} is open to others: {mode:o}"
