"""Compiled steps beside the reference's outputs, sample by sample."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .. import plugins
from ..tensors import Array
from .axes import Order, without_batch
from .finding import Proof
from .samples import Sample


def as_network(raw: Array, order: Order) -> Array:
    """An output as a network takes it: one item, float64 as float32."""
    item = without_batch(raw)
    return item.astype(np.float32) if item.dtype == np.float64 else item


def prove(compiled: bytes, pairs: Sequence[tuple[Sample, Array]], slope: float) -> Proof:
    """Run the graph on the samples and compare.

    Args:
        compiled: the graph of `compile_pre`.
        pairs: samples, and the reference's outputs as `as_network` gives them.
        slope: how much one level is in values.
    """
    session = plugins.load("runtimes", "onnxruntime")().open(compiled, threads=1)
    equal, largest, off, total, worst = 0, 0.0, 0, 0, ""
    try:
        for sample, want in pairs:
            made: Array = next(iter(session.run({"image": np.ascontiguousarray(sample.pixels)}).values()))
            if made.shape != want.shape:
                largest, worst, off, total = np.inf, sample.name, off + want.size, total + want.size
                continue
            difference = np.abs(made.astype(np.float64) - want.astype(np.float64))
            equal += made.dtype == want.dtype and made.tobytes() == np.ascontiguousarray(want).tobytes()
            off += int((difference > slope / 2).sum())
            total += want.size
            if difference.max() > largest:
                largest, worst = float(difference.max()), sample.name
    finally:
        session.close()
    return Proof(len(pairs), equal, largest, largest / slope, off / max(total, 1), worst)
