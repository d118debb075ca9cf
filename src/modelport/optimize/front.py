"""The Pareto front as a picture: what is lost against latency, with intervals; a point for each candidate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..evaluate.figure import BLUE, GREEN, GREY, INK, RED, page
from .candidate import START
from .outcome import Entry, Report

COLOURS = {"start": INK, "chosen": GREEN, "kept": BLUE, "tie": BLUE}


def front(report: Report) -> bytes:
    """A PNG.

    Raises:
        Unsupported: matplotlib is not installed.
    """
    return page(lambda figure: _draw(figure.add_subplot(), report), width=9.6, height=4.8)


def _draw(axes: Any, report: Report) -> None:
    shown = [entry for entry in report.entries if entry.figures is not None]
    shown.sort(key=lambda entry: entry.figures.ratio.value if entry.figures is not None else 0.0)
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
    axes.set_xlabel("latency of one item, over the START's (95 % interval)")
    axes.set_ylabel("agreement lost, points" if not report.labelled else "accuracy lost, points")
    axes.set_title(f"{report.bundle} {report.version} on {report.machine}, {report.cores} cores", fontsize=10)


def _best(entries: Sequence[Entry]) -> list[tuple[float, float]]:
    """Latency and loss of those that nothing measured is both faster and more accurate than."""
    found: list[tuple[float, float]] = []
    for entry in entries:  # the fastest first
        loss = entry.judgement.loss if entry.judgement is not None else 0.0
        if entry.figures is not None and (not found or loss < found[-1][1]):
            found.append((entry.figures.ratio.value, loss))
    return found


def _point(axes: Any, entry: Entry, report: Report, number: int) -> None:
    own = entry.figures
    assert own is not None
    judgement = entry.judgement
    loss, low, high = (judgement.loss, judgement.low, judgement.high) if judgement else (0.0, 0.0, 0.0)
    colour = COLOURS.get(entry.status, GREY)
    across = [[own.ratio.value - own.ratio.low], [own.ratio.high - own.ratio.value]]
    axes.errorbar(
        [own.ratio.value],
        [loss],
        xerr=across,
        yerr=[[loss - low], [high - loss]],
        fmt="none",
        ecolor=colour,
        alpha=0.4,
        linewidth=1,
    )
    label = f"{number}  {'as it is' if entry.id == START else entry.id}"
    marker, size = ("*", 180) if entry.id == report.chosen else ("o", 36)
    axes.scatter([own.ratio.value], [loss], color=colour, marker=marker, s=size, zorder=3, label=label)
    axes.annotate(
        str(number),
        (own.ratio.value, loss),
        textcoords="offset points",
        xytext=(5, 5 + 8 * (number % 2)),
        fontsize=8,
        color=colour,
    )
