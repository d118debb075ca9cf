"""Seconds until things are there: `import modelport`, `modelport --help`, `modelport demo` to its page.

    python benchmarks/startup.py [--json]

Each is the median of several runs, beside the floor that no program with the same libraries can pass:
an empty Python, and one that imports onnxruntime and starlette and does nothing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable

RUNS = 7


def command(*arguments: str) -> Callable[[], float]:
    """Seconds that a Python with these arguments takes from start to end."""

    def run() -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - start

    return run


def demo() -> float:
    """Seconds from starting the demo to the digits page in hand."""
    start = time.perf_counter()
    server = subprocess.Popen(
        [sys.executable, "-m", "modelport", "demo", "--no-browser", "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        url = server.stdout.readline().split()[-1]
        with urllib.request.urlopen(url, timeout=30) as reply:
            assert b"canvas" in reply.read()
        return time.perf_counter() - start
    finally:
        server.terminate()
        server.wait(30)


def main() -> None:
    """Measure, interleaved, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    cases = {
        "python": command("-c", ""),
        "import modelport": command("-c", "import modelport"),
        "modelport --help": command("-m", "modelport", "--help"),
        "import onnxruntime, starlette": command("-c", "import onnxruntime, starlette.applications"),
        "modelport demo, to its page": demo,
    }
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(RUNS):
        for name, run in cases.items():
            seconds[name].append(run())
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    if options.json:
        print(json.dumps(medians))
        return
    for name, value in medians.items():
        print(f"{name:30} {value * 1000:7.0f} ms")


if __name__ == "__main__":
    main()
