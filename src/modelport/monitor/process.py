"""What the server's processes take of the machine: the one that answers, and the children it runs.

Reads /proc; where there is none, nothing is reported of other processes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

PROC = Path("/proc")


class Usage(msgspec.Struct):
    """What the processes of one role take together."""

    role: str
    processes: int = 0
    cpu_seconds: float = 0.0
    """Since they started, those that have ended included; it never falls."""
    resident_bytes: int = 0
    """Memory they hold; pages that two of them share are counted in each."""
    open_fds: int = 0


class Processes:
    """Usage by role (`server`, `executor`, …), asked for when somebody reads it.

    Args:
        pids: the process ids by role, now. This process is the role `server` unless they name that role.
        said: what all servers on the same port, this one among them, said last of themselves (`own`). While
            that is nothing, this one is asked. No more is told than was written down: else a counter falls
            where a server dies that had told more.
    """

    def __init__(
        self,
        pids: Callable[[], Mapping[str, Iterable[int]]] = dict,
        said: Callable[[], Iterable[Usage]] = tuple,
    ) -> None:
        self._pids = pids
        self._said = said
        self._ended: dict[str, float] = {}
        self._seen: dict[tuple[str, int, int], float] = {}

    def usage(self) -> list[Usage]:
        """One entry a role, the server first, the other servers' among them."""
        found: dict[str, Usage] = {}
        for each in self._said() or self.own():
            total = found.setdefault(each.role, Usage(each.role))
            total.processes += each.processes
            total.cpu_seconds += each.cpu_seconds
            total.resident_bytes += each.resident_bytes
            total.open_fds += each.open_fds
        return list(found.values())

    def go_on(self, usage: Iterable[Usage]) -> None:
        """Go on from what a server used that ended, whose place this one takes."""
        for each in usage:
            self._ended[each.role] = self._ended.get(each.role, 0.0) + each.cpu_seconds

    def own(self, *, files: bool = True) -> list[Usage]:
        """One entry a role, of this server and its children alone.

        Args:
            files: whether the open ones are counted, which takes long where there are thousands.
        """
        by_role = {"server": [os.getpid()]} | {role: list(pids) for role, pids in self._pids().items()}
        return [self._of(role, pids, files) for role, pids in by_role.items()]

    def _of(self, role: str, pids: Iterable[int], files: bool) -> Usage:
        total = Usage(role)
        alive: dict[tuple[str, int, int], float] = {}
        for pid in pids:
            found = read(pid, files=files)
            if found is None:
                continue
            born, usage = found
            alive[role, pid, born] = usage.cpu_seconds
            total.processes += 1
            total.cpu_seconds += usage.cpu_seconds
            total.resident_bytes += usage.resident_bytes
            total.open_fds += usage.open_fds
        for key in [key for key in self._seen if key[0] == role and key not in alive]:
            # It ended: what it had used when it was last seen stays counted, or a counter would fall.
            self._ended[role] = self._ended.get(role, 0.0) + self._seen.pop(key)
        self._seen.update(alive)
        total.cpu_seconds += self._ended.get(role, 0.0)
        return total

    def families(self) -> Iterator[Metric]:
        """The conventional `process_*` of this process, and figures by role of all of them."""
        from prometheus_client import ProcessCollector
        from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily

        yield from ProcessCollector(registry=None).collect()
        alive = GaugeMetricFamily("modelport_processes", "Processes alive, by role.", labels=["role"])
        cpu = CounterMetricFamily(
            "modelport_processes_cpu_seconds", "Processor time of all processes, by role.", labels=["role"]
        )
        memory = GaugeMetricFamily(
            "modelport_processes_resident_memory_bytes",
            "Resident memory of all processes, by role; shared pages count in each.",
            labels=["role"],
        )
        fds = GaugeMetricFamily(
            "modelport_processes_open_fds",
            "Open file descriptors of all processes, by role.",
            labels=["role"],
        )
        for usage in self.usage():
            alive.add_metric([usage.role], usage.processes)
            cpu.add_metric([usage.role], usage.cpu_seconds)
            memory.add_metric([usage.role], usage.resident_bytes)
            fds.add_metric([usage.role], usage.open_fds)
        yield from (alive, cpu, memory, fds)


def read(pid: int, *, files: bool = True) -> tuple[int, Usage] | None:
    """When process `pid` started (ticks since boot) and what it takes; None if it is gone or not ours.

    Args:
        files: whether the open ones are counted.
    """
    try:
        text = (PROC / str(pid) / "stat").read_text(errors="replace")
        descriptors = len(os.listdir(PROC / str(pid) / "fd")) if files else 0
    except OSError:
        return None
    # The second field is the program's name in brackets, which may hold spaces and brackets itself.
    fields = text.rpartition(")")[2].split()
    if len(fields) < 22 or fields[0] == "Z":
        return None
    ticks, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    cpu = (int(fields[11]) + int(fields[12])) / ticks
    return int(fields[19]), Usage("", 1, cpu, int(fields[21]) * page, descriptors)
