"""The Pareto front as a picture: what is lost against latency, with intervals, of all that was measured."""

from __future__ import annotations

from collections.abc import Sequence, Set
from math import cos, pi, sin
from typing import Any

from ..evaluate.figure import BLUE, GREEN, GREY, INK, RED, page
from .candidate import START
from .outcome import Entry, Report, Status, in_lines, metric_of

WIDTH, HEIGHT = 9.6, 4.8
"""Inches of the page, at least so high."""
LONG, ROW, GAP = 44, 0.12, 0.055
"""Letters of a line of the legend, its inches, and those between two entries."""
LETTER, POINT = (6.0, 8.0), 3.0
"""A digit's sides, and half of a point's, in points of the page."""
BESIDE = tuple(
    (round(reach * cos(turn * pi / 4), 1), round(reach * sin(turn * pi / 4), 1))
    for reach in (9, 14, 20, 27, 35)
    for turn in (1, 3, 7, 5, 2, 6, 0, 4)
)
"""Where a number may be, from its point: right above first, then around it, then farther away."""
COLOURS = {"start": INK, "chosen": GREEN, "kept": BLUE, "tie": BLUE}


def front(report: Report) -> bytes:
    """A PNG.

    Raises:
        Unsupported: matplotlib is not installed.
    """
    names = [in_lines(entry.id, LONG) for entry in report.entries if entry.figures is not None]
    high = ROW * sum(map(len, names)) + GAP * len(names)
    return page(lambda figure: _draw(figure.add_subplot(), report), width=WIDTH, height=max(HEIGHT, high))


def _draw(axes: Any, report: Report) -> None:
    shown = [entry for entry in report.entries if entry.figures is not None]
    shown.sort(key=lambda entry: _place(entry)[0])
    for number, entry in enumerate(shown, 1):
        _point(axes, entry, report, number)
    across, down = zip(*_best(shown), strict=True)
    axes.step(across, down, where="post", color=GREEN, linewidth=2, linestyle=":", zorder=2)
    legend = axes.legend(
        loc="upper left",
        bbox_to_anchor=(1.01, 1),
        frameon=False,
        fontsize=7,
        handlelength=1,
        handletextpad=0.8,
        markerscale=0.6,
        borderaxespad=0,
    )
    for entry, text in zip(shown, legend.get_texts(), strict=True):
        text.set_color(COLOURS.get(entry.status, GREY))
    axes.axhline(report.margin, color=RED, linestyle="--", linewidth=1)
    axes.annotate(
        f"margin {report.margin:g}",
        (1, report.margin),
        xycoords=("axes fraction", "data"),
        color=RED,
        ha="right",
        va="bottom",
        fontsize=8,
    )
    axes.set_xlabel("latency of one item, over that of the bundle as it is (95 % interval)")
    axes.set_ylabel(f"{metric_of(report)} lost, points ({100 * report.loss_level:g} % interval)")
    _key(axes, {entry.status for entry in shown})
    axes.set_title(f"{report.bundle} {report.version} on {report.machine}, {report.cores} cores", fontsize=10)
    axes.figure.draw_without_rendering()  # which settles where everything is
    _numbered(axes, shown)


def _key(axes: Any, met: Set[Status]) -> None:
    """What the colours and the dotted line say, below the picture; of those that are in it."""
    said = [(INK, "o", "as it is")]
    said += [(GREEN, "*", "chosen")] if "chosen" in met else []
    said += [(BLUE, "o", "right: kept, or a tie")] if met & {"kept", "tie"} else []
    said += [(GREY, "o", "not taken")] if met - COLOURS.keys() else []
    lines = [
        axes.plot([], [], color=colour, marker=marker, linestyle="none")[0] for colour, marker, _ in said
    ]
    lines += axes.plot([], [], color=GREEN, linewidth=2, linestyle=":")
    texts = [*(text for _, _, text in said), "of what was measured, nothing is faster and loses less"]
    axes.figure.legend(lines, texts, loc="outside lower left", ncols=len(lines), frameon=False, fontsize=7)


def _best(entries: Sequence[Entry]) -> list[tuple[float, float]]:
    """Latency and loss of those that nothing measured is both faster and more accurate than."""
    found: list[tuple[float, float]] = []
    for entry in entries:  # the fastest first
        place = _place(entry)
        if not found or place[1] < found[-1][1]:
            found.append(place)
    return found


def _point(axes: Any, entry: Entry, report: Report, number: int) -> None:
    own, judgement = entry.figures, entry.judgement
    assert own is not None
    ratio, loss = _place(entry)
    low, high = (judgement.low, judgement.high) if judgement else (0.0, 0.0)
    colour = COLOURS.get(entry.status, GREY)
    axes.errorbar(
        [ratio],
        [loss],
        xerr=_arms(ratio, own.ratio.low, own.ratio.high),
        yerr=_arms(loss, low, high),
        fmt="none",
        ecolor=colour,
        alpha=0.4,
        linewidth=1,
    )
    lines = ["as it is"] if entry.id == START else in_lines(entry.id, LONG)
    label = f"{number}  " + "\n     ".join(lines)
    marker, size = ("*", 180) if entry.id == report.chosen else ("o", 36)
    axes.scatter([ratio], [loss], color=colour, marker=marker, s=size, zorder=3, label=label)


def _arms(value: float, low: float, high: float) -> list[list[float]]:
    """How far an interval reaches; one of a bootstrap need not hold the figure itself."""
    return [[max(0.0, value - low)], [max(0.0, high - value)]]


def _numbered(axes: Any, shown: Sequence[Entry]) -> None:
    """Each point's number beside it, where no other number is and no other point."""
    places = [_place(entry) for entry in shown]
    pixels = axes.transData.transform(places)
    letters = axes.figure.dpi / 72
    taken = [(x, y, POINT * letters, POINT * letters) for x, y in pixels]
    for number, (entry, place, (x, y)) in enumerate(zip(shown, places, pixels, strict=True), 1):
        half = LETTER[0] * len(str(number)) / 2 * letters, LETTER[1] / 2 * letters
        boxes = {beside: (x + beside[0] * letters, y + beside[1] * letters, *half) for beside in BESIDE}
        free = (beside for beside, box in boxes.items() if not any(_meet(box, other) for other in taken))
        best = next(free, BESIDE[0])
        taken.append(boxes[best])
        axes.annotate(
            str(number),
            place,
            textcoords="offset points",
            xytext=best,
            ha="center",
            va="center",
            fontsize=8,
            color=COLOURS.get(entry.status, GREY),
        )


def _meet(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    """Whether two boxes, each its middle and half its sides, have a place in common."""
    return abs(one[0] - other[0]) < one[2] + other[2] and abs(one[1] - other[1]) < one[3] + other[3]


def _place(entry: Entry) -> tuple[float, float]:
    """Latency and loss."""
    assert entry.figures is not None
    return entry.figures.ratio.value, entry.judgement.loss if entry.judgement is not None else 0.0
