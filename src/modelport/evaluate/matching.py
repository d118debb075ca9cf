"""Which found box is which true one: COCO's rules, picture by picture, as arrays of hits by score.

The rules are those of COCO's own evaluation (`cocoeval.py`, evaluateImg): the best scored box chooses first,
takes the free true box that it overlaps most, and at equal overlap the later one; a crowd may be taken any
number of times, and what is found on it counts neither way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

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


Matcher = Callable[[Array, Array, Array], tuple[Array, Array]]
"""Boxes of one class in one picture, best score first, true ones, crowds -> hits, ignored: bool[10, m]."""


def hits_of(outcomes: Sequence[Detected]) -> dict[int, Hits]:
    """For each class with true boxes what was found of it, by COCO's rules."""
    return collect(outcomes, match, MOST)


def collect(outcomes: Sequence[Detected], matcher: Matcher, most: int | None) -> dict[int, Hits]:
    """For each class with true boxes what was found of it.

    Args:
        matcher: which found box is which true one.
        most: boxes of one class in one picture that count; None for all.
    """
    parts = [_picture(place, outcome, matcher, most) for place, outcome in enumerate(outcomes)]
    true = [(place, outcome.true_classes[~outcome.crowd]) for place, outcome in enumerate(outcomes)]
    classes = np.unique(np.concatenate([each for _, each in true] or [np.empty(0, np.int64)]))
    counts = np.zeros((len(classes), len(outcomes)), np.int64)
    for place, each in true:
        np.add.at(counts[:, place], np.searchsorted(classes, each), 1)
    whole = _joined(parts)
    # Stable: of equal scores those of earlier pictures come first.
    order = np.lexsort((-whole.score, whole.label))
    label = whole.label[order]
    found = {}
    for index, true_boxes in zip(classes.tolist(), counts, strict=True):
        part = order[np.searchsorted(label, index, "left") : np.searchsorted(label, index, "right")]
        found[index] = Hits(
            whole.picture[part],
            whole.score[part],
            whole.hit[:, part],
            whole.ignored[:, part],
            true_boxes,
        )
    return found


class _Found(msgspec.Struct, frozen=True, eq=False):
    """Boxes of all classes: the arrays of `Hits`, and the class of each."""

    picture: Array
    score: Array
    label: Array
    hit: Array
    ignored: Array


def _picture(place: int, outcome: Detected, matcher: Matcher, most: int | None) -> _Found:
    order = np.lexsort((-outcome.scores, outcome.classes))
    label = outcome.classes[order]
    if most is not None and len(order) > most:
        rank = np.arange(len(label)) - np.searchsorted(label, label, "left")
        order, label = order[rank < most], label[rank < most]
    hit = np.zeros((len(THRESHOLDS), len(order)), bool)
    ignored = np.zeros_like(hit)
    for index in np.unique(outcome.true_classes).tolist():
        part = slice(np.searchsorted(label, index, "left"), np.searchsorted(label, index, "right"))
        theirs = outcome.true_classes == index
        hit[:, part], ignored[:, part] = matcher(
            outcome.boxes[order[part]], outcome.true_boxes[theirs], outcome.crowd[theirs]
        )
    scores = outcome.scores[order].astype(np.float64)
    return _Found(np.full(len(order), place, np.int64), scores, label, hit, ignored)


def _joined(parts: Sequence[_Found]) -> _Found:
    none = np.zeros((len(THRESHOLDS), 0), bool)
    empty = np.empty(0, np.int64)
    return _Found(
        np.concatenate([part.picture for part in parts] or [empty]),
        np.concatenate([part.score for part in parts] or [np.empty(0)]),
        np.concatenate([part.label for part in parts] or [empty]),
        np.concatenate([part.hit for part in parts] or [none], axis=1),
        np.concatenate([part.ignored for part in parts] or [none], axis=1),
    )


def match(found: Array, true: Array, crowd: Array) -> tuple[Array, Array]:
    """Boxes of one class in one picture, best score first: bool[10, m] hits, and which are ignored.

    Args:
        found: float[m, 4]. true: float[n, 4]. crowd: bool[n].
    """
    hit = np.zeros((len(THRESHOLDS), len(found)), bool)
    ignored = np.zeros_like(hit)
    if not len(true) or not len(found):
        return hit, ignored
    last = np.argsort(crowd, kind="stable")  # crowds are asked when nothing else is left
    crowd = crowd[last]
    iou = overlaps(found, true[last], crowd)
    wanted = np.minimum(THRESHOLDS, 1 - 1e-10)[:, None]
    levels = np.arange(len(THRESHOLDS))
    free = np.ones((len(THRESHOLDS), len(crowd)), bool)
    for row in np.flatnonzero(iou.max(axis=1) >= THRESHOLDS[0] - 1e-9):
        able = free & (iou[row] >= wanted)
        single = able & ~crowd
        alone = single.any(axis=1)  # crowds only where no true box is left
        able = np.where(alone[:, None], single, able)
        best = _last_best(np.where(able, iou[row], -1.0))
        taken = able.any(axis=1)
        hit[:, row], ignored[:, row] = alone, taken & ~alone
        free[levels[alone], best[alone]] = False
    return hit, ignored


def _last_best(values: Array) -> Array:
    """The place of each row's largest value; at equal ones the last."""
    last: Array = values.shape[1] - 1 - np.argmax(values[:, ::-1], axis=1)
    return last


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
