"""The picture of a search: what is drawn, and where."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from matplotlib.collections import PathCollection
from matplotlib.colors import to_rgba
from matplotlib.markers import MarkerStyle

from modelport.evaluate.figure import BLUE, GREEN, GREY, INK
from modelport.optimize.candidate import START
from modelport.optimize.front import front
from modelport.optimize.intervals import Interval
from modelport.optimize.outcome import Entry, Report

from .reports import CHOSEN, entry, made_up, saved_figures


def drawn(report: Report, monkeypatch: pytest.MonkeyPatch) -> Any:
    figures = saved_figures(monkeypatch)
    assert front(report).startswith(b"\x89PNG")
    (axes,) = figures[-1].axes
    return axes


def points(axes: Any) -> dict[tuple[float, float], tuple[Any, int]]:
    """Colour and corners of the mark at each place."""
    found = {}
    for each in axes.collections:
        if isinstance(each, PathCollection):
            place = tuple(map(float, each.get_offsets()[0]))
            found[place] = (tuple(each.get_facecolor()[0]), len(each.get_paths()[0].vertices))
    return found


def test_an_interval_that_does_not_hold_its_figure_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bootstrap's need not, and a share of all items has an end that is rounded."""
    odd = entry("odd", "kept", 0.5, 0.1)
    assert odd.judgement is not None and odd.figures is not None
    odd = msgspec.structs.replace(
        odd,
        judgement=msgspec.structs.replace(odd.judgement, loss=0.0, low=2e-14, high=-2e-14),
        figures=msgspec.structs.replace(odd.figures, ratio=Interval(0.5, 0.6, 0.4)),
    )
    axes = drawn(with_entries(entry(START, "start", 1.0), odd, entry(CHOSEN, "chosen", 0.3)), monkeypatch)
    assert (0.5, 0.0) in points(axes)


def with_entries(*entries: Entry) -> Report:
    return msgspec.structs.replace(made_up(), entries=entries)


def test_the_chosen_one_is_a_star_and_the_others_are_points(monkeypatch: pytest.MonkeyPatch) -> None:
    found = points(
        drawn(
            with_entries(
                entry(START, "start", 1.0),
                entry(CHOSEN, "chosen", 0.3, 0.2),
                entry("right", "kept", 0.5, 0.1),
                entry("slow", "slower", 1.4, 0.3),
            ),
            monkeypatch,
        )
    )
    star, point = (len(MarkerStyle(mark).get_path().vertices) for mark in "*o")
    assert star != point
    assert found == {
        (1.0, 0.0): (to_rgba(INK), point),
        (0.3, 0.2): (to_rgba(GREEN), star),
        (0.5, 0.1): (to_rgba(BLUE), point),
        (1.4, 0.3): (to_rgba(GREY), point),
    }


def test_the_line_goes_along_what_nothing_is_faster_and_more_accurate_than(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    axes = drawn(
        with_entries(
            entry(START, "start", 1.0),
            entry(CHOSEN, "chosen", 0.3, 0.4),
            entry("behind", "dominated", 0.6, 0.5),
            entry("right", "kept", 0.5, 0.1),
            entry("better", "slower", 1.4, -0.2),
        ),
        monkeypatch,
    )
    (line,) = (each for each in axes.lines if each.get_linestyle() == ":" and each.get_xdata().size)
    assert line.get_drawstyle() == "steps-post" and line.get_color() == GREEN
    np.testing.assert_allclose(line.get_xydata(), [(0.3, 0.4), (0.5, 0.1), (1.0, 0.0), (1.4, -0.2)])
    (margin,) = (each for each in axes.lines if each.get_linestyle() == "--")
    assert set(margin.get_ydata()) == {0.5}


def test_what_was_not_measured_is_not_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = msgspec.structs.replace(entry("bad", "refused", 0.2, 30.0), figures=None)
    found = points(
        drawn(
            with_entries(entry(START, "start", 1.0), entry(CHOSEN, "chosen", 0.3, 0.4), refused), monkeypatch
        )
    )
    assert found.keys() == {(1.0, 0.0), (0.3, 0.4)}
