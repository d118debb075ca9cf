"""A call stage by stage: decode, pre, the network, post."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np

from ..runtimes.pipeline import Pipeline
from ..steps.lowering import TRIALS
from ..tensors import Array, Tensors

STAGES = ("decode", "pre", "net", "post")
"""In the order an item passes them."""


def staged(pipeline: Pipeline, encoded: Sequence[bytes]) -> tuple[list[dict[str, Array]], Array]:
    """The answers to some items, a batch in each, and the seconds of decode, pre, net and post: float64[4].

    Neighbours whose prepared tensors have one shape share a run of the network, as in `answer_many`.
    """
    begun = time.perf_counter()
    decoded = [pipeline.decode(item) for item in encoded]
    at_pre = time.perf_counter()
    batches = list(_batches(pipeline, decoded))
    at_net = time.perf_counter()
    raw = [pipeline.net(batch) for batch in batches]
    at_post = time.perf_counter()
    answers = [
        pipeline.post(made | {name: batch[name] for name in pipeline.carried})
        for made, batch in zip(raw, batches, strict=True)
    ]
    ended = time.perf_counter()
    return answers, np.diff([begun, at_pre, at_net, at_post, ended])


def settle(pipeline: Pipeline, encoded: Sequence[bytes]) -> None:
    """Let a pipeline find out how it prepares items of these sizes: the first are prepared in two ways.

    Without this the calls that are timed would pay for it, once for every size.
    """
    sizes: dict[str, bytes] = {}
    for item in encoded:
        decoded = pipeline.decode(item)
        size = [(name, [side.bit_length() for side in array.shape]) for name, array in decoded.items()]
        sizes.setdefault(repr(size), item)
    for item in sizes.values():
        for _ in range(TRIALS):
            list(_batches(pipeline, [pipeline.decode(item)]))


def _batches(pipeline: Pipeline, decoded: Sequence[Tensors]) -> Iterator[dict[str, Array]]:
    if pipeline.bundle.manifest.decode.kind == "table":
        for item in decoded:
            pipeline.bundle.manifest.graphs.pre.signature.check_inputs(item)
        yield pipeline.pre_rows({name: np.stack([item[name] for item in decoded]) for name in decoded[0]})
        return
    prepared = [pipeline.pre(item) for item in decoded]
    for _, same in groupby(prepared, key=lambda item: [(name, item[name].shape) for name in item]):
        alike = list(same)
        yield {name: np.stack([item[name] for item in alike]) for name in alike[0]}
