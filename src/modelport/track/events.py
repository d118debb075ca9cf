"""What happens to objects that are followed, as values that become JSON lines.

Each has `event`, the frame's number (from 0) and its time in seconds as the source gives it, and the track
with its label. Boxes are x1 y1 x2 y2 and points x y, in pixels of the picture.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Box = tuple[float, float, float, float]
Point = tuple[float, float]
Direction = Literal["in", "out"]


class Happened(msgspec.Struct, frozen=True, tag_field="event"):
    """What every event says."""

    frame: int
    seconds: float
    track: int
    label: str


class TrackStarted(Happened, frozen=True, tag="track_started"):
    """An object was seen often enough to be one."""

    box: Box


class TrackEnded(Happened, frozen=True, tag="track_ended"):
    """An object was not seen for so long that it would count as another when it came back.

    `frame` and `seconds` are those of the moment when that was decided.
    """

    last_seconds: float
    """When it was seen last."""
    seen_seconds: float
    """From its first sight to its last."""


class LineCrossed(Happened, frozen=True, tag="line_crossed"):
    """An object passed a line from one side to the other."""

    line: str
    direction: Direction
    point: Point
    """Where its anchor is now."""


class ZoneEntered(Happened, frozen=True, tag="zone_entered"):
    """An object came into a zone, or appeared in it."""

    zone: str
    point: Point


class ZoneLeft(Happened, frozen=True, tag="zone_left"):
    """An object left a zone, or was seen for the last time in it."""

    zone: str
    dwell_seconds: float
    ended: bool = False
    """Whether its track ended there; then the time in the zone goes to when it was seen last."""


Event = TrackStarted | TrackEnded | LineCrossed | ZoneEntered | ZoneLeft


def written(value: Any) -> Any:
    """An event, a summary or a list of them as plain values for JSON, with seconds to the millisecond."""
    return _rounded(msgspec.to_builtins(value))


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            name: round(each, 3)
            if isinstance(each, float) and str(name).endswith("seconds")
            else _rounded(each)
            for name, each in value.items()
        }
    return [_rounded(each) for each in value] if isinstance(value, list | tuple) else value
