"""What a peer is given and what it gives back. Runs in every peer's environment."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

Answer = dict[str, Any]


class Job:
    """One network to make: read from the JSON file that the command names."""

    def __init__(self, path: Path) -> None:
        told = json.loads(path.read_text())
        self.model = Path(told["model"])
        """The float32 network."""
        self.out = Path(told["out"])
        self.calibration = Path(told["calibration"])
        self.bundle = Path(told["bundle"])
        self.truth = Path(told["truth"])
        self.weights = Path(told["weights"])
        self.settings: dict[str, Any] = told["settings"]

    def batches(self) -> Iterator[dict[str, np.ndarray]]:
        """The prepared calibration items, a batch of one each."""
        with np.load(self.calibration) as held:
            arrays = {name: held[name] for name in held.files}
        for place in range(len(next(iter(arrays.values())))):
            yield {name: array[place : place + 1] for name, array in arrays.items()}

    def judge(self) -> Any:
        """The labelled items, for tools that ask for the accuracy of what they try."""
        from benchmarks.optimize.judging import Judge
        from modelport.bundle.store import Bundle

        return Judge(Bundle.open(self.bundle), self.truth)


def main(make: Callable[[Job], Answer], packages: tuple[str, ...]) -> None:
    """Do the job that the command line names, and write `answer.json` beside what was made."""
    job = Job(Path(sys.argv[1]))
    begun = time.perf_counter()
    answer = make(job)
    answer["seconds"] = round(time.perf_counter() - begun, 1)
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    answer["processor_seconds"] = round(sum(each.ru_utime + each.ru_stime for each in used), 1)
    answer["versions"] = _versions(packages)
    (job.out / "answer.json").write_text(json.dumps(answer))
    sys.stdout.flush()
    os._exit(0)  # some tools leave threads behind


def _versions(packages: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
