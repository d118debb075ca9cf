"""Lines and zones: parsing, distances, and counting against properties that hold for every walk."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from modelport.errors import UsageError
from modelport.track.counting import Counting, anchor_of
from modelport.track.events import LineCrossed, ZoneEntered, ZoneLeft
from modelport.track.shapes import Line, Zone, check_names, checked_zone, parse_line, parse_zone

NUMBER = st.integers(-200, 200).map(float)
POINT = st.tuples(NUMBER, NUMBER)
WALK = st.lists(POINT, min_size=1, max_size=30)
# As long as anybody walks: nobody gets round its ends.
ENDLESS = Line((0.0, -1e5), (0.0, 1e5), "wall")
SQUARE = Zone(((-50.0, -50.0), (50.0, -50.0), (50.0, 50.0), (-50.0, 50.0)), "square")


def crossings(line: Line, walk: list[tuple[float, float]], margin: float = 0.0) -> list[str]:
    counting = Counting([line], margin=margin)
    events = [event for i, point in enumerate(walk) for event in counting.moved(i, i / 10, 1, "car", point)]
    assert all(isinstance(event, LineCrossed) for event in events)
    return [event.direction for event in events if isinstance(event, LineCrossed)]


def test_texts_become_lines_and_zones() -> None:
    assert parse_line("100,200,500,200,the door") == Line((100, 200), (500, 200), "the door")
    assert parse_line("0,.5,1,.5", 3).name == "line 3"
    assert parse_zone("0,0 10,0 10,20,till, left side") == Zone(
        ((0, 0), (10, 0), (10, 20)), "till, left side"
    )
    assert parse_zone("0,0  .5,0 .5,1").in_pixels(200, 100).corners == ((0, 0), (100, 0), (100, 100))
    assert parse_line("0,0,1,0").in_pixels(640, 480) == Line((0, 0), (640, 0), "line 1")
    assert parse_line("0,0,2,0").in_pixels(640, 480) == Line((0, 0), (2, 0), "line 1")


@pytest.mark.parametrize(
    "text", ["", "1,2,3", "1,2,3,x", "1,1,1,1", "nan,0,1,1", "0,0,1e300,5", "0,0,1,1," + "x" * 99]
)
def test_no_line(text: str) -> None:
    with pytest.raises(UsageError, match=r"line|name"):
        parse_line(text)


@pytest.mark.parametrize("text", ["", "1,2", "1,2 3,4", "1,2 3,4 1,2", "1,2 3,4 x,5", "1,2 3,4 inf,5"])
def test_no_zone(text: str) -> None:
    with pytest.raises(UsageError, match="zone"):
        parse_zone(text)


def test_names_are_different_and_not_too_many() -> None:
    with pytest.raises(UsageError, match="same name: 'a'"):
        check_names([Line((0, 0), (1, 1), "a"), Line((0, 0), (2, 1), "a")])
    with pytest.raises(UsageError, match="at most 64"):
        check_names([Line((0, 0), (1, 1), str(i)) for i in range(65)])
    with pytest.raises(UsageError, match="3 to 256"):
        checked_zone(Zone(tuple((float(i), 0.0) for i in range(300))))


def test_in_is_from_the_left_hand_to_the_right() -> None:
    """Who walks to the right of the picture has its lower half at the right hand."""
    line = Line((0, 50), (100, 50), "door")
    assert crossings(line, [(50, 20), (50, 80)]) == ["in"]
    assert crossings(line, [(50, 80), (50, 20)]) == ["out"]
    assert crossings(Line(line.end, line.start), [(50, 20), (50, 80)]) == ["out"]


def test_who_goes_round_the_end_has_not_crossed() -> None:
    line = Line((0, 50), (100, 50), "door")
    assert crossings(line, [(150, 20), (150, 80)]) == []
    assert crossings(line, [(150, 20), (150, 80), (50, 80), (50, 20)]) == ["out"]
    # Along the line itself and off it on the other side: where it left the line counts.
    assert crossings(line, [(150, 20), (150, 50), (50, 50), (50, 80)]) == ["in"]
    assert crossings(line, [(50, 20), (50, 50), (150, 50), (150, 80)]) == []


def test_touching_is_not_crossing() -> None:
    line = Line((0, 50), (100, 50), "door")
    assert crossings(line, [(50, 20), (50, 50), (60, 50), (60, 20)]) == []
    assert crossings(line, [(50, 50), (50, 80)]) == []  # it was never seen on the other side


def test_a_box_that_trembles_on_the_line_crosses_once() -> None:
    line = Line((0, 50), (100, 50), "door")
    walk = [(50.0, y) for y in (30, 45, 49, 51, 49.5, 50.5, 49, 51.5, 48.5, 51, 60, 70)]
    assert crossings(line, walk, margin=2) == ["in"]
    assert len(crossings(line, walk, margin=0)) > 1


@settings(deadline=None)
@given(WALK, st.integers(0, 20).map(float))
def test_crossings_alternate_and_lead_to_the_side_where_the_walk_ends(
    walk: list[tuple[float, float]], margin: float
) -> None:
    found = crossings(ENDLESS, walk, margin)
    sides = [math.copysign(1, d) for p in walk if abs(d := ENDLESS.distance(p)) > margin]
    changes = [b for a, b in pairwise(sides) if a != b]
    assert found == ["in" if side > 0 else "out" for side in changes]


@settings(deadline=None)
@given(POINT, POINT, POINT, POINT)
def test_one_step_crosses_where_two_stretches_meet(a: tuple, b: tuple, p: tuple, q: tuple) -> None:
    """Against the textbook's test of two segments by four areas."""
    assume(a != b)
    line = Line(a, b)

    def area(o: tuple, u: tuple, v: tuple) -> float:
        return (u[0] - o[0]) * (v[1] - o[1]) - (u[1] - o[1]) * (v[0] - o[0])

    sides = area(a, b, p), area(a, b, q)
    assume(0 not in sides)
    ends = area(p, q, a), area(p, q, b)
    assume(0 not in ends)  # through an end, which rounding may put on either side
    expected = sides[0] * sides[1] < 0 and ends[0] * ends[1] < 0
    assert crossings(line, [p, q]) == (["in" if sides[1] > 0 else "out"] if expected else [])


@settings(deadline=None)
@given(WALK)
def test_the_way_back_undoes_the_way(walk: list[tuple[float, float]]) -> None:
    there = crossings(ENDLESS, walk)
    back = crossings(ENDLESS, walk[::-1])
    assert [{"in": "out", "out": "in"}[each] for each in reversed(back)] == there


@settings(deadline=None)
@given(WALK, st.integers(0, 20).map(float))
def test_zones_are_entered_and_left_in_turn_and_stays_add_up(
    walk: list[tuple[float, float]], margin: float
) -> None:
    counting = Counting(zones=[SQUARE], margin=margin)
    events = [event for i, point in enumerate(walk) for event in counting.moved(i, i / 10, 7, "car", point)]
    events += counting.ended(len(walk), len(walk) / 10, 7, (len(walk) - 1) / 10)
    kinds = [type(event) for event in events]
    assert kinds == [ZoneEntered, ZoneLeft] * (len(kinds) // 2)
    stays = counting.stays["square"].get("car")
    if not kinds:
        assert stays is None
        return
    assert stays is not None
    assert (stays.entered, stays.left, stays.inside) == (len(kinds) // 2, len(kinds) // 2, 0)
    dwell = [event.dwell_seconds for event in events if isinstance(event, ZoneLeft)]
    assert stays.dwell_seconds == pytest.approx(sum(dwell))
    assert stays.longest_seconds == max(dwell)
    assert 0 <= sum(dwell) <= (len(walk) - 1) / 10 + 1e-9
    assert counting.ended(99, 99.0, 7, 99.0) == []


@settings(deadline=None)
@given(POINT)
def test_inside_a_concave_zone(point: tuple[float, float]) -> None:
    """A U: the gap in its middle is outside."""
    u = Zone(((-90, -90), (-30, -90), (-30, 30), (30, 30), (30, -90), (90, -90), (90, 90), (-90, 90)))
    x, y = point
    inside = -90 < x < 90 and -90 < y < 90 and not (-30 <= x <= 30 and y <= 30)
    border = x in (-90, 90, -30, 30) or y in (-90, 90, 30)
    if not border:
        assert (u.distance(point) > 0) == inside


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 3), POINT), max_size=40))
def test_tracks_do_not_disturb_each_other(steps: list[tuple[int, tuple[float, float]]]) -> None:
    together = Counting([ENDLESS], [SQUARE])
    apart = {track: Counting([ENDLESS], [SQUARE]) for track in (1, 2, 3)}
    for i, (track, point) in enumerate(steps):
        assert together.moved(i, i / 5, track, "x", point) == apart[track].moved(i, i / 5, track, "x", point)
    total = sum(c.crossings["wall"]["x"].into for c in apart.values() if "x" in c.crossings["wall"])
    assert total == (together.crossings["wall"]["x"].into if "x" in together.crossings["wall"] else 0)


def test_a_stay_is_counted_under_the_label_it_began_with() -> None:
    counting = Counting(zones=[SQUARE])
    counting.moved(0, 0.0, 1, "car", (0, 0))
    (left,) = counting.moved(1, 2.0, 1, "truck", (100, 0))
    assert isinstance(left, ZoneLeft) and left.label == "car" and left.dwell_seconds == 2.0
    assert set(counting.stays["square"]) == {"car"}


def test_anchors() -> None:
    assert anchor_of([10, 20, 30, 60]) == (20, 60)
    assert anchor_of(np.array([10.0, 20, 30, 60]), "centre") == (20, 40)
