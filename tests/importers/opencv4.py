"""The environment with OpenCV 4, and one process in it that converts and computes what tests give it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from modelport.importers.isolated import open_worker
from modelport.importers.source import Permission
from modelport.isolation import environments
from modelport.isolation.worker import Worker
from modelport.tensors import Array


def opencv4(patch: pytest.MonkeyPatch) -> None:
    """Have the environment found that ./test makes; the test skips without it."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    patch.setenv(environments.VARIABLE, str(cache / "modelport-bench" / "environments"))
    wanted = environments.table("opencv4")
    if environments.lacks(wanted) and environments.python_of(wanted) is None:
        pytest.skip(f"no environment with OpenCV 4 in {environments.root()}: ./test makes it")


@contextmanager
def converter(name: str) -> Iterator[Worker]:
    """A confined process with a converter."""
    with pytest.MonkeyPatch.context() as patch:
        opencv4(patch)
        worker = open_worker(name, "opencv4", Permission())
    yield worker
    worker.close()


def both(
    worker: Worker, question: dict[str, Any], seed: int = 0, rows: int = 2
) -> tuple[dict[str, Array], dict[str, Array], dict[str, Any]]:
    """What ONNX and what OpenCV make of the same random rows, by output; and the converter's words."""
    about, arrays = worker.call({"do": "open", **question})
    session = onnxruntime.InferenceSession(arrays["onnx"].tobytes(), providers=["CPUExecutionProvider"])
    random = np.random.default_rng(seed)
    batch = {
        each.name: random.normal(0, 1, (rows, *each.shape[1:])).astype(np.float32)
        for each in session.get_inputs()
    }
    want = worker.call({"do": "run"}, batch)[1]
    names = [each.name for each in session.get_outputs()]
    parts = [session.run(names, {k: v[row : row + 1] for k, v in batch.items()}) for row in range(rows)]
    got = {name: np.concatenate([part[index] for part in parts]) for index, name in enumerate(names)}
    return got, want, about
