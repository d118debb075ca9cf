"""A process that answers one item and says how much memory it took: `python -m modelport.optimize.startup
BUNDLE ITEM`."""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

from ..runtimes.pipeline import Pipeline


def main(bundle: str, item: str) -> None:
    """Answer the file `item`, and print `{"peak_bytes": ...}`."""
    with Pipeline.open(bundle) as pipeline:
        pipeline.answer(pipeline.decode(Path(item).read_bytes()))
    print(json.dumps({"peak_bytes": peak_bytes()}))


def peak_bytes() -> int:
    """The most memory that this process ever had."""
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) << 10
    except (OSError, KeyError, ValueError):
        # Linux would count the parent's memory in as well; macOS counts in bytes.
        return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


if __name__ == "__main__":
    main(*sys.argv[1:3])
