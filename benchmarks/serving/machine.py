"""What Linux says of processes and of the machine: processor seconds, memory, and who else is busy."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Set
from pathlib import Path

PROC = Path("/proc")
MARK = "MODELPORT_BENCHMARK"
"""In the environment of everything that is started here, with a value of its own for each server."""
TICKS = os.sysconf("SC_CLK_TCK")


def family(root: int, mark: str, known: set[int]) -> set[int]:
    """Every process of a server: descendants of `root`, and who carries its mark; added to `known`."""
    parents = {pid: fields[1] for pid in _pids() if (fields := _stat(pid))}
    children: dict[int, list[int]] = {}
    for pid, parent in parents.items():
        children.setdefault(int(parent), []).append(pid)
    waiting = [root]
    while waiting:
        pid = waiting.pop()
        known.add(pid)
        waiting += [child for child in children.get(pid, []) if child not in known]
    wanted = f"{MARK}={mark}".encode()
    known.update(pid for pid in parents if pid not in known and wanted in _bytes(pid, "environ").split(b"\0"))
    return known


def alive(pids: Set[int]) -> set[int]:
    """Those that still run."""
    return {pid for pid in pids if (fields := _stat(pid)) and fields[0] != "Z"}


def cpu_seconds(pids: Set[int]) -> float:
    """Processor seconds that the processes have used, their own and the kernel's for them."""
    return sum((int(f[11]) + int(f[12])) / TICKS for pid in pids if (f := _stat(pid)))


def memory_mb(pids: Set[int]) -> float:
    """MiB that the processes hold, with shared pages counted once between them (PSS)."""
    total = 0
    for pid in pids:
        for line in _bytes(pid, "smaps_rollup").splitlines():
            if line.startswith(b"Pss:"):
                total += int(line.split()[1])
    return total / 1024


def busy_seconds() -> float:
    """Processor seconds that anybody has used since the machine started."""
    fields = [int(value) for value in (PROC / "stat").read_text().split("\n", 1)[0].split()[1:]]
    user, nice, system, _idle, _iowait, irq, softirq, steal = fields[:8]
    return (user + nice + system + irq + softirq + steal) / TICKS


def wait_for_quiet(pids: Set[int], *, limit: float = 0.25, patience: float = 8.0) -> None:
    """Wait until others than `pids` use less than `limit` of a core, at most `patience` seconds."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        before, own, start = busy_seconds(), cpu_seconds(pids), time.monotonic()
        time.sleep(0.4)
        others = busy_seconds() - before - (cpu_seconds(pids) - own)
        if others / (time.monotonic() - start) < limit:
            return


def about() -> dict[str, str]:
    """What the figures depend on, for the report."""
    import numpy
    import onnxruntime

    info = (PROC / "cpuinfo").read_text()
    model = next((line.split(":", 1)[1].strip() for line in info.splitlines() if "model name" in line), "?")
    system = f"{platform.system()} {platform.release().split('-')[0]}"
    return {
        "processor": f"{model}, {len(os.sched_getaffinity(0))} cores",
        "system": f"{system}, Python {platform.python_version()}",
        "libraries": f"onnxruntime {onnxruntime.__version__}, numpy {numpy.__version__}",
    }


def _pids() -> list[int]:
    return [int(entry) for entry in os.listdir(PROC) if entry.isdigit()]


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat after the name; None for a process that is gone."""
    text = _bytes(pid, "stat").decode()
    return text.rsplit(")", 1)[1].split() if ")" in text else None


def _bytes(pid: int, name: str) -> bytes:
    try:
        return (PROC / str(pid) / name).read_bytes()
    except OSError:
        return b""
