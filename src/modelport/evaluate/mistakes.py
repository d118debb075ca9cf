"""The worst mistakes of an evaluation: which items, in which order, and their pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from io import BytesIO

import msgspec
import numpy as np
from PIL import Image

from ..bundle.manifest import Decode
from ..errors import ModelportError
from ..media.draw import draw_detections
from ..steps.decode import decode_image
from ..tensors import Array
from .matching import overlaps
from .values import Classified, Detected, Measured, Outcome

Names = Callable[[int], str]

_SIDE = {"classified": 240, "detected": 480}
"""The longer side of a picture in the report, in pixels."""


class Mistake(msgspec.Struct, frozen=True, eq=False):
    """An item that went wrong, and what is to be said of it."""

    outcome: Outcome
    truth: str
    answer: str
    badness: float


class Verdict(msgspec.Struct, frozen=True, eq=False):
    """What became of the boxes of one picture at a score threshold and IoU .5."""

    shown: Array
    """int64[k]: places of the found boxes over the threshold."""
    right: Array
    """bool[k]"""
    missed: Array
    """bool[n]: true boxes that were not found; crowds never are missed."""


def worst(outcomes: Sequence[Outcome], names: Names, threshold: float, most: int) -> list[Mistake]:
    """The worst mistakes, the worst first.

    A classification's are the wrong answers with the highest scores, a regression's the largest errors, a
    detection's the pictures with the most missed and wrongly found boxes at a score `threshold`.
    """
    found = [mistake for outcome in outcomes if (mistake := _mistake(outcome, names, threshold)) is not None]
    return sorted(found, key=lambda each: -each.badness)[:most]


def _mistake(outcome: Outcome, names: Names, threshold: float) -> Mistake | None:
    if isinstance(outcome, Measured):
        error = outcome.answer - outcome.truth
        return Mistake(outcome, f"{outcome.truth:.6g}", f"{outcome.answer:.6g} ({error:+.6g})", abs(error))
    if isinstance(outcome, Classified):
        if outcome.correct:
            return None
        score = outcome.scores[0] if outcome.scores else 0.0
        place = f", right one is number {outcome.rank + 1}" if outcome.rank > 0 else ""
        truth = " or ".join(names(index) for index in outcome.truth)
        return Mistake(outcome, truth, f"{names(outcome.best[0])} ({score:.2f}{place})", score)
    verdict = judged(outcome, threshold)
    missed, false = int(verdict.missed.sum()), int((~verdict.right).sum())
    if not missed and not false:
        return None
    # A wrong box counts by its score: the surer, the worse.
    sure = float(outcome.scores[verdict.shown][~verdict.right].sum())
    truth = f"{int((~outcome.crowd).sum())} objects, {missed} missed"
    answer = f"{int(verdict.right.sum())} found, {false} wrong"
    return Mistake(outcome, truth, answer, missed + sure)


def judged(outcome: Detected, threshold: float) -> Verdict:
    """Which boxes over `threshold` are right and which true ones are missed, class by class at IoU .5."""
    shown = np.flatnonzero(outcome.scores >= threshold)
    right, ignored = np.zeros(len(shown), bool), np.zeros(len(shown), bool)
    taken = np.zeros(len(outcome.true_classes), bool)
    if len(shown) and len(taken):
        iou = overlaps(outcome.boxes[shown], outcome.true_boxes, outcome.crowd)
        for row, place in enumerate(shown):
            alike = (outcome.true_classes == outcome.classes[place]) & (iou[row] >= 0.5)
            free = np.flatnonzero(alike & ~taken & ~outcome.crowd)
            if len(free):
                best = free[np.argmax(iou[row, free])]
                taken[best] = right[row] = True
            else:
                ignored[row] = bool((alike & outcome.crowd).any())
    kept = ~ignored
    return Verdict(shown[kept], right[kept], ~taken & ~outcome.crowd)


def confused(outcomes: Sequence[Detected], threshold: float) -> tuple[Array, Array]:
    """Classes int64[k] and counts int64[k + 1, k + 1]: true by found at IoU .5; the last is no object."""
    present = np.unique(
        np.concatenate(
            [each.true_classes for each in outcomes]
            + [each.classes[each.scores >= threshold] for each in outcomes]
        )
    )
    table = np.zeros((len(present) + 1, len(present) + 1), np.int64)
    for outcome in outcomes:
        shown = np.flatnonzero(outcome.scores >= threshold)
        kept = ~outcome.crowd
        true = np.searchsorted(present, outcome.true_classes[kept])
        said = np.searchsorted(present, outcome.classes[shown])
        pairs = _pairs(overlaps(outcome.boxes[shown], outcome.true_boxes[kept]), said[:, None] == true[None])
        np.add.at(table, (true[pairs[:, 1]], said[pairs[:, 0]]), 1)
        np.add.at(table[:, -1], np.delete(true, pairs[:, 1]), 1)
        np.add.at(table[-1], np.delete(said, pairs[:, 0]), 1)
    return present, table


def _pairs(iou: Array, alike: Array) -> Array:
    """int64[p, 2]: found and true boxes that belong together; of one class first, then the larger overlap."""
    able = np.argwhere(iou >= 0.5)
    order = np.lexsort((-iou[able[:, 0], able[:, 1]], ~alike[able[:, 0], able[:, 1]]))
    rows: set[int] = set()
    columns: set[int] = set()
    kept = []
    for row, column in able[order].tolist():
        if row not in rows and column not in columns:
            rows.add(row)
            columns.add(column)
            kept.append((row, column))
    return np.array(kept, np.int64).reshape(-1, 2)


def pictures(mistake: Mistake, data: bytes, names: Names, threshold: float) -> list[bytes]:
    """JPEG files: the picture, or what is true on it and what was found; none if it is damaged."""
    try:
        pixels = decode_image(data, Decode())
    except ModelportError:
        return []
    outcome = mistake.outcome
    if not isinstance(outcome, Detected):
        return [_jpeg(_smaller(pixels, _SIDE["classified"]))]
    small = _smaller(pixels, _SIDE["detected"])
    scale = small.shape[1] / outcome.width
    verdict = judged(outcome, threshold)
    true = [
        _drawn(box, f"missed {names(int(index))}" if lost else names(int(index)), int(index), scale)
        for box, index, lost in zip(outcome.true_boxes, outcome.true_classes, verdict.missed, strict=True)
    ]
    found = [
        _drawn(
            outcome.boxes[place],
            names(int(outcome.classes[place])) if right else f"wrong {names(int(outcome.classes[place]))}",
            int(outcome.classes[place]),
            scale,
            float(outcome.scores[place]),
        )
        for place, right in zip(verdict.shown, verdict.right, strict=True)
    ]
    return [_jpeg(draw_detections(small, true)), _jpeg(draw_detections(small, found))]


def _drawn(box: Array, label: str, index: int, scale: float, score: float | None = None) -> dict[str, object]:
    said = {} if score is None else {"score": score}
    return {"label": label, "class": index, "box": [float(side) * scale for side in box], **said}


def _smaller(pixels: Array, side: int) -> Array:
    height, width = pixels.shape[:2]
    scale = side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    if scale >= 1 and side > _SIDE["classified"]:
        return pixels
    how = Image.Resampling.NEAREST if scale > 2 else Image.Resampling.LANCZOS
    return np.asarray(Image.fromarray(pixels).resize(size, how))


def _jpeg(pixels: Array) -> bytes:
    file = BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=82)
    return file.getvalue()
