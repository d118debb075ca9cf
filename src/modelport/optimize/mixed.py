"""Layers back in float until the answers are right: the fewest of those that are most worth their time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from .calibration import Calibration
from .candidate import Candidate, NotApplicable, Pass, disk_is_full, in_a_line, network_of
from .found import Found
from .measuring import loss
from .outcome import Entry
from .passes.int8 import StaticInt8
from .recipe import key_of_network
from .sensitivity import Layer, layers

DEAREST = 0.6
"""Of the layers' time: with more of it in float 8 bits are not worth their name."""


def nearest(
    steps: Sequence[Pass], entries: Sequence[Entry], made: Mapping[str, Candidate]
) -> StaticInt8 | None:
    """Of the 8-bit candidates the one that loses least, where none passes; None else."""
    static = [step for step in steps if isinstance(step, StaticInt8) and step.id in made]
    by_id = {entry.id: entry for entry in entries}
    if any(by_id[step.id].status == "kept" for step in static):
        return None
    return min(static, key=lambda step: loss(by_id[step.id]), default=None)


def ranked(
    step: StaticInt8,
    base: Candidate,
    quantized: Candidate,
    calibration: Calibration,
    found: Found,
    seconds: float,
) -> list[Layer]:
    """The layers that are to be put back to float, the one most worth its time first.

    Args:
        base, quantized: what `step` worked on, and what it made.
        found: where the ranking is kept, so that a search that goes on puts back the same ones.
        seconds: of fewer items where it would take longer.

    Raises:
        NotApplicable: none is worth it, or can be ranked.
    """

    def rank() -> list[Layer]:
        own, _ = step.ready(network_of(base.bundle))
        return layers(own, network_of(quantized.bundle), calibration, seconds)

    try:
        layer_by_layer = found.ranking(quantized.id, key_of_network(quantized), rank)
    except Exception as problem:  # ONNX Runtime has exceptions of its own for parts of a network
        if disk_is_full(problem):
            raise
        raise NotApplicable(in_a_line(problem)) from problem
    if not layer_by_layer:
        raise NotApplicable(f"no layer of {quantized.id} can be tried alone")
    if not most(layer_by_layer):
        first = layer_by_layer[0].name
        raise NotApplicable(f"{first}, the most worth it, takes over {DEAREST:.0%} of the layers' time")
    return layer_by_layer


def most(ranked: Sequence[Layer]) -> int:
    """How many of the first layers may be in float: those that together take `DEAREST` of the time."""
    whole = sum(layer.milliseconds for layer in ranked)
    spent = 0.0
    for count, layer in enumerate(ranked):
        spent += layer.milliseconds
        if spent > DEAREST * whole:
            return count
    return max(0, len(ranked) - 1)


def fewest(limit: int, passes: Callable[[int], bool]) -> int | None:
    """The least count up to `limit` that passes, by bisection; None where not even `limit` does.

    Args:
        passes: whether so many do; if some number does, more are taken to do as well.
    """
    if limit < 1 or not passes(limit):
        return None
    low, high = 0, limit  # `low` does not pass, or is none at all
    while high - low > 1:
        middle = (low + high) // 2
        if passes(middle):
            high = middle
        else:
            low = middle
    return high
