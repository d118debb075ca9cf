"""What a confined process can no longer do, tried by one."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

PROBE = Path(__file__).parent / "confined.py"


@pytest.fixture
def tried(tmp_path: Path) -> dict[str, dict[str, str]]:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    (outside / "old").write_text("kept")
    with socket.create_server(("127.0.0.1", 0)) as server:
        command = [sys.executable, str(PROBE), str(inside), str(outside), str(server.getsockname()[1])]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert (outside / "old").read_text() == "kept"
    found: dict[str, dict[str, str]] = json.loads(done.stdout)
    return found


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the measures are Linux's")
def test_what_is_reported_as_in_force_holds(tried: dict[str, dict[str, str]]) -> None:
    report, results = tried["report"], tried["results"]
    assert results["before"] == "worked"
    assert results["read outside"] == results["write inside"] == results["thread"] == "worked"
    assert set(report) == {"memory", "network", "files", "processes"}
    held = {
        "network": ("connect",),
        "files": ("write outside", "remove outside"),
        "processes": ("program", "fork", "signal", "unix"),
        "memory": ("memory",),
    }
    for measure, attempts in held.items():
        if report[measure] != "yes":
            assert len(report[measure]) > 5  # the reason, in words
            continue
        for attempt in attempts:
            assert results[attempt] != "worked", (measure, attempt)


def test_where_the_system_has_none_of_it_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    from modelport.isolation.child import sandbox

    monkeypatch.setattr(sandbox, "_limits", lambda memory, seconds: "yes")
    monkeypatch.setattr(sandbox.sys, "platform", "darwin")
    report = sandbox.confine("/nowhere", 1, 1)
    assert report["memory"] == "yes"
    assert all("not available on" in report[measure] for measure in ("network", "files", "processes"))
