"""Is there memory for all that is to be loaded side by side?"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...bundle.store import Bundle
from ...errors import Unsupported
from ...runtimes.form import Form
from .timing import Configuration

COPIES = 2
"""A loaded network takes about so many times its file: the weights, and the same in another layout."""
SHARE = 0.8
"""Of the memory that is free, at most."""


def check_memory(
    bundle: Bundle, forms: Sequence[Form], wanted: Sequence[Configuration], free: int | None
) -> None:
    """Refuse what would not fit, before the system ends the process.

    Args:
        wanted: every form is loaded once for each number of threads and each caller.
        free: bytes; None where that is not known.

    Raises:
        Unsupported: there is not enough memory.
    """
    if free is None:
        return
    lanes = {(each.form, each.threads): each.callers for each in wanted}
    files = bundle.manifest.files
    need = sum(COPIES * files[forms[form].file].size * callers for (form, _), callers in lanes.items())
    if need > SHARE * free:
        raise Unsupported(
            f"{sum(lanes.values())} copies of the network would be loaded side by side, which takes about "
            f"{need / 1e9:.1f} GB; {free / 1e9:.1f} GB are free",
            hint="measure fewer at a time: --runtime, --variant, --threads",
        )


def free_memory() -> int | None:
    """Bytes that a program can still have; None where the system does not say (only Linux does)."""
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        found = int(lines["MemAvailable"].split()[0]) << 10
    except (OSError, KeyError, ValueError):
        return None
    try:
        group = Path("/sys/fs/cgroup")
        most = int((group / "memory.max").read_text())
        used = int((group / "memory.current").read_text())
        counted = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        # Files that were read are counted as used, and given up when somebody needs the room.
        return max(0, min(found, most - used + int(counted["inactive_file"])))
    except (OSError, KeyError, ValueError):
        return found  # no container's limit
