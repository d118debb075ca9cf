"""Plots of an evaluation as SVG, by matplotlib, without a display; the same data gives the same bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..tensors import Array
from .figure import BLUE, GREEN, GREY, ORANGE, RED, page
from .matching import Hits
from .values import Classified, Measured

MOST_CLASSES = 30
"""Classes in one confusion matrix; of more, those that are taken for one another most often are shown."""
_MOST_CURVES = 6
_BINS = 25


def figure(draw: Callable[[Any], None], *, width: float = 6.0, height: float = 4.0) -> str:
    """What `draw` draws on a matplotlib Axes, as SVG text.

    Raises:
        Unsupported: matplotlib is not installed.
    """

    def whole(figure: Any) -> None:
        draw(figure.add_subplot())

    return page(whole, width=width, height=height, format="svg", extra="evaluate").decode()


def confusion(names: Sequence[str], table: Array, *, found: str = "answered") -> str:
    """A confusion matrix: rows are true classes, columns what was answered; colours are shares of the row."""
    share = table / np.maximum(1, table.sum(axis=1, keepdims=True))
    short = [name if len(name) <= 22 else f"{name[:21]}…" for name in names]

    def draw(axes: Any) -> None:
        axes.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="equal")
        axes.grid(visible=False)
        axes.set_xticks(range(len(names)), short, rotation=90 if len(names) > 6 else 0, fontsize=8)
        axes.set_yticks(range(len(names)), short, fontsize=8)
        axes.set_xlabel(found)
        axes.set_ylabel("true")
        if len(names) <= MOST_CLASSES + 2:
            for row, column in np.argwhere(table):
                colour = "white" if share[row, column] > 0.55 else "#1c1f24"
                text = str(table[row, column])
                axes.text(column, row, text, ha="center", va="center", fontsize=7, color=colour)

    side = max(3.6, 1.8 + 0.27 * len(names))
    return figure(draw, width=side + 0.4, height=side)


def most_confused(table: Array, most: int = MOST_CLASSES) -> Array:
    """Places of the classes that are taken for one another most often, in order: int64[≤ most].

    They come in pairs, so that for each that is shown what it was taken for is shown too.
    """
    if len(table) <= most:
        return np.arange(len(table))
    wrong = table * (1 - np.eye(len(table), dtype=table.dtype))
    rows, columns = np.nonzero(wrong)
    chosen: set[int] = set()
    for pair in np.argsort(-wrong[rows, columns], kind="stable"):
        both = chosen | {int(rows[pair]), int(columns[pair])}
        if len(both) <= most:
            chosen = both
    seen = np.argsort(-(table.sum(axis=0) + table.sum(axis=1)), kind="stable")
    chosen.update([int(place) for place in seen if place not in chosen][: most - len(chosen)])
    return np.array(sorted(chosen))


def with_others(table: Array, chosen: Array) -> Array:
    """The rows and columns of the `chosen` places, and of all others together as a last one."""
    others = np.setdiff1d(np.arange(len(table)), chosen)
    rows = np.concatenate([table[chosen], table[others].sum(axis=0, keepdims=True)])
    folded: Array = np.concatenate([rows[:, chosen], rows[:, others].sum(axis=1, keepdims=True)], axis=1)
    return folded


def scores(right: Sequence[float] | Array, wrong: Sequence[float] | Array, *, log: bool = False) -> str:
    """How the scores of right and of wrong answers are spread."""

    def draw(axes: Any) -> None:
        edges = np.linspace(0, 1, _BINS + 1)
        both = [np.clip(right, 0, 1), np.clip(wrong, 0, 1)]
        axes.hist(both, bins=edges, stacked=True, color=[GREEN, RED], label=["right", "wrong"])
        axes.set_xlabel("score")
        axes.set_ylabel("answers")
        if log:
            axes.set_yscale("log")
        axes.legend(frameon=False)

    return figure(draw)


def reliability(outcomes: Sequence[Classified]) -> str | None:
    """Whether a score of .8 is right in 80 of 100 cases; None where the model gives no probabilities."""
    scored = [each for each in outcomes if each.scores]
    best = np.array([each.scores[0] for each in scored])
    if not len(best) or best.min() < 0 or best.max() > 1 + 1e-6:
        return None
    right = np.array([each.correct for each in scored])
    bins = np.minimum((best * 10).astype(int), 9)
    there = [bin_ for bin_ in range(10) if (bins == bin_).any()]
    mean = [float(best[bins == bin_].mean()) for bin_ in there]
    share = [float(right[bins == bin_].mean()) for bin_ in there]
    counts = [int((bins == bin_).sum()) for bin_ in there]

    def draw(axes: Any) -> None:
        axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1)
        axes.plot(mean, share, color=BLUE, marker="o")
        for x, y, count in zip(mean, share, counts, strict=True):
            axes.annotate(str(count), (x, y), xytext=(4, -11), textcoords="offset points", fontsize=7)
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1.02)
        axes.set_xlabel("score of the answer (mean of a tenth)")
        axes.set_ylabel("share that is right")

    return figure(draw)


def precision_recall(hits: Mapping[int, Hits], names: Callable[[int], str]) -> str:
    """Precision over recall at IoU .5: all classes in grey, frequent ones in colour, the mean in black."""
    recalls = np.linspace(0, 1, 101)
    curves = {index: _curve(each, recalls) for index, each in hits.items()}
    frequent = sorted(hits, key=lambda index: -int(hits[index].true.sum()))[:_MOST_CURVES]
    colours = (BLUE, ORANGE, GREEN, RED, "#cc79a7", "#56b4e9")

    def draw(axes: Any) -> None:
        for index, curve in curves.items():
            if index not in frequent:
                axes.plot(recalls, curve, color="#c9ced6", linewidth=0.6)
        for index, colour in zip(frequent, colours, strict=False):
            label = f"{names(index)} ({int(hits[index].true.sum())})"
            axes.plot(recalls, curves[index], color=colour, linewidth=1.3, label=label)
        mean = np.mean(list(curves.values()), axis=0)
        axes.plot(recalls, mean, color="black", linewidth=2.2, label=f"mean of {len(curves)} classes")
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1.02)
        axes.set_xlabel("recall")
        axes.set_ylabel("precision")
        axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))

    return figure(draw, width=7.6)


def thresholds(hits: Mapping[int, Hits]) -> str:
    """Precision, recall and F1 over all boxes at IoU .5, for every score threshold."""
    kept = {index: ~each.ignored[0] for index, each in hits.items()}
    score = np.concatenate([each.score[kept[index]] for index, each in hits.items()])
    hit = np.concatenate([each.hit[0][kept[index]] for index, each in hits.items()])
    true = sum(int(each.true.sum()) for each in hits.values())
    order = np.argsort(-score, kind="stable")
    right = np.cumsum(hit[order])
    count = np.arange(1, len(order) + 1)

    def draw(axes: Any) -> None:
        x = score[order]
        axes.plot(x, right / count, color=BLUE, label="precision")
        axes.plot(x, right / true, color=ORANGE, label="recall")
        f1 = 2 * right / (count + true)
        axes.plot(x, f1, color="black", linewidth=2, label="F1")
        if len(f1):
            best = int(np.argmax(f1))
            axes.axvline(x[best], color=GREY, linestyle="--", linewidth=1)
            axes.annotate(f" {x[best]:.2f}", (x[best], 0.02), fontsize=9)
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1.02)
        axes.set_xlabel("score threshold")
        axes.legend(frameon=False)

    return figure(draw)


def answers_and_targets(outcomes: Sequence[Measured]) -> str:
    """Each answer over its target."""
    truth, answer = _pairs(outcomes)
    both = np.concatenate([truth, answer])

    def draw(axes: Any) -> None:
        ends = [both.min(), both.max()]
        axes.plot(ends, ends, color=GREY, linestyle="--", linewidth=1)
        axes.scatter(truth, answer, s=9, color=BLUE, alpha=0.5, linewidths=0, rasterized=len(truth) > 5000)
        axes.set_xlabel("target")
        axes.set_ylabel("answer")

    return figure(draw)


def errors(outcomes: Sequence[Measured]) -> str:
    """How answer - target is spread."""
    truth, answer = _pairs(outcomes)

    def draw(axes: Any) -> None:
        axes.hist(answer - truth, bins=2 * _BINS, color=BLUE)
        axes.axvline(0, color=GREY, linestyle="--", linewidth=1)
        axes.set_xlabel("answer - target")
        axes.set_ylabel("items")

    return figure(draw)


def _pairs(outcomes: Sequence[Measured]) -> tuple[Array, Array]:
    return np.array([each.truth for each in outcomes]), np.array([each.answer for each in outcomes])


def _curve(hits: Hits, recalls: Array) -> Array:
    """The precision of one class at each recall, IoU .5."""
    hit = hits.hit[0][~hits.ignored[0]]
    if not hit.any():
        return np.zeros(len(recalls))
    right = np.cumsum(hit)
    precision = np.maximum.accumulate((right / np.arange(1, len(hit) + 1))[::-1])[::-1]
    places = np.searchsorted(right / hits.true.sum(), recalls, side="left")
    reached = places < len(precision)
    return np.where(reached, precision[np.minimum(places, len(precision) - 1)], 0.0)
