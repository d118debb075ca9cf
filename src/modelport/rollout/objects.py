"""Two detectors' answers to one picture: the same objects at the same places? Pure.

Objects are paired, the best first, with the one of the same class that covers most of the same area; half of
their union has to be shared.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..tensors import Array, Tensors

NAMES = ("boxes", "scores", "classes", "count")
"""The tensors of a detector's answer that are looked at."""
MIN_OVERLAP = 0.5
"""Intersection over union from which two boxes are one object."""


def detects(answer: Tensors) -> bool:
    """Whether an answer is a detector's; with a batch axis, as engines give it."""
    return all(name in answer for name in NAMES) and answer["count"].ndim == answer["scores"].ndim - 1 == 1


def compare_objects(answer: Tensors, other: Tensors) -> tuple[bool, float]:
    """Whether all objects have their counterpart, and the largest difference between scores.

    An object without a counterpart counts by its whole score.
    """
    agree, largest = True, 0.0
    for row in range(len(answer["count"])):
        one, two = _objects(answer, row), _objects(other, row)
        pairs = _pairs(one, two)
        gaps = [abs(float(one["scores"][a]) - float(two["scores"][b])) for a, b in pairs]
        gaps += [float(each) for each in np.delete(one["scores"], [a for a, _ in pairs])]
        gaps += [float(each) for each in np.delete(two["scores"], [b for _, b in pairs])]
        agree = agree and len(pairs) == len(one["scores"]) == len(two["scores"])
        largest = max([largest, *gaps])
    return agree, largest


def _objects(answer: Tensors, row: int) -> dict[str, Array]:
    many = max(0, int(answer["count"][row]))
    return {name: answer[name][row][:many] for name in NAMES[:3]}


def _pairs(one: dict[str, Array], two: dict[str, Array]) -> list[tuple[int, int]]:
    if not len(one["scores"]) or not len(two["scores"]):
        return []
    shared = _overlap(one["boxes"].astype(np.float64), two["boxes"].astype(np.float64))
    shared[one["classes"][:, None] != two["classes"][None]] = 0.0
    pairs = []
    for index in range(len(shared)):
        best = int(shared[index].argmax())
        if shared[index, best] >= MIN_OVERLAP:
            pairs.append((index, best))
            shared[:, best] = 0.0
    return pairs


def _overlap(one: Array, two: Array) -> np.ndarray[Any, Any]:
    """Intersection over union of each box with each; 0 for those without an area."""
    left_top = np.maximum(one[:, None, :2], two[None, :, :2])
    right_bottom = np.minimum(one[:, None, 2:], two[None, :, 2:])
    inner = np.prod(np.maximum(right_bottom - left_top, 0.0), axis=2)
    areas = [np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0.0), axis=1) for boxes in (one, two)]
    union = areas[0][:, None] + areas[1][None] - inner
    return np.where(union > 0, inner / np.where(union > 0, union, 1.0), 0.0)
