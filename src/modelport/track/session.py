"""One video's tracking: found objects in, picture by picture, tracks, events and counts out.

Without a clock: the time of a picture comes with it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from ..bundle.manifest import Manifest
from ..errors import InputError
from ..tensors import Array
from .association import Association, Following, follow
from .counting import Anchor, Counting, InOut, Stays, anchor_of
from .events import Event, Point, TrackEnded, TrackStarted
from .shapes import Line, Zone, check_names, checked_line, checked_zone

Found = list[dict[str, Any]]
"""The objects of a picture, as `tensors.readable` gives them."""

_SCORE_OPTION = "score_threshold"
_LOW_SCORE = 0.1
_TAKES_WEAK = ("bytetrack", "ocsort")
"""They look at weak boxes, for objects that they know; the others take every box for an object."""


def detector_options(given: Mapping[str, Any], manifest: Manifest, tracker: str) -> dict[str, Any]:
    """The options that a detector is asked with: those `given`, and a low threshold of the score where
    they have none and the tracker wants to see weak boxes too.
    """
    options = dict(given)
    if tracker in _TAKES_WEAK:
        for option in manifest.options:
            if option.name == _SCORE_OPTION:
                options.setdefault(_SCORE_OPTION, min(_LOW_SCORE, float(option.default)))
    return options


class Watching(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is counted. Lines and zones are in pixels, or in shares of the picture."""

    lines: tuple[Line, ...] = ()
    zones: tuple[Zone, ...] = ()
    anchor: Anchor = "bottom"
    margin: float = 2.0
    """Pixels by which an object must be past a line or border before it counts."""
    trail_seconds: float = 2.0

    def checked(self) -> Watching:
        """The same, if its shapes are shapes.

        Raises:
            UsageError: which is none, or two have one name.
        """
        for line in self.lines:
            checked_line(line)
        for zone in self.zones:
            checked_zone(zone)
        check_names(self.lines)
        check_names(self.zones)
        for name in ("margin", "trail_seconds"):
            if not 0 <= getattr(self, name) < 1e4:
                raise InputError(f"expected {name} from 0 to 10000, got {getattr(self, name)}")
        return self


class Step(msgspec.Struct, frozen=True):
    """What one picture brought."""

    frame: int
    seconds: float
    tracks: list[dict[str, Any]]
    """As `tensors.readable` gives objects, with `track`; those without an identity are left out."""
    events: list[Event]


class Summary(msgspec.Struct, frozen=True):
    """What was seen so far."""

    frames: int
    """That were looked at."""
    seconds: float
    """From the first picture's time to the last's."""
    tracks: int
    labels: dict[str, int]
    """Tracks by what most of their boxes were taken for."""
    lines: dict[str, dict[str, InOut]]
    zones: dict[str, dict[str, Stays]]


class _Track:
    """One identity."""

    def __init__(self, seconds: float) -> None:
        self.first = self.last = seconds
        self.votes: dict[str, float] = {}
        self.label = ""
        self.trail: deque[tuple[float, Point]] = deque()

    def vote(self, label: str, score: float) -> None:
        """Take it for what most of its boxes, by their scores, were taken for."""
        self.votes[label] = self.votes.get(label, 0.0) + max(score, 0.0)
        if self.votes[label] > self.votes.get(self.label, -1.0):
            self.label = label


class Session:
    """Follows the objects of one video.

    Raises:
        Unsupported: the tracker's library is not installed. UsageError: impossible settings.
    """

    def __init__(self, following: Following | None = None, watching: Watching | None = None) -> None:
        self.following = following or Following()
        self.watching = (watching or Watching()).checked()
        self._association: Association = follow(self.following)
        self._counting: Counting | None = None
        self._tracks: dict[int, _Track] = {}
        self._over = 0
        self._labels: dict[str, int] = {}
        self._frame = -1
        self._steps = 0
        self._first = self._last = math.nan

    @property
    def needs_vectors(self) -> bool:
        """Whether `step` asks for what the objects look like."""
        return self._association.needs_vectors

    @property
    def counting(self) -> Counting | None:
        """Lines and zones in pixels; None before the first picture."""
        return self._counting

    @property
    def seen(self) -> int:
        """Identities so far."""
        return self._over + len(self._tracks)

    def step(
        self,
        found: Sequence[Mapping[str, Any]],
        seconds: float,
        size: tuple[int, int],
        *,
        vectors: Array | None = None,
        frame: int | None = None,
    ) -> Step:
        """Follow the objects of the next picture.

        Args:
            found: as `tensors.readable` gives them: `label`, `class`, `score`, `box` in pixels.
            seconds: the picture's time. One that is not later than the last is taken as just after it.
            size: the picture's width and height.
            vectors: float32[n, k], one for each object, where `needs_vectors`.
            frame: its number, where pictures were left out; by default the next one.

        Raises:
            InputError: a time that is none.
        """
        if not math.isfinite(seconds):
            raise InputError(f"expected the picture's time in seconds, got {seconds}")
        self._frame = self._frame + 1 if frame is None else frame
        self._steps += 1
        if self._counting is None:
            watching = self.watching
            self._counting = Counting(
                [line.in_pixels(*size) for line in watching.lines],
                [zone.in_pixels(*size) for zone in watching.zones],
                margin=watching.margin,
            )
            self._first = seconds
        else:
            seconds = max(seconds, self._last + 1e-3)
        self._last = seconds
        boxes = np.array([each["box"] for each in found], np.float32).reshape(-1, 4)
        scores = np.array([each["score"] for each in found], np.float32)
        identities = self._association.update(boxes, scores, seconds, vectors)
        events: list[Event] = []
        tracks = []
        for each, identity in zip(found, identities, strict=True):
            if identity:
                tracks.append({**each, "track": identity})
                events += self._seen(identity, each, seconds)
        events += self._lost(self._association.alive())
        tracks.sort(key=lambda each: int(each["track"]))
        return Step(self._frame, seconds, tracks, events)

    def end(self) -> list[Event]:
        """The video is over: every track ends."""
        return self._lost(())

    def trails(self) -> dict[int, list[Point]]:
        """The ways of those that were seen in the last picture, oldest point first."""
        return {
            identity: [point for _, point in track.trail]
            for identity, track in self._tracks.items()
            if track.last == self._last
        }

    def summary(self) -> Summary:
        """What was seen so far."""
        labels = dict(self._labels)
        for track in self._tracks.values():
            labels[track.label] = labels.get(track.label, 0) + 1
        counting = self._counting or Counting(self.watching.lines, self.watching.zones)
        return Summary(
            self._steps,
            0.0 if math.isnan(self._first) else self._last - self._first,
            self.seen,
            dict(sorted(labels.items())),
            counting.crossings,
            counting.stays,
        )

    def _seen(self, identity: int, found: Mapping[str, Any], seconds: float) -> list[Event]:
        assert self._counting is not None
        events: list[Event] = []
        box = found["box"]
        track = self._tracks.get(identity)
        if track is None:
            track = self._tracks[identity] = _Track(seconds)
            track.vote(str(found["label"]), float(found["score"]))
            x1, y1, x2, y2 = (float(value) for value in box)
            events.append(TrackStarted(self._frame, seconds, identity, track.label, (x1, y1, x2, y2)))
        else:
            track.vote(str(found["label"]), float(found["score"]))
        track.last = seconds
        point = anchor_of(box, self.watching.anchor)
        track.trail.append((seconds, point))
        while seconds - track.trail[0][0] > self.watching.trail_seconds:
            track.trail.popleft()
        return events + self._counting.moved(self._frame, seconds, identity, track.label, point)

    def _lost(self, alive: Any) -> list[Event]:
        events: list[Event] = []
        for identity in [each for each in self._tracks if each not in alive]:
            track = self._tracks.pop(identity)
            self._over += 1
            self._labels[track.label] = self._labels.get(track.label, 0) + 1
            if self._counting is not None:
                events += self._counting.ended(self._frame, self._last, identity, track.last)
            seen = track.last - track.first
            events.append(TrackEnded(self._frame, self._last, identity, track.label, track.last, seen))
        return events
