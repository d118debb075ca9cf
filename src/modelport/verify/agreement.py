"""Do two answers name the same class? Said beside the differences, which mean little to people."""

from __future__ import annotations

import numpy as np

from ..tensors import Tensors
from .detections import are_detections


def best_class(answer: Tensors) -> str | int | None:
    """The class that a batch of one row is answered with; None where the answer is not one of classes.

    Args:
        answer: a classifier's (`labels` or `indices`, best first), or that of a network whose only output is
            `[1, classes]` floats, or 8-bit whole numbers that stand for such: then the index of the largest.
    """
    if are_detections(answer):
        return None
    for name in ("labels", "indices"):
        ranked = answer.get(name)
        if ranked is not None and "scores" in answer and ranked.ndim == 2 and ranked.size:
            found: str | int = ranked[0, 0].item() if name == "indices" else str(ranked[0, 0])
            return found
    if len(answer) != 1:
        return None
    (only,) = answer.values()
    scores = only.dtype.kind == "f" or only.dtype in (np.int8, np.uint8)
    if not scores or only.ndim != 2 or len(only) != 1 or only.shape[1] < 2:
        return None
    return int(np.argmax(only[0]))


def agree(got: Tensors, want: Tensors) -> bool | None:
    """Whether both are answered with one class; None where they are not answered with classes."""
    wanted = best_class(want)
    return None if wanted is None else best_class(got) == wanted
