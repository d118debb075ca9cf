"""Mean average precision as COCO defines it: the figures by faster-coco-eval, their intervals from hits.

The library gives one figure for all pictures. For intervals the same precision and recall are computed on
pictures as often as they were drawn; on each picture drawn once both give the same figure, which the tests
hold against each other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import Unsupported
from ..tensors import Array
from .matching import THRESHOLDS, Hits, hits_of
from .ultralytics_map import ultralytics_map
from .values import ClassFigures, Detected

RECALLS = np.linspace(0, 1, 101)
_HALF, _THREE_QUARTERS = 0, 5
_CELLS = 4 << 20


class DetectionScorer:
    """The metrics of a detection.

    Args:
        outcomes: the pictures.
    """

    def __init__(self, outcomes: Sequence[Detected]) -> None:
        self.outcomes = outcomes
        self.hits = hits_of(outcomes)
        self._best = working_point(self.hits)

    def values(self) -> dict[str, float | None]:
        """Each metric on all pictures, the mean over classes of their average precision first.

        Raises:
            Unsupported: faster-coco-eval is not installed.
        """
        coco = coco_figures(self.outcomes)
        theirs = ultralytics_map(self.outcomes)
        return {
            **{name: coco[name] for name in ("map", "map50", "map75", "mar100")},
            "ultralytics_map": theirs["map"],
            "ultralytics_map50": theirs["map50"],
            **self._best,
        }

    def resampled(self, weights: Array) -> dict[str, Array]:
        """Metrics on draws: weights int32[r, pictures] -> float64[r] for each.

        Those in the way of Ultralytics are left out. Precision, recall and F1 are at the threshold that is
        the best on all pictures.
        """
        precisions, recalls = [], []
        for hits in self.hits.values():
            precision, recall = average_precision(hits, weights)
            precisions.append(precision)
            recalls.append(recall)
        if not precisions:
            return {}
        whole, reached = np.stack(precisions), np.stack(recalls)  # [classes, 10, r]
        return {
            "map": _mean(whole, (0, 1)),
            "map50": _mean(whole[:, _HALF], 0),
            "map75": _mean(whole[:, _THREE_QUARTERS], 0),
            "mar100": _mean(reached, (0, 1)),
            **self._at_best(weights),
        }

    def _at_best(self, weights: Array) -> dict[str, Array]:
        """Precision, recall and F1 of all classes together on draws; NaN where one is not defined."""
        threshold = self._best["score_threshold"]
        if threshold is None:
            return {}
        right, found, true = np.zeros((3, weights.shape[1]))
        for hits in self.hits.values():
            kept = (hits.score >= threshold) & ~hits.ignored[_HALF]
            np.add.at(found, hits.picture[kept], 1)
            np.add.at(right, hits.picture[kept], hits.hit[_HALF][kept])
            true += hits.true
        right, found, true = (weights @ each for each in (right, found, true))
        with np.errstate(invalid="ignore", divide="ignore"):
            return {"precision": right / found, "recall": right / true, "f1": 2 * right / (found + true)}

    def of_classes(self, labels: Sequence[str]) -> tuple[ClassFigures, ...]:
        """Average precision of each class with true boxes, and precision and recall at the working point."""
        threshold = self._best["score_threshold"]
        found = []
        for index, hits in self.hits.items():
            once = np.ones((1, len(hits.true)), np.int32)
            precision, recall = (array[:, 0] for array in average_precision(hits, once))
            name = labels[index] if index < len(labels) else str(index)
            figures: dict[str, float | None] = {
                "ap": float(precision.mean()),
                "ap50": float(precision[_HALF]),
                "ap75": float(precision[_THREE_QUARTERS]),
                **_at(hits, threshold),
                "ar100": float(recall.mean()),
            }
            found.append(ClassFigures(index, name, int(hits.true.sum()), figures))
        return tuple(found)


def average_precision(hits: Hits, weights: Array) -> tuple[Array, Array]:
    """One class on draws: float64[10, r] average precision over 101 recalls, and the recall reached.

    NaN for a draw without a true box of the class. Only boxes that hit raise the recall, so precision is
    looked at there alone.
    """
    rows = max(1, _CELLS // max(1, len(hits.picture)))
    if len(weights) > rows:
        parts = [average_precision(hits, weights[k : k + rows]) for k in range(0, len(weights), rows)]
        return np.concatenate([p for p, _ in parts], axis=1), np.concatenate([r for _, r in parts], axis=1)
    true = (weights @ hits.true).astype(np.float64)
    ends = np.flatnonzero(hits.hit.any(axis=0))
    seen, ignored = _counted(hits, weights, ends)
    precision = np.full((len(THRESHOLDS), len(weights)), np.nan)
    reached = np.full_like(precision, np.nan)
    some = true > 0
    drawn = weights[:, hits.picture[ends]]
    for level, own in enumerate(hits.hit[:, ends]):
        precision[level, some], reached[level, some] = 0.0, 0.0
        if not own.any():
            continue
        right = np.cumsum(drawn[:, own], axis=1, dtype=np.float64)
        judged = seen[:, own] - ignored[level][:, own] if level in ignored else seen[:, own]
        with np.errstate(invalid="ignore", divide="ignore"):
            curve = np.where(judged > 0, right / judged, 0.0)
            recall = right / true[:, None]
        # Precision at a recall is the best at this recall or a higher one.
        curve = np.maximum.accumulate(curve[:, ::-1], axis=1)[:, ::-1]
        passed = np.searchsorted(RECALLS, np.nan_to_num(recall).ravel(), side="right").reshape(recall.shape)
        passed[:, 1:] -= passed[:, :-1].copy()
        area = (passed * curve).sum(axis=1) / len(RECALLS)
        precision[level, some], reached[level, some] = area[some], recall[some, -1]
    return precision, reached


def _counted(hits: Hits, weights: Array, ends: Array) -> tuple[Array, dict[int, Array]]:
    """How many boxes were drawn up to each of `ends`: int64[r, ends]; the same of ignored ones, by level."""
    if not len(ends):
        return np.zeros((len(weights), 0), np.int64), {}
    starts = np.concatenate([[0], ends[:-1] + 1])
    upto = slice(0, int(ends[-1]) + 1)
    drawn = weights[:, hits.picture[upto]]

    def counts(values: Array) -> Array:
        return np.cumsum(np.add.reduceat(values, starts, axis=1), axis=1, dtype=np.int64)

    ignored = {
        level: counts(np.where(own[upto], drawn, 0)) for level, own in enumerate(hits.ignored) if own.any()
    }
    return counts(drawn), ignored


def working_point(hits: Mapping[int, Hits]) -> dict[str, float | None]:
    """The score threshold with the best F1 over all boxes at IoU .5, and what it gives."""
    true = sum(int(each.true.sum()) for each in hits.values())
    kept = {index: ~each.ignored[_HALF] for index, each in hits.items()}
    score = np.concatenate([each.score[kept[index]] for index, each in hits.items()] or [np.empty(0)])
    hit = np.concatenate(
        [each.hit[_HALF][kept[index]] for index, each in hits.items()] or [np.empty(0, bool)]
    )
    if not true or not len(score):
        return {"precision": None, "recall": 0.0 if true else None, "f1": None, "score_threshold": None}
    order = np.argsort(-score, kind="stable")
    score, right = score[order], np.cumsum(hit[order])
    # Boxes of one score are kept or dropped together.
    last = np.append(np.flatnonzero(np.diff(score)), len(score) - 1)
    precision, recall = right[last] / (last + 1), right[last] / true
    f1 = 2 * right[last] / (last + 1 + true)
    best = int(np.argmax(f1))
    return {
        "precision": float(precision[best]),
        "recall": float(recall[best]),
        "f1": float(f1[best]),
        "score_threshold": float(score[last[best]]),
    }


def coco_figures(outcomes: Sequence[Detected]) -> dict[str, float | None]:
    """map, map50, map75 and mar100 by faster-coco-eval; None where no class has a true box.

    Raises:
        Unsupported: it is not installed.
    """
    try:
        from faster_coco_eval import COCO, COCOeval_faster
    except ImportError as problem:
        raise Unsupported(
            "mean average precision needs faster-coco-eval", hint="pip install 'modelport[evaluate]'"
        ) from problem
    truth = _annotations(outcomes)
    if not any(not entry["iscrowd"] for entry in truth["annotations"]):
        return dict.fromkeys(("map", "map50", "map75", "mar100"))
    given = COCO(truth)
    known = {category["id"] for category in truth["categories"]}
    found = [
        {"image_id": place + 1, "category_id": int(index), "bbox": box, "score": float(score)}
        for place, outcome in enumerate(outcomes)
        for box, score, index in zip(
            _corner_and_size(outcome.boxes), outcome.scores, outcome.classes, strict=True
        )
        if int(index) in known
    ]
    if not found:
        return dict.fromkeys(("map", "map50", "map75", "mar100"), 0.0)
    judged = COCOeval_faster(given, given.loadRes(found), "bbox", print_function=lambda *_: None)
    judged.evaluate()
    judged.accumulate()
    judged.summarize()
    figures = [float(value) for value in judged.stats]
    named = {"map": figures[0], "map50": figures[1], "map75": figures[2], "mar100": figures[8]}
    return {name: value if value >= 0 else None for name, value in named.items()}


def _annotations(outcomes: Sequence[Detected]) -> dict[str, Any]:
    """The truth as COCO's file has it; a picture's id is its place + 1, a category's its class."""
    classes = sorted({int(index) for outcome in outcomes for index in outcome.true_classes})
    annotations: list[dict[str, Any]] = []
    for place, outcome in enumerate(outcomes):
        boxes = _corner_and_size(outcome.true_boxes)
        for box, index, crowd in zip(boxes, outcome.true_classes, outcome.crowd, strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": place + 1,
                    "category_id": int(index),
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": int(crowd),
                }
            )
    return {
        "images": [
            {"id": place + 1, "width": outcome.width, "height": outcome.height, "file_name": outcome.item}
            for place, outcome in enumerate(outcomes)
        ],
        "annotations": annotations,
        "categories": [{"id": index, "name": str(index)} for index in classes],
    }


def _corner_and_size(boxes: Array) -> list[list[float]]:
    """x y width height of x1 y1 x2 y2."""
    rows = boxes.astype(np.float64)
    found: list[list[float]] = np.concatenate([rows[:, :2], rows[:, 2:] - rows[:, :2]], axis=1).tolist()
    return found


def _at(hits: Hits, threshold: float | None) -> dict[str, float | None]:
    kept = (hits.score >= (threshold or 0.0)) & ~hits.ignored[_HALF]
    right, all_of_them = int(hits.hit[_HALF][kept].sum()), int(kept.sum())
    return {
        "precision": right / all_of_them if all_of_them else None,
        "recall": right / int(hits.true.sum()),
    }


def _mean(array: Array, axes: int | tuple[int, ...]) -> Array:
    """The mean over what is defined; NaN where nothing is."""
    there = np.isfinite(array)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean: Array = np.where(there, array, 0).sum(axis=axes) / there.sum(axis=axes)
    return mean
