"""Two answers to one request: do they say the same, and how far apart are their numbers? Pure.

What a label is, in this order:

1. `labels`, or else `indices`: texts or numbers ranked best first, as `top_k` gives them. The first of each
   row has to be the same.
2. One tensor of floating-point numbers whose last axis holds two or more: the largest of each row has to
   be at the same place.
3. Otherwise every tensor of whole numbers, truth values or text has to be equal.

A detector's answers agree where they have the same objects at the same places (`objects.py`); how far apart
they are is between the scores of those.

How far apart: the largest absolute difference between two numbers of one name and place. Where scores are
ranked, those of one class are compared, wherever each answer ranks it; a class that only one answer lists
counts by as much as its score is above the other's lowest. Two NaNs or two equal infinities are no
difference; a number against NaN has no measure, and is `inf`, as are answers with other names, kinds or
shapes, which do not agree either.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np

from ..tensors import Array, Tensors
from .objects import compare_objects, detects

SCORES = "scores"
RANKED = ("labels", "indices")


class Comparison(msgspec.Struct, frozen=True):
    """How two answers go together."""

    agree: bool
    """They have the same labels."""
    difference: float
    """Between their numbers, absolute; `inf` where there is no telling."""
    reason: str = ""
    """Why there is no telling, or where the difference is."""


def compare(answer: Tensors, other: Tensors) -> Comparison:
    """Compare the answer that was sent with the shadow's."""
    unlike = _unlike(answer, other)
    if unlike:
        return Comparison(False, math.inf, unlike)
    if detects(answer):
        agree, difference = compare_objects(answer, other)
        return Comparison(agree, difference, SCORES if difference else "")
    agree = _agree(answer, other)
    difference, place = _difference(answer, other)
    return Comparison(agree, difference, place if difference else "")


def _unlike(answer: Tensors, other: Tensors) -> str:
    """Why the two cannot be compared; empty where they can."""
    if answer.keys() != other.keys():
        return f"tensors {', '.join(sorted(answer))} against {', '.join(sorted(other))}"
    for name, array in answer.items():
        shapes = array.shape, other[name].shape
        if shapes[0] != shapes[1]:
            return f"{name}: shape {list(shapes[0])} against {list(shapes[1])}"
        kinds = _kind(array), _kind(other[name])
        if kinds[0] != kinds[1]:
            return f"{name}: {array.dtype.name} against {other[name].dtype.name}"
    return ""


def _kind(array: Array) -> str:
    """`text`, `bool`, `whole` or `real`: int32 and int64, float16 and float32 are compared."""
    kind = array.dtype.kind
    return "text" if kind in "OUS" else "bool" if kind == "b" else "whole" if kind in "iu" else "real"


def _agree(answer: Tensors, other: Tensors) -> bool:
    for name in RANKED:
        if name in answer and answer[name].ndim and answer[name].shape[-1]:
            return _equal(answer[name][..., 0], other[name][..., 0])
    reals = [name for name, array in answer.items() if _kind(array) == "real"]
    if len(reals) == 1:
        array = answer[reals[0]]
        if array.ndim and array.shape[-1] >= 2:
            return bool(np.array_equal(array.argmax(-1), other[reals[0]].argmax(-1)))
    return all(_equal(array, other[name]) for name, array in answer.items() if _kind(array) != "real")


def _equal(one: Array, two: Array) -> bool:
    if one.dtype.kind in "OUS":
        return [_text(item) for item in one.flat] == [_text(item) for item in two.flat]
    return bool(np.array_equal(one, two))


def _text(item: Any) -> Any:
    """Labels are text here and bytes there."""
    return item.decode(errors="surrogateescape") if isinstance(item, bytes) else item


def _difference(answer: Tensors, other: Tensors) -> tuple[float, str]:
    """The largest difference, and the tensor that has it."""
    ranking = _ranking(answer)
    largest, place = 0.0, ""
    for name, array in answer.items():
        if name == SCORES and ranking:
            found = _ranked_difference(array, answer[ranking], other[name], other[ranking])
        elif _kind(array) == "real" or (_kind(array) == "whole" and not ranking):
            found = _plain_difference(array, other[name])
        else:
            continue
        if found > largest:
            largest, place = found, name
    return largest, place


def _ranking(answer: Tensors) -> str | None:
    """The tensor that says which class each of the scores is of."""
    if SCORES not in answer or not answer[SCORES].ndim:
        return None
    for name in reversed(RANKED):  # numbers before names: two classes may have one name
        if name in answer and answer[name].shape == answer[SCORES].shape:
            return name
    return None


def _plain_difference(one: Array, two: Array) -> float:
    if not one.size:
        return 0.0
    left, right = np.asarray(one, np.float64), np.asarray(two, np.float64)
    same = (left == right) | (np.isnan(left) & np.isnan(right))
    with np.errstate(invalid="ignore", over="ignore"):
        gaps = np.where(same, 0.0, np.abs(left - right))
    largest = float(gaps.max())
    return math.inf if math.isnan(largest) else largest


def _ranked_difference(one: Array, classes: Array, two: Array, other_classes: Array) -> float:
    largest = 0.0
    width = one.shape[-1]
    if not width:
        return 0.0
    if np.array_equal(classes, other_classes):
        return _plain_difference(one, two)
    rows = (part.reshape(-1, width) for part in (one, classes, two, other_classes))
    for scores, names, others, other_names in zip(*rows, strict=True):
        left = {_text(name): float(score) for name, score in zip(names, scores, strict=True)}
        right = {_text(name): float(score) for name, score in zip(other_names, others, strict=True)}
        largest = max(largest, _class_difference(left, right), _class_difference(right, left))
    return largest


def _class_difference(left: dict[Any, float], right: dict[Any, float]) -> float:
    lowest = min(right.values())
    largest = 0.0
    for name, score in left.items():
        if name in right:
            gap = 0.0 if score == right[name] else abs(score - right[name])
        else:
            gap = max(score - lowest, 0.0)
        if math.isnan(gap):
            both = math.isnan(score) and math.isnan(right.get(name, 0.0))
            gap = 0.0 if both else math.inf
        largest = max(largest, gap)
    return largest
