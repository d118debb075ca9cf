"""How many cores there are to use."""

from __future__ import annotations

import math
import os
from pathlib import Path

_GROUPS = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")


def usable_cores() -> int:
    """Cores that this process may run on, or as many as its container may keep busy where that is fewer."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    granted = quota()
    return cores if granted is None else min(cores, max(1, math.ceil(granted)))


def quota(groups: Path = _GROUPS, own: Path = _OWN) -> float | None:
    """Seconds of processor time a second that this process's control groups grant it; None for no bound.

    Version 2 has `cpu.max`, `QUOTA PERIOD` in microseconds, and version 1 `cpu.cfs_quota_us` and
    `cpu.cfs_period_us`; `max` and -1 are no bound. A group gets no more than those it lies in (the kernel's
    documents `cgroup-v2` and `sched-bwc`).

    Args:
        groups: where the groups are mounted.
        own: the file that names this process's.
    """
    try:
        lines = own.read_text().splitlines()
    except OSError:  # not Linux
        return None
    found = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            found += _bounds(groups, path)
        elif "cpu" in controllers.split(","):
            found += _bounds(groups / controllers, path) or _bounds(groups / "cpu", path)
    return min(found, default=None)


def _bounds(top: Path, path: str) -> list[float]:
    """What a group says and those above it; seen from a container, only the top one may be there."""
    inside = Path(path.lstrip("/"))
    if ".." in inside.parts:
        inside = Path()
    return [bound for each in (inside, *inside.parents) if (bound := _bound(top / each)) is not None]


def _bound(folder: Path) -> float | None:
    try:
        try:
            most, period = (folder / "cpu.max").read_text().split()
        except FileNotFoundError:
            most = (folder / "cpu.cfs_quota_us").read_text()
            period = (folder / "cpu.cfs_period_us").read_text()
        return int(most) / int(period) if int(most) > 0 else None
    except (OSError, ValueError, ZeroDivisionError):  # no such file, or `max`
        return None
