"""The load generator: wrk in a process of its own, with one thread, on the same cores as the server."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .places import HERE


@dataclass(frozen=True)
class Load:
    """What wrk saw in one run."""

    requests: int
    rate: float
    """Right answers (status 2xx) a second."""
    p50: float
    """Seconds."""
    p99: float
    lost: int
    """Connections refused, broken or silent for 20 seconds."""
    refused: int
    """Answers with another status."""
    client_cpu: float
    """Processor seconds of wrk itself."""


def wrk(url: str, bodies: Sequence[Path], headers: dict[str, str], connections: int, seconds: float) -> Load:
    """Keep `connections` requests in flight for a while; each is sent when the one before is answered.

    Raises:
        RuntimeError: wrk is not installed, or did not end as it should.
    """
    command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "20s"]
    environment = os.environ | {
        "BODIES": "\n".join(map(str, bodies)),
        "HEADERS": "\n".join(f"{name}: {value}" for name, value in headers.items()),
    }
    try:
        process = subprocess.Popen(
            [*command, "-s", str(HERE / "post.lua"), url], stdout=subprocess.PIPE, text=True, env=environment
        )
    except FileNotFoundError as problem:
        raise RuntimeError("wrk is not installed: apt-get install wrk (brew install wrk)") from problem
    assert process.stdout is not None
    with process.stdout:
        output = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    found = re.search(r"RESULT (\d+) (\d+) (\d+) (\d+) (\d+) (\d+)", output)
    if not found:
        raise RuntimeError(f"wrk ended with {process.returncode} and said: {output.strip()[-500:]}")
    requests, microseconds, lost, refused, p50, p99 = map(int, found.groups())
    rate = (requests - refused) / microseconds * 1e6
    cpu = usage.ru_utime + usage.ru_stime
    return Load(requests, rate, p50 / 1e6, p99 / 1e6, lost, refused, cpu)
