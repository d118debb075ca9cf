"""Who crossed which line and how long who stayed in which zone: decided from points, without a clock.

A side counts only where the point is farther than `margin` pixels from the line or border: a box that
trembles on it crosses nothing, and what touches and turns back has not crossed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from .events import Direction, Event, LineCrossed, Point, ZoneEntered, ZoneLeft
from .shapes import Line, Zone

Anchor = Literal["bottom", "centre"]
"""Which point of a box stands for the object: where it touches the ground, or its middle."""


class InOut(msgspec.Struct):
    """Crossings of a line by objects of one label."""

    into: int = msgspec.field(name="in", default=0)
    out: int = 0


class Stays(msgspec.Struct):
    """Visits of a zone by objects of one label; seconds of those that are over."""

    entered: int = 0
    inside: int = 0
    left: int = 0
    dwell_seconds: float = 0.0
    """Of all visits that are over, together."""
    longest_seconds: float = 0.0


class _Passing(msgspec.Struct):
    """One track beside one line."""

    point: Point
    """Where it was last."""
    side: int = 0
    """Of the line, by the sign of the distance; 0 on the line itself, before any other was seen."""
    settled: int = 0
    """The side it was on when it was last farther away than the margin; 0 if it never was."""
    at: float = 0.0
    """Where along the line it changed sides last: 0 to 1 between the ends."""


def anchor_of(box: Sequence[float], anchor: Anchor = "bottom") -> Point:
    """The point that stands for a box (x1 y1 x2 y2)."""
    x = (box[0] + box[2]) / 2
    return (x, box[3]) if anchor == "bottom" else (x, (box[1] + box[3]) / 2)


class Counting:
    """Lines and zones of one picture size, and all that moved past them.

    Args:
        margin: pixels by which a point must be past a line or border before it counts.
    """

    def __init__(
        self, lines: Sequence[Line] = (), zones: Sequence[Zone] = (), *, margin: float = 0.0
    ) -> None:
        self.lines = tuple(lines)
        self.zones = tuple(zones)
        self.margin = margin
        self.crossings: dict[str, dict[str, InOut]] = {line.name: {} for line in lines}
        self.stays: dict[str, dict[str, Stays]] = {zone.name: {} for zone in zones}
        self._passing: dict[tuple[int, int], _Passing] = {}
        self._inside: dict[tuple[int, int], tuple[float, str]] = {}
        """(track, zone) -> when it came in, and as what it was counted then."""

    def moved(self, frame: int, seconds: float, track: int, label: str, point: Point) -> list[Event]:
        """What it means that a track's anchor is at `point` now."""
        found: list[Event] = []
        for number, line in enumerate(self.lines):
            direction = self._crossed(number, line, track, point)
            if direction is not None:
                counts = self.crossings[line.name].setdefault(label, InOut())
                if direction == "in":
                    counts.into += 1
                else:
                    counts.out += 1
                found.append(LineCrossed(frame, seconds, track, label, line.name, direction, point))
        for number, zone in enumerate(self.zones):
            event = self._visited(number, zone, frame, seconds, track, label, point)
            if event is not None:
                found.append(event)
        return found

    def ended(self, frame: int, seconds: float, track: int, last_seconds: float) -> list[Event]:
        """A track is over: it leaves the zones it was in, at the time it was seen last."""
        found: list[Event] = []
        for number, zone in enumerate(self.zones):
            came = self._inside.pop((track, number), None)
            if came is not None:
                found.append(self._left(zone, frame, seconds, track, came, last_seconds, ended=True))
        for number in range(len(self.lines)):
            self._passing.pop((track, number), None)
        return found

    def _crossed(self, number: int, line: Line, track: int, point: Point) -> Direction | None:
        distance = line.distance(point)
        side = (distance > 0) - (distance < 0)
        beyond = side if abs(distance) > self.margin else 0
        passing = self._passing.get((track, number))
        if passing is None:
            self._passing[track, number] = _Passing(point, side, beyond)
            return None
        if side and passing.side and side != passing.side:
            # From the last point, which may lie on the line, straight to this one.
            before = line.distance(passing.point)
            share = before / (before - distance)
            x, y = passing.point
            passing.at = line.along((x + share * (point[0] - x), y + share * (point[1] - y)))
        passing.point = point
        passing.side = side or passing.side
        before_settled, passing.settled = passing.settled, beyond or passing.settled
        if not beyond or not before_settled or beyond == before_settled or not 0 <= passing.at <= 1:
            return None
        return "in" if beyond > 0 else "out"

    def _visited(
        self, number: int, zone: Zone, frame: int, seconds: float, track: int, label: str, point: Point
    ) -> Event | None:
        distance = zone.distance(point)
        if abs(distance) <= self.margin:
            return None
        came = self._inside.get((track, number))
        if distance > 0 and came is None:
            self._inside[track, number] = (seconds, label)
            stays = self.stays[zone.name].setdefault(label, Stays())
            stays.entered += 1
            stays.inside += 1
            return ZoneEntered(frame, seconds, track, label, zone.name, point)
        if distance < 0 and came is not None:
            del self._inside[track, number]
            return self._left(zone, frame, seconds, track, came, seconds)
        return None

    def _left(
        self,
        zone: Zone,
        frame: int,
        seconds: float,
        track: int,
        came: tuple[float, str],
        until: float,
        *,
        ended: bool = False,
    ) -> ZoneLeft:
        since, label = came
        dwell = max(0.0, until - since)
        # Under the label it came in with: what a track is taken for may change while it is inside.
        stays = self.stays[zone.name][label]
        stays.inside -= 1
        stays.left += 1
        stays.dwell_seconds += dwell
        stays.longest_seconds = max(stays.longest_seconds, dwell)
        return ZoneLeft(frame, seconds, track, label, zone.name, dwell, ended)
