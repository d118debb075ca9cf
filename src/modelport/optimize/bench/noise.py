"""Was the machine ours? What other programs took of its cores meanwhile, and how far the times swing."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import numpy as np

from ...tensors import Array

OTHERS = 0.05
"""Share of the cores above which other programs are worth a word."""
SWING = 0.1
"""The same for the spread of the rounds: the half between the quartiles, over the median."""


class Look(msgspec.Struct, frozen=True):
    """What the system counted up to now."""

    busy: float
    """Seconds that the cores of this process worked, for whomever."""
    stolen: float
    """Seconds that the host of this virtual machine took from them."""
    own: float
    """Seconds that this process worked."""
    throttled: int
    """How often the container had used up its share of the cores."""


def look() -> Look | None:
    """The counters now; None where the system has none (only Linux does)."""
    try:
        cores = os.sched_getaffinity(0)
        lines = Path("/proc/stat").read_text().splitlines()
        tick = os.sysconf("SC_CLK_TCK")
    except (AttributeError, OSError, ValueError):
        return None
    counts = [
        [int(each) for each in fields[1:]]
        for line in lines
        if (fields := line.split())[:1] and fields[0].startswith("cpu") and fields[0][3:].isdigit()
        if int(fields[0][3:]) in cores
    ]
    if not counts or not any(map(sum, counts)):
        return None
    # user nice system idle iowait irq softirq steal
    busy = sum(sum(each[:3]) + sum(each[5:8]) for each in counts) / tick
    stolen = sum(each[7] for each in counts if len(each) > 7) / tick
    times = os.times()
    return Look(busy, stolen, times.user + times.system, _throttled())


def _throttled() -> int:
    for place in ("/sys/fs/cgroup/cpu.stat", "/sys/fs/cgroup/cpu/cpu.stat"):
        try:
            lines = Path(place).read_text().splitlines()
        except OSError:
            continue
        return next((int(line.split()[1]) for line in lines if line.startswith("nr_throttled")), 0)
    return 0


def taken(before: Look | None, after: Look | None, seconds: float, cores: int) -> float:
    """The share of the cores that others had between two looks, the host of a virtual machine too; 0 where
    that is not known."""
    if before is None or after is None or seconds <= 0:
        return 0.0
    return max(0.0, (after.busy - before.busy - (after.own - before.own)) / (seconds * cores))


def disturbed(before: Look | None, after: Look | None, seconds: float, cores: int) -> list[str]:
    """What else ran between two looks, as sentences; none where nothing worth a word did."""
    if before is None or after is None or seconds <= 0:
        return []
    said = []
    stolen = (after.stolen - before.stolen) / (seconds * cores)
    others = (after.busy - before.busy - (after.own - before.own)) / (seconds * cores) - stolen
    if others > OTHERS:
        said.append(
            f"other programs used {others:.0%} of the {cores} cores meanwhile: the times are longer than on "
            "an idle machine; ratios hold better"
        )
    if stolen > OTHERS / 2:
        said.append(f"the host of this virtual machine took {stolen:.0%} of the cores meanwhile")
    if (times := after.throttled - before.throttled) > 0:
        said.append(f"the container's share of the cores was used up {times} times: its limit was measured")
    return said


def swinging(rounds: Array) -> list[str]:
    """A sentence where a configuration's rounds swing.

    Args:
        rounds: float64[rounds]: the median of each.
    """
    if len(rounds) < 4:
        return []
    low, middle, high = np.percentile(rounds, [25, 50, 75])
    swing = (high - low) / 2 / middle
    if swing <= SWING:
        return []
    return [
        f"the rounds swing by {swing:.0%}: more --seconds, or an idle machine, makes the intervals narrower"
    ]
