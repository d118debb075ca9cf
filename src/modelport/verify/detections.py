"""Two answers of a detector: the same objects, whatever their order? Knows no bundle.

Positions say nothing: of two near-equal scores either may come first, and what is a hair over a threshold
here is a hair under it elsewhere. So objects are matched, and one that has no match is forgiven only where a
threshold, or a tie within the tolerance, explains that it is there or not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec
import numpy as np

from ..bundle.manifest import Tolerance
from ..tensors import Array, Tensors, dtype_name, is_detection
from .parity import Parity

_NAMES = ("boxes", "scores", "classes", "count")
MATCHES_FOR_A_TIE = 4
"""Objects of a picture that have to agree for each that is forgiven as a tie."""
SHARED = 0.5
"""Of the union of two boxes: so much has to be in both for them to be of one object."""
_AT_THE_EDGE = 0.2
"""What clipping to the picture may change of an overlap."""


class Thresholds(msgspec.Struct, frozen=True):
    """What decided on the objects, where it is known."""

    score: float | None = None
    iou: float | None = None
    agnostic: bool = False
    """Whether objects of different classes suppress each other."""


class _Objects(msgspec.Struct):
    """One row's objects, best first."""

    boxes: Array
    scores: Array
    classes: Array
    labels: list[str]
    full: bool
    """Whether every place is taken, so that there may be more."""

    def shown(self, index: int) -> str:
        box = ", ".join(f"{side:.1f}" for side in self.boxes[index])
        name = self.labels[index] if self.labels else f"class {self.classes[index]}"
        return f"{name} {self.scores[index]:.4f} at [{box}]"


def are_detections(answer: Tensors) -> bool:
    """Whether a batch of answers is of found objects."""
    if any(answer[name].ndim == 0 for name in answer if name in _NAMES):
        return False
    return is_detection({name: array[0] if len(array) else array for name, array in answer.items()})


def compare_detections(
    got: Tensors, want: Tensors, tolerance: Tolerance, thresholds: Thresholds
) -> dict[str, Parity]:
    """`boxes`, `scores`, `classes`, `count` and `labels` of two batches, by name.

    A score agrees within the tolerance; a box where its sides do within twice the tolerance at the largest
    coordinate of the row.
    """
    names = [*_NAMES, *(["labels"] if "labels" in want else [])]
    for name in names:
        if name not in got or got[name].shape != want[name].shape:
            have = f"{dtype_name(got[name])}{list(got[name].shape)}" if name in got else "nothing"
            reason = f"expected {dtype_name(want[name])}{list(want[name].shape)}, got {have}"
            return {name: Parity(False, 0.0, 0.0, 0, int(want[name].size), None, reason)}
    rows = [
        _compare_row(_row(got, row), _row(want, row), tolerance, thresholds)
        for row in range(len(want["count"]))
    ]
    total = int(want["count"].sum())
    problems = [problem for row in rows for problem in row.problems]
    wrong = [name for row in rows for name in row.wrong_labels]
    result = {
        "boxes": _parity(max((row.box for row in rows), default=0.0), total, problems),
        "scores": _parity(max((row.score for row in rows), default=0.0), total, []),
        "classes": _parity(0.0, total, []),
        "count": _parity(0.0, len(rows), []),
    }
    return result | ({"labels": _parity(0.0, total, wrong)} if "labels" in want else {})


def same_objects(got: Tensors, want: Tensors) -> tuple[int, int, float]:
    """How many objects two batches have in common (the same class, half of the boxes' union shared), how many
    either has, and the largest difference of the score of one in both.

    No tolerance: for networks that are not expected to give the same numbers.
    """
    both, either, apart = 0, 0, 0.0
    for row in range(min(len(got["count"]), len(want["count"]))):
        mine, theirs = _row(got, row), _row(want, row)
        free = np.ones(len(mine.scores), bool)
        for index, box in enumerate(theirs.boxes):
            overlaps = np.where(
                free & (mine.classes == theirs.classes[index]), _overlaps(box, mine.boxes), 0.0
            )
            if overlaps.size and overlaps.max() >= SHARED:
                found = int(overlaps.argmax())
                free[found] = False
                apart = max(apart, abs(float(mine.scores[found]) - float(theirs.scores[index])))
        matched = len(free) - int(free.sum())
        both += matched
        either += len(free) + len(theirs.scores) - matched
    return both, either, apart


class _Finding(msgspec.Struct):
    box: float = 0.0
    score: float = 0.0
    problems: list[str] = []
    wrong_labels: list[str] = []


def _parity(apart: float, total: int, problems: list[str]) -> Parity:
    reason = "; ".join(problems[:3]) + (f"; and {len(problems) - 3} more" if len(problems) > 3 else "")
    return Parity(not problems, apart, 0.0, len(problems), total, None, reason)


def _row(answer: Tensors, row: int) -> _Objects:
    count = max(0, min(int(answer["count"][row]), answer["scores"].shape[1]))
    labels = [str(label) for label in answer["labels"][row, :count]] if "labels" in answer else []
    return _Objects(
        answer["boxes"][row, :count].astype(np.float64),
        answer["scores"][row, :count].astype(np.float64),
        answer["classes"][row, :count],
        labels,
        count == answer["scores"].shape[1],
    )


def _compare_row(got: _Objects, want: _Objects, tolerance: Tolerance, thresholds: Thresholds) -> _Finding:
    largest = max((float(np.abs(each.boxes).max(initial=0)) for each in (got, want)), default=0.0)
    slack = 2 * (tolerance.absolute + tolerance.relative * largest)
    pairs = _matched(got, want, tolerance, slack)
    found = _Finding(problems=[], wrong_labels=[])
    for mine, theirs in pairs:
        found.box = max(found.box, float(np.abs(got.boxes[mine] - want.boxes[theirs]).max()))
        found.score = max(found.score, abs(float(got.scores[mine] - want.scores[theirs])))
        if want.labels and got.labels[mine] != want.labels[theirs]:
            found.wrong_labels.append(f"expected {want.labels[theirs]!r}, got {got.labels[mine]!r}")
    taken_got, taken_want = {mine for mine, _ in pairs}, {theirs for _, theirs in pairs}
    lone_got = [index for index in range(len(got.scores)) if index not in taken_got]
    lone_want = [index for index in range(len(want.scores)) if index not in taken_want]
    for own, other, lone, lone_other, text in (
        (want, got, lone_want, lone_got, "nothing answers to"),
        (got, want, lone_got, lone_want, "was not expected:"),
    ):
        ties = 0
        for index in lone:
            reason = _explained(own, index, other, lone_other, tolerance, slack, thresholds)
            ties += reason == "tie"
            # A box that is wrong with its score right looks like a tie; a tie is rare, such a fault is not.
            if reason is None or ties * MATCHES_FOR_A_TIE > len(pairs):
                found.problems.append(f"{text} {own.shown(index)}")
    return found


def _matched(got: _Objects, want: _Objects, tolerance: Tolerance, slack: float) -> list[tuple[int, int]]:
    """Pairs of (got, want) that are one object; each once, the nearest box first taken."""
    pairs: list[tuple[int, int]] = []
    free = np.ones(len(got.scores), bool)
    for other in range(len(want.scores)):
        apart = np.abs(got.boxes - want.boxes[other]).max(axis=1, initial=0)
        close = np.abs(got.scores - want.scores[other]) <= _allowed(want.scores[other], tolerance)
        fits = free & close & (apart <= slack) & (got.classes == want.classes[other])
        if fits.any():
            mine = int(np.where(fits, apart, np.inf).argmin())
            free[mine] = False
            pairs.append((mine, other))
    return pairs


def _allowed(score: float, tolerance: Tolerance) -> float:
    return tolerance.absolute + tolerance.relative * abs(float(score))


def _explained(
    own: _Objects,
    index: int,
    other: _Objects,
    lone: list[int],
    tolerance: Tolerance,
    slack: float,
    thresholds: Thresholds,
) -> Literal["threshold", "tie"] | None:
    """Why an object of one answer may be missing in the other; None where it may not."""
    score, box = float(own.scores[index]), own.boxes[index]
    allowed = _allowed(score, tolerance)
    if thresholds.score is not None and score - thresholds.score <= 2 * allowed:
        return "threshold"
    if other.full and score - float(other.scores[-1]) <= 2 * allowed:
        return "threshold"
    if thresholds.iou is None:
        return None
    # What suppressed it in the other answer: a box that is as good, and that overlaps about enough.
    overlaps = _overlaps(box, other.boxes)
    alike = other.classes == own.classes[index]
    if thresholds.agnostic:
        # The same box under another class is another answer, and no rival.
        alike |= np.abs(other.boxes - box).max(axis=1, initial=0) > slack
    sides = np.concatenate([box[None, 2:] - box[None, :2], other.boxes[:, 2:] - other.boxes[:, :2]]).min(
        axis=1
    )
    narrow = np.maximum(np.minimum(sides[1:], sides[0]), 1e-9)
    doubt = np.minimum(4 * slack / narrow + 1e-5, _AT_THE_EDGE)
    edge = np.abs(other.boxes).max(initial=0)
    touching = (other.boxes <= slack).any(axis=1) | (other.boxes >= edge - slack).any(axis=1)
    doubt = np.where(touching | bool((box <= slack).any()), _AT_THE_EDGE, doubt)
    for rival in np.flatnonzero(alike & (overlaps > thresholds.iou - doubt)):
        better = float(other.scores[rival]) - score
        near = abs(overlaps[rival] - thresholds.iou) <= doubt[rival]
        if better >= -2 * allowed and near:
            return "threshold"
        if better >= -2 * allowed and (better <= 2 * allowed or int(rival) in lone):
            return "tie"
    return None


def _overlaps(box: Array, boxes: Array) -> Array:
    """Intersection over union of one box with many."""
    sides = np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])
    shared = np.where((sides > 0).all(axis=1), sides[:, 0] * sides[:, 1], 0.0)
    union = np.prod(box[2:] - box[:2]) + np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) - shared
    return np.asarray(shared / np.maximum(union, 1e-12))


def thresholds_of(defaults: Mapping[str, float | int | bool]) -> Thresholds:
    """From the options' defaults; where boxes are not suppressed there is no threshold of overlap."""
    score, iou = defaults.get("score_threshold"), defaults.get("iou_threshold")
    return Thresholds(
        None if score is None else float(score),
        None if iou is None else float(iou),
        bool(defaults.get("class_agnostic", False)),
    )
