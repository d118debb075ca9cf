"""How much memory this process took; for the host and for the other process alike."""

from __future__ import annotations

import sys


def peak_bytes() -> int | None:
    """The most memory that this process ever had; None where nothing says."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            lines = dict(line.split(":", 1) for line in file if ":" in line)
        return int(lines["VmHWM"].split()[0]) << 10
    except (OSError, KeyError, ValueError):
        pass
    try:
        import resource
    except ImportError:  # Windows
        return None
    # Linux counts the parent's memory in as well, so that it is asked last.
    peak = int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    return peak if sys.platform == "darwin" else peak << 10
