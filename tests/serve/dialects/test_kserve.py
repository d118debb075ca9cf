"""KServe's own clients ask the real server, over gRPC and HTTP (where `kserve` is installed)."""

from __future__ import annotations

import json
import socket
import subprocess
from pathlib import Path

import numpy as np
import pytest

from ...colours import pack_colours, served

PYTHON = Path.home() / ".cache/modelport-bench/venv/kserve/bin/python"
BATCH = np.linspace(0, 1, 2 * 3 * 8 * 8, dtype=np.float32).reshape(2, 3, 8, 8)
LOGITS = BATCH.mean((2, 3)) * 20


def test_kserves_clients_work_as_they_are(tmp_path: Path) -> None:
    if not PYTHON.exists():
        pytest.skip(f"kserve is not installed in {PYTHON.parents[1]}")
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = str(sock.getsockname()[1])
    with served(pack_colours(tmp_path), "--grpc-port", port, "--executors", "1") as (url, _):
        ran = subprocess.run(
            [PYTHON, Path(__file__).with_name("kserve_client.py"), url, f"127.0.0.1:{port}"],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout.splitlines()[-1])
    for way in ("grpc", "http"):
        assert [found[way][name] for name in ("live", "ready", "model")] == [True] * 3, way
    assert found["grpc"]["refused"] == "NOT_FOUND"
    for answer in (
        found["grpc"]["raw"],
        found["grpc"]["typed"],
        found["http"]["json"],
        found["http"]["binary"],
        found["http"]["all binary"],
        found["v1"],
    ):
        np.testing.assert_allclose(answer, LOGITS, atol=1e-4)
