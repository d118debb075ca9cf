"""Lines and zones in a picture, and on which side of them a point is. Pure geometry.

Coordinates are pixels of the picture, x to the right and y down, or shares of its width and height.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from ..errors import UsageError

Point = tuple[float, float]

MAX_SHAPES = 64
"""Lines and zones of one session, each."""
MAX_CORNERS = 256
_MAX_NAME = 80


class Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A stretch that is crossed; `in` is from left to right for who walks from `start` to `end`."""

    start: Point
    end: Point
    name: str = "line"

    def distance(self, point: Point) -> float:
        """Pixels from the straight line through both ends; positive on the right, negative on the left."""
        (x1, y1), (x2, y2) = self.start, self.end
        across = (x2 - x1) * (point[1] - y1) - (y2 - y1) * (point[0] - x1)
        return across / math.hypot(x2 - x1, y2 - y1)

    def along(self, point: Point) -> float:
        """Where a point stands beside the line: 0 at its start, 1 at its end, beyond them outside."""
        (x1, y1), (x2, y2) = self.start, self.end
        dx, dy = x2 - x1, y2 - y1
        return ((point[0] - x1) * dx + (point[1] - y1) * dy) / (dx * dx + dy * dy)

    def in_pixels(self, width: int, height: int) -> Line:
        """The same line where it was given in shares of the picture."""
        start, end = scaled((self.start, self.end), width, height)
        return Line(start, end, self.name)


class Zone(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A polygon, closed by itself; it may be concave."""

    corners: tuple[Point, ...]
    name: str = "zone"

    def distance(self, point: Point) -> float:
        """Pixels from the border; positive inside, negative outside."""
        x, y = point
        inside = False
        nearest = math.inf
        ends = (*self.corners[1:], self.corners[0])
        for (x1, y1), (x2, y2) in zip(self.corners, ends, strict=True):
            if (y1 > y) != (y2 > y) and x < (x2 - x1) * (y - y1) / (y2 - y1) + x1:
                inside = not inside
            nearest = min(nearest, _from_stretch(point, (x1, y1), (x2, y2)))
        return nearest if inside else -nearest

    def in_pixels(self, width: int, height: int) -> Zone:
        """The same zone where it was given in shares of the picture."""
        return Zone(scaled(self.corners, width, height), self.name)


def scaled(points: Sequence[Point], width: int, height: int) -> tuple[Point, ...]:
    """Shares as pixels, where all numbers are from 0 to 1; pixels as they are."""
    if all(0 <= x <= 1 and 0 <= y <= 1 for x, y in points):
        return tuple((x * width, y * height) for x, y in points)
    return tuple(points)


def parse_line(text: str, number: int = 1) -> Line:
    """A line from `x1,y1,x2,y2[,name]`; without a name it is `line NUMBER`.

    Raises:
        UsageError: it is no such text, or its ends are one point.
    """
    parts = text.split(",", 4)
    numbers = _numbers(parts[:4])
    if len(numbers) != 4:
        raise UsageError(
            f"expected a line as x1,y1,x2,y2[,name], got {text[:200]!r}",
            hint="pixels (100,200,500,200,door) or shares of the picture (0,0.5,1,0.5,door)",
        )
    name = parts[4].strip() if len(parts) > 4 else f"line {number}"
    return checked_line(Line((numbers[0], numbers[1]), (numbers[2], numbers[3]), name))


def parse_zone(text: str, number: int = 1) -> Zone:
    """A zone from `x,y x,y x,y …[,name]`; without a name it is `zone NUMBER`.

    Raises:
        UsageError: it is no such text, or not three different corners.
    """
    corners: list[Point] = []
    rest = text.strip()
    name = f"zone {number}"
    while rest:
        word, _, after = rest.partition(" ")
        parts = word.split(",", 2)
        numbers = _numbers(parts[:2])
        if len(numbers) != 2:
            raise UsageError(
                f"expected a zone as x,y x,y x,y[,name], got {text[:200]!r}",
                hint="corners in pixels (0,0 200,0 200,300,shop) or shares (0,0 0.5,0 0.5,1,shop)",
            )
        corners.append((numbers[0], numbers[1]))
        rest = after.strip()
        if len(parts) > 2:
            # Everything behind the last corner's comma is the name, spaces and all.
            name, rest = f"{parts[2]} {after}".strip(), ""
    return checked_zone(Zone(tuple(corners), name))


def checked_line(line: Line) -> Line:
    """The line, if it is one.

    Raises:
        UsageError: ends that are one point or no finite numbers, or no name.
    """
    if not _finite((line.start, line.end)) or math.hypot(*_span(line.start, line.end)) < 1e-9:
        raise UsageError(f"the line {line.name[:_MAX_NAME]!r} needs two different ends, in finite numbers")
    _check_name(line.name)
    return line


def checked_zone(zone: Zone) -> Zone:
    """The zone, if it is one.

    Raises:
        UsageError: fewer than three different corners or more than `MAX_CORNERS`, or no name.
    """
    if not 3 <= len(set(zone.corners)) <= MAX_CORNERS or len(zone.corners) > MAX_CORNERS:
        raise UsageError(
            f"the zone {zone.name[:_MAX_NAME]!r} needs 3 to {MAX_CORNERS} different corners, "
            f"got {len(set(zone.corners))}"
        )
    if not _finite(zone.corners):
        raise UsageError(f"the zone {zone.name[:_MAX_NAME]!r} needs finite numbers")
    _check_name(zone.name)
    return zone


def check_names(shapes: Sequence[Line] | Sequence[Zone]) -> None:
    """Raises UsageError where two have one name, or there are more than `MAX_SHAPES`."""
    names = [shape.name for shape in shapes]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"two of the same name: {name!r}", hint="give each a name of its own")
    if len(names) > MAX_SHAPES:
        raise UsageError(f"{len(names)} lines or zones; at most {MAX_SHAPES}")


def _check_name(name: str) -> None:
    if not 1 <= len(name) <= _MAX_NAME:
        raise UsageError(f"expected a name of 1 to {_MAX_NAME} letters, got {name[:_MAX_NAME]!r}")


def _numbers(parts: Sequence[str]) -> list[float]:
    """The parts as numbers; those up to the first that is none."""
    found = []
    for part in parts:
        try:
            found.append(float(part))
        except ValueError:
            break
    return found


def _finite(points: Sequence[Point]) -> bool:
    return all(math.isfinite(value) and abs(value) < 1e6 for point in points for value in point)


def _span(one: Point, other: Point) -> Point:
    return other[0] - one[0], other[1] - one[1]


def _from_stretch(point: Point, start: Point, end: Point) -> float:
    """Pixels from a stretch between two points."""
    dx, dy = _span(start, end)
    length = dx * dx + dy * dy
    share = 0.0 if not length else ((point[0] - start[0]) * dx + (point[1] - start[1]) * dy) / length
    share = min(max(share, 0.0), 1.0)
    return math.hypot(point[0] - start[0] - share * dx, point[1] - start[1] - share * dy)
