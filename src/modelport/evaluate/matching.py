"""Which found box is which true one: COCO's rules, picture by picture, as arrays of hits by score.

The rules are those of COCO's own evaluation (`cocoeval.py`, evaluateImg): the best scored box chooses first,
takes the free true box that it overlaps most, and at equal overlap the later one; a crowd may be taken any
number of times, and what is found on it counts neither way.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from ..tensors import Array
from .values import Detected

THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""IoU from which a found box is the true one."""
MOST = 100
"""Boxes of one class in one picture that count, the best scored ones (COCO's maxDets)."""


class Hits(msgspec.Struct, frozen=True, eq=False):
    """What was found of one class in all pictures, best score first."""

    picture: Array
    """int64[m]"""
    score: Array
    """float64[m]"""
    hit: Array
    """bool[10, m]: is a true box at each threshold."""
    ignored: Array
    """bool[10, m]: lies on a crowd: counts neither way."""
    true: Array
    """int64[pictures]: true boxes, crowds left out."""


def hits_of(outcomes: Sequence[Detected]) -> dict[int, Hits]:
    """For each class with true boxes what was found of it."""
    classes = sorted({int(index) for outcome in outcomes for index in outcome.true_classes})
    found: dict[int, list[tuple[int, Array, Array, Array]]] = {index: [] for index in classes}
    true = {index: np.zeros(len(outcomes), np.int64) for index in classes}
    for place, outcome in enumerate(outcomes):
        for index in np.unique(np.concatenate([outcome.true_classes, outcome.classes])):
            if int(index) not in found:
                continue
            theirs, ours = outcome.true_classes == index, outcome.classes == index
            crowd = outcome.crowd[theirs]
            true[int(index)][place] = np.count_nonzero(~crowd)
            order = np.flatnonzero(ours)
            order = order[np.argsort(-outcome.scores[order], kind="stable")][:MOST]
            if len(order):
                hit, ignored = match(outcome.boxes[order], outcome.true_boxes[theirs], crowd)
                found[int(index)].append((place, outcome.scores[order], hit, ignored))
    return {index: _merged(found[index], true[index]) for index in classes if true[index].any()}


def match(found: Array, true: Array, crowd: Array) -> tuple[Array, Array]:
    """Boxes of one class in one picture, best score first: bool[10, m] hits, and which are ignored.

    Args:
        found: float[m, 4]. true: float[n, 4]. crowd: bool[n].
    """
    hit = np.zeros((len(THRESHOLDS), len(found)), bool)
    ignored = np.zeros_like(hit)
    if not len(true):
        return hit, ignored
    last = np.argsort(crowd, kind="stable")  # crowds are asked when nothing else is left
    crowd = crowd[last]
    iou = overlaps(found, true[last], crowd)
    for row in np.flatnonzero(iou.max(axis=1) >= THRESHOLDS[0] - 1e-9):
        hit[:, row] = True  # to be judged below
    candidates = np.flatnonzero(hit[0])
    hit[:] = False
    for level, threshold in enumerate(THRESHOLDS):
        free = np.ones(len(crowd), bool)
        for row in candidates:
            best = _best(iou[row], min(threshold, 1 - 1e-10), free, crowd)
            if best >= 0:
                free[best] = crowd[best]
                hit[level, row], ignored[level, row] = not crowd[best], crowd[best]
    return hit, ignored


def _best(iou: Array, threshold: float, free: Array, crowd: Array) -> int:
    """The box to take, or -1; at equal overlap the last."""
    for kind in (~crowd, crowd):
        able = np.flatnonzero(free & kind & (iou >= threshold))
        if len(able):
            values = iou[able]
            return int(able[len(values) - 1 - int(np.argmax(values[::-1]))])
    return -1


def overlaps(found: Array, true: Array, crowd: Array | None = None) -> Array:
    """float64[m, n]: intersection over union; with a crowd, over the found box alone."""
    a, b = found.astype(np.float64)[:, None], true.astype(np.float64)[None]
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    shared = np.clip(sides, 0, None).prod(axis=-1)
    area_a, area_b = (a[..., 2:] - a[..., :2]).prod(axis=-1), (b[..., 2:] - b[..., :2]).prod(axis=-1)
    union = area_a + area_b - shared
    if crowd is not None:
        union = np.where(crowd[None], np.broadcast_to(area_a, union.shape), union)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(shared > 0, shared / union, 0.0)


def _merged(parts: list[tuple[int, Array, Array, Array]], true: Array) -> Hits:
    none = np.zeros((len(THRESHOLDS), 0), bool)
    picture = np.concatenate(
        [np.full(len(scores), place) for place, scores, _, _ in parts] or [np.empty(0, int)]
    )
    scores = np.concatenate([scores for _, scores, _, _ in parts] or [np.empty(0)]).astype(np.float64)
    hit = np.concatenate([hit for _, _, hit, _ in parts] or [none], axis=1)
    ignored = np.concatenate([ignored for _, _, _, ignored in parts] or [none], axis=1)
    order = np.argsort(-scores, kind="stable")
    return Hits(picture[order].astype(np.int64), scores[order], hit[:, order], ignored[:, order], true)
