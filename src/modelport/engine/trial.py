"""What batches of a network cost here, tried before it answers."""

from __future__ import annotations

import time

import numpy as np

from ..errors import ModelportError
from ..runtimes.pipeline import Pipeline
from ..tensors import Array, numpy_dtype
from ..verify.replay import read_taps


def trial_costs(pipeline: Pipeline, max_rows: int, *, seconds: float) -> list[tuple[int, float]]:
    """(rows, seconds of one run) for 1, 2, 4, … rows, as far as `seconds` of trying allow.

    The batch that was best where the variant was measured comes right after one row: a large network leaves
    no time for those between. At least one run is made, so that the first request does not pay for what ONNX
    Runtime does lazily.
    """
    row = _one_row(pipeline)
    if row is None:
        return []
    costs: list[tuple[int, float]] = []
    began = time.perf_counter()
    measured = _measured_batch(pipeline)
    for rows in _sizes(max_rows if pipeline.bundle.manifest.graphs.net.batch else 1, measured):
        if costs:
            # The first run of a size allocates, so that it takes two or three to know one.
            expected = costs[-1][1] / costs[-1][0] * rows * (1.0 if rows == measured else 2.5)
            if time.perf_counter() - began + expected > seconds:
                if rows == measured:
                    continue
                break
        batch = {name: np.repeat(array, rows, axis=0) for name, array in row.items()}
        took = []
        for _ in range(4):
            start = time.perf_counter()
            try:
                pipeline.net(batch)
            except ModelportError:
                return costs
            took.append(time.perf_counter() - start)
            if time.perf_counter() - began > seconds:
                break
        # The first counts only where there is no other.
        costs.append((rows, min(took[1:] or took)))
    return costs


def _sizes(max_rows: int, measured: int) -> list[int]:
    """1, the batch that was measured, and the other powers of two."""
    powers = [1 << power for power in range(1, max_rows.bit_length())]
    return [1, *(size for size in dict.fromkeys([measured, *powers]) if 1 < size <= max_rows)]


def _measured_batch(pipeline: Pipeline) -> int:
    """The batch at which the variant that runs gave most; 0 where nothing is recorded of it."""
    variants = pipeline.bundle.manifest.variants
    return next((each.batch for each in variants if each.name == pipeline.variant), 0)


def _one_row(pipeline: Pipeline) -> dict[str, Array] | None:
    """One row for the network: from the first golden case, or zeros where the signature says their shape."""
    bundle = pipeline.bundle
    golden = bundle.manifest.golden
    if golden is not None and golden.cases:
        taps = read_taps(bundle.read(golden.cases[0].taps), golden.cases[0].taps)
        return {name: array[None] for name, array in taps["pre"].items()}
    row = {}
    for spec in bundle.manifest.graphs.net.signature.inputs:
        if spec.dtype == "string" or any(isinstance(size, str) for size in spec.shape[1:]):
            return None
        row[spec.name] = np.zeros([1, *(int(size) for size in spec.shape[1:])], numpy_dtype(spec.dtype))
    return row
