"""Accuracy, precision, recall, F1 and the area under the ROC curve, on items as often as they were drawn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..tensors import Array
from .values import ClassFigures, Classified

TOP = 5
_WHOLE = 1e-3
"""What the probabilities of all classes may miss of 1 together: they are float32, or rounded."""
_LEAST = float(np.finfo(np.float32).eps)
"""A probability of 0 counts as this, as in scikit-learn for float32."""


class ClassificationScorer:
    """The metrics of a classification; averages over classes are over those that are true or answered.

    Args:
        outcomes: the items.
        classes: how many the model has; 0 where that is not known.
    """

    def __init__(self, outcomes: Sequence[Classified], classes: int) -> None:
        self.outcomes = outcomes
        self.rank = np.array([outcome.rank for outcome in outcomes], np.int64)
        self.answered, self.truth = truths(outcomes)
        longest = max((len(outcome.best) for outcome in outcomes), default=0)
        # Of five classes or fewer the right one is always among the best five.
        self._has_top5 = longest >= TOP and classes != TOP
        two = classes == 2 or (classes == 0 and longest == 2)
        self._positive = _positive_scores(outcomes) if two else None
        self._surprise = _surprise(outcomes)

    def values(self) -> dict[str, float | None]:
        """Each metric on all items."""
        once = self.resampled(np.ones((1, len(self.outcomes)), np.int32))
        return {name: float(array[0]) if np.isfinite(array[0]) else None for name, array in once.items()}

    def resampled(self, weights: Array) -> dict[str, Array]:
        """Metrics on draws: weights int32[r, items] -> float64[r] for each."""
        total = weights.sum(axis=1)
        found = {"accuracy": weights @ (self.rank == 0) / total}
        if self._has_top5:
            found["top5"] = weights @ ((self.rank >= 0) & (self.rank < TOP)) / total
        right, true, said = self._counts(weights)
        with np.errstate(invalid="ignore", divide="ignore"):
            precision = np.where(said > 0, right / said, 0.0)
            recall = np.where(true > 0, right / true, 0.0)
            f1 = np.where(right > 0, 2 * right / (said + true), 0.0)
            there = ((said + true) > 0).sum(axis=1)
            for name, each in (("precision", precision), ("recall", recall), ("f1", f1)):
                found[name] = each.sum(axis=1) / there
        if self._positive is not None:
            found["auc"] = auc(self._positive, self.truth == 1, weights)
        if self._surprise is not None:
            found["log_loss"] = weights @ self._surprise / total
        return found

    def of_classes(self, labels: Sequence[str]) -> tuple[ClassFigures, ...]:
        """Precision, recall and F1 of each class that is true or answered."""
        right, true, said = self._counts(np.ones((1, len(self.outcomes)), np.int32))
        found = []
        for place, index in enumerate(self._present()):
            hits, support, answers = (int(counts[0, place]) for counts in (right, true, said))
            figures = {
                "precision": hits / answers if answers else None,
                "recall": hits / support if support else None,
                "f1": 2 * hits / (support + answers),
            }
            name = labels[index] if index < len(labels) else str(index)
            found.append(ClassFigures(int(index), name, support, figures))
        return tuple(found)

    def confusion(self) -> tuple[Array, Array]:
        """The classes that occur, int64[k], and how often a true one was answered as which: int64[k, k]."""
        present = self._present()
        table = np.zeros((len(present), len(present)), np.int64)
        true, said = np.searchsorted(present, self.truth), np.searchsorted(present, self.answered)
        np.add.at(table, (true, said), 1)
        return present, table

    def _present(self) -> Array:
        return np.unique(np.concatenate([self.truth, self.answered]))

    def _counts(self, weights: Array) -> tuple[Array, Array, Array]:
        """float64[r, k] for the classes that occur: rightly answered, true, answered."""
        present = self._present()
        hit = self.rank == 0
        return (
            _sums(np.where(hit[None, :], weights, 0), np.searchsorted(present, self.truth), len(present)),
            _sums(weights, np.searchsorted(present, self.truth), len(present)),
            _sums(weights, np.searchsorted(present, self.answered), len(present)),
        )


def truths(outcomes: Sequence[Classified]) -> tuple[Array, Array]:
    """int64[n] answered and true classes; of several true ones the answered one, else the first."""
    answered = np.array([outcome.best[0] for outcome in outcomes], np.int64)
    true = np.array(
        [outcome.best[0] if outcome.correct else outcome.truth[0] for outcome in outcomes], np.int64
    )
    return answered, true


def auc(scores: Array, positive: Array, weights: Array) -> Array:
    """The probability that a positive item scores above a negative one, ties for a half.

    Args:
        scores: float[n]. positive: bool[n]. weights: int32[r, n].

    Returns:
        float64[r]; NaN for a draw that has items of one side only.
    """
    order = np.argsort(scores, kind="stable")
    _, starts = np.unique(scores[order], return_index=True)
    drawn = weights[:, order].astype(np.float64)
    up = np.add.reduceat(np.where(positive[order], drawn, 0), starts, axis=1)
    down = np.add.reduceat(np.where(positive[order], 0, drawn), starts, axis=1)
    below = np.cumsum(down, axis=1) - down / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        area: Array = (up * below).sum(axis=1) / (up.sum(axis=1) * down.sum(axis=1))
    return area


def _positive_scores(outcomes: Sequence[Classified]) -> Array | None:
    """float64[n]: each item's score of class 1; None where an answer does not say it."""
    found = []
    for outcome in outcomes:
        if 1 not in outcome.best or len(outcome.scores) != len(outcome.best):
            return None
        found.append(outcome.scores[outcome.best.index(1)])
    return np.array(found, np.float64) if found else None


def _surprise(outcomes: Sequence[Classified]) -> Array | None:
    """float64[n]: -log of the right class's probability; None where some answer does not say all of them."""
    found = []
    for outcome in outcomes:
        scores = outcome.scores
        whole = len(scores) == len(outcome.best) and abs(sum(scores) - 1) < _WHOLE and min(scores) >= 0
        if not whole or not 0 <= outcome.rank < len(scores):
            return None
        found.append(scores[outcome.rank])
    return -np.log(np.clip(np.array(found, np.float64), _LEAST, 1.0)) if found else None


def _sums(weights: Array, group: Array, groups: int) -> Array:
    """float64[r, groups]: the weights of each group's items; every group from 0 on may be empty."""
    order = np.argsort(group, kind="stable")
    there, starts = np.unique(group[order], return_index=True)
    sums = np.zeros((len(weights), groups))
    sums[:, there] = np.add.reduceat(weights[:, order], starts, axis=1, dtype=np.float64)
    return sums
