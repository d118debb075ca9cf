"""Throughput and latency over batch size as a picture: a line for each runtime and variant."""

from __future__ import annotations

from math import ceil
from typing import Any

from ...evaluate.figure import GREY, page
from .outcome import Bench, Point

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#1f2933", "#8a8f98")
STYLES = ("-", "--", ":", "-.")
MARKERS = "osD^vP*X"
WIDTH, HEIGHT, ROW = 10.0, 4.6, 0.18
"""Inches of the page, and of a row of the legend."""
LETTERS, HANDLE = 150, 9
"""Letters that a row of the legend has room for, and those that a line's picture takes."""


def plot(bench: Bench) -> bytes:
    """A PNG.

    Raises:
        Unsupported: matplotlib is not installed.
    """

    def draw(figure: Any) -> None:
        left, right = figure.subplots(1, 2)
        _draw(left, bench, rate=True)
        _draw(right, bench, rate=False)
        left.set_ylabel("items a second")
        left.set_title("throughput, all cores", fontsize=10)
        right.set_ylabel("milliseconds of a call: median; faint: 95th percentile")
        right.set_title("latency, one call at a time", fontsize=10)
        _legend(figure, bench)
        figure.suptitle(
            f"{bench.bundle} {bench.version} on {bench.machine}, {bench.cores} cores; "
            f"{bench.rounds} rounds by turns, 95 % intervals",
            fontsize=10,
        )

    _, rows = _legend_of(bench)
    return page(draw, width=WIDTH, height=HEIGHT + ROW * max(0, rows - 1), letters=9)


def _draw(axes: Any, bench: Bench, *, rate: bool) -> None:
    batches = sorted({point.batch for point in bench.points})
    lines = _lines(bench)
    for place, (form, threads, points) in enumerate(lines):
        # Beside each other, so that no interval hides another.
        x = [point.batch * 2 ** (0.05 * (place - (len(lines) - 1) / 2)) for point in points]
        shown = [point.throughput if rate else point.p50_ms for point in points]
        look = {"color": COLOURS[form % len(COLOURS)], "linestyle": _style(bench, threads)}
        axes.errorbar(
            x,
            [each.value for each in shown],
            yerr=[[each.value - each.low for each in shown], [each.high - each.value for each in shown]],
            marker=_marker(form),
            markersize=4,
            linewidth=1.5,
            capsize=2,
            **look,
        )
        if not rate:
            axes.plot(x, [point.p95_ms.value for point in points], linewidth=0.8, alpha=0.5, **look)
    axes.set_xscale("log", base=2)
    axes.set_xticks(batches, [str(batch) for batch in batches])
    axes.minorticks_off()
    axes.set_xlabel("items of a call (batch size)")
    if rate:
        axes.set_ylim(bottom=0)
    else:
        from matplotlib.ticker import LogLocator, NullLocator

        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter("{x:g}")
    axes.grid(linewidth=0.6)


def _legend(figure: Any, bench: Bench) -> None:
    from matplotlib.lines import Line2D

    forms = sorted({point.form for point in bench.points})
    handles = [
        Line2D(
            [],
            [],
            color=COLOURS[form % len(COLOURS)],
            marker=_marker(form),
            markersize=4,
            label=bench.forms[form].title,
        )
        for form in forms
    ]
    threads = sorted({point.threads for point in bench.points})
    handles += [
        Line2D(
            [],
            [],
            color=GREY,
            linestyle=_style(bench, each),
            label=f"{each} thread{'s' if each > 1 else ''} a call",
        )
        for each in threads
    ]
    columns, _ = _legend_of(bench)
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, frameon=False, fontsize=8)


def _legend_of(bench: Bench) -> tuple[int, int]:
    """Its columns and rows: as many columns as there is room for."""
    titles = [bench.forms[form].title for form in {point.form for point in bench.points}]
    entries = len(titles) + len({point.threads for point in bench.points})
    columns = max(1, min(4, LETTERS // (max(map(len, titles)) + HANDLE)))
    return columns, ceil(entries / columns)


def _marker(form: int) -> str:
    """Another one where the colours begin again."""
    return MARKERS[(form + form // len(COLOURS)) % len(MARKERS)]


def _style(bench: Bench, threads: int) -> str:
    return STYLES[sorted({point.threads for point in bench.points}).index(threads) % len(STYLES)]


def _lines(bench: Bench) -> list[tuple[int, int, list[Point]]]:
    """The points of each form and number of threads, by batch size."""
    keys = dict.fromkeys((point.form, point.threads) for point in bench.points)
    return [
        (
            form,
            threads,
            sorted(
                (p for p in bench.points if (p.form, p.threads) == (form, threads)), key=lambda p: p.batch
            ),
        )
        for form, threads in keys
    ]
