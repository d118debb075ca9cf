"""The detection example as a whole: from drawing the pond to a verified bundle, timed.

    python benchmarks/train_detector.py [FOLDER] [--epochs 60]

Needs the environment of Ultralytics (modelport doctor --make ultralytics), which is not part of the time.
Prints wall and processor seconds: on a machine that does other work as well, the latter divided by the cores
says what an idle one would need at least.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "detection"
SETTINGS = ["--imgsz", "160", "--batch", "8"]
SETTINGS += ["--set", "optimizer=AdamW", "--set", "lr0=0.002", "--set", "close_mosaic=20"]


def main(folder: Path, epochs: int) -> None:
    for step, command in (
        ("draw", [str(EXAMPLE / "draw_pond.py"), str(folder / "pond")]),
        ("train to bundle", _training(folder, epochs)),
    ):
        began, before = time.monotonic(), _processor()
        subprocess.run([sys.executable, *command], check=True)
        wall, used = time.monotonic() - began, _processor() - before
        cores, load = os.cpu_count() or 1, os.getloadavg()[1]
        print(
            f"{step}: {wall:.0f} s, {used:.0f} processor seconds on {cores} cores, load {load:.1f}",
            flush=True,
        )
    print(json.dumps(json.loads((folder / "runs" / "result.json").read_text())))


def _training(folder: Path, epochs: int) -> list[str]:
    data, out, runs = folder / "pond" / "data.yaml", folder / "repo", folder / "runs"
    places = ["--data", str(data), "--out", str(out), "--runs", str(runs)]
    return [str(EXAMPLE / "train.py"), *places, "--name", "geese", "--epochs", str(epochs), *SETTINGS]


def _processor() -> float:
    """Seconds of processor time of all children that ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Time the detection example as a whole.")
    parser.add_argument(
        "folder", type=Path, nargs="?", help="where its files go, and stay (without it: nowhere)"
    )
    parser.add_argument("--epochs", type=int, default=60, help="fewer only to see whether all of it runs")
    chosen = parser.parse_args()
    if chosen.folder is not None:
        main(chosen.folder, chosen.epochs)
    else:
        with tempfile.TemporaryDirectory() as place:
            main(Path(place), chosen.epochs)
