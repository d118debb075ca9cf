"""Mean average precision in the way of Ultralytics' `val` (8.4), to be held against its figures.

It differs from COCO's in two ways: the area under the curve is that of straight lines between its points
(a trapezoid rule over 101 recalls, from precision 1 at recall 0) in place of the mean of 101 steps, and all
boxes of a picture count, not the 100 best of each class. On few pictures that is up to a point of mAP.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..tensors import Array
from .matching import THRESHOLDS, overlaps
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
    scores: dict[int, list[Array]] = {}
    hits: dict[int, list[Array]] = {}
    true: dict[int, int] = {}
    for outcome in outcomes:
        kept = ~outcome.crowd
        for index in np.unique(outcome.true_classes[kept]):
            true[int(index)] = true.get(int(index), 0) + int((outcome.true_classes[kept] == index).sum())
        for index in np.unique(outcome.classes):
            order = np.flatnonzero(outcome.classes == index)
            order = order[np.argsort(-outcome.scores[order], kind="stable")]
            theirs = outcome.true_boxes[kept & (outcome.true_classes == index)]
            scores.setdefault(int(index), []).append(outcome.scores[order])
            hits.setdefault(int(index), []).append(_hits(outcome.boxes[order], theirs))
    return {
        index: _area(np.concatenate(scores[index]), np.concatenate(hits[index]), true[index])
        if index in scores
        else np.zeros(len(THRESHOLDS))
        for index in sorted(true)
    }


def _hits(found: Array, true: Array) -> Array:
    """bool[m, 10]: the best scored box first takes the free true box that it overlaps most."""
    hit = np.zeros((len(found), len(THRESHOLDS)), bool)
    if not len(true) or not len(found):
        return hit
    iou = overlaps(found, true)
    taken = np.zeros((len(true), len(THRESHOLDS)), bool)
    levels = np.arange(len(THRESHOLDS))
    for row in np.flatnonzero(iou.max(axis=1) >= THRESHOLDS[0]):
        free = np.where(taken, 0, iou[row][:, None])
        best = free.argmax(axis=0)
        hit[row] = free[best, levels] >= THRESHOLDS
        taken[best, levels] |= hit[row]
    return hit


def _area(scores: Array, hits: Array, true: int) -> Array:
    """float64[10]: the area below the precision-recall curve of each threshold."""
    order = np.argsort(-scores, kind="stable")
    right = np.cumsum(hits[order], axis=0)
    precision = right / np.arange(1, len(order) + 1)[:, None]
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
