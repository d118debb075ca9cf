"""Mean average precision in the way of Ultralytics' `val` (8.4), to be held against its figures.

It differs from COCO's in two ways: the area under the curve is that of straight lines between its points
(a trapezoid rule over 101 recalls, from precision 1 at recall 0) in place of the mean of 101 steps, and all
boxes of a picture count, not the 100 best of each class. On few pictures that is up to a point of mAP.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..tensors import Array
from .matching import THRESHOLDS, collect, overlaps
from .values import Detected

_RECALLS = np.linspace(0, 1, 101)


def ultralytics_map(outcomes: Sequence[Detected]) -> dict[str, float | None]:
    """`map` (IoU .5 to .95), `map50` and `map75`: means over classes with true boxes; None without any."""
    of_class = ultralytics_ap(outcomes)
    if not of_class:
        return {"map": None, "map50": None, "map75": None}
    table = np.stack(list(of_class.values()))
    return {
        "map": float(table.mean()),
        "map50": float(table[:, 0].mean()),
        "map75": float(table[:, 5].mean()),
    }


def ultralytics_ap(outcomes: Sequence[Detected]) -> dict[int, Array]:
    """For each class with true boxes its average precision at each threshold: float64[10]."""
    none = np.zeros(len(THRESHOLDS))
    return {
        index: _area(each.hit.T, int(each.true.sum())) if len(each.score) else none
        for index, each in collect(outcomes, _match, None).items()
    }


def _match(found: Array, true: Array, crowd: Array) -> tuple[Array, Array]:
    """The best scored box first takes the free true box that it overlaps most; crowds are no true boxes."""
    hit = np.zeros((len(THRESHOLDS), len(found)), bool)
    ignored = np.zeros_like(hit)
    true = true[~crowd]
    if not len(true) or not len(found):
        return hit, ignored
    iou = overlaps(found, true)
    taken = np.zeros((len(true), len(THRESHOLDS)), bool)
    levels = np.arange(len(THRESHOLDS))
    for row in np.flatnonzero(iou.max(axis=1) >= THRESHOLDS[0]):
        free = np.where(taken, 0, iou[row][:, None])
        best = free.argmax(axis=0)
        hit[:, row] = free[best, levels] >= THRESHOLDS
        taken[best, levels] |= hit[:, row]
    return hit, ignored


def _area(hits: Array, true: int) -> Array:
    """float64[10]: the area below the precision-recall curve of each threshold.

    Args:
        hits: bool[m, 10], best score first. true: how many there are to find.
    """
    right = np.cumsum(hits, axis=0)
    precision = right / np.arange(1, len(hits) + 1)[:, None]
    recall = right / true
    areas = []
    for level in range(len(THRESHOLDS)):
        x = np.concatenate([[0.0], recall[:, level], [recall[-1, level], 1.0]])
        y = np.concatenate([[1.0], precision[:, level], [0.0, 0.0]])
        envelope = np.maximum.accumulate(y[::-1])[::-1]
        areas.append(_trapezoid(np.interp(_RECALLS, x, envelope)))
    return np.array(areas)


def _trapezoid(y: Array) -> float:
    return float(((y[1:] + y[:-1]) / 2).sum() / (len(y) - 1))
