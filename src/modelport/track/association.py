"""From boxes of single pictures to identities: the trackers of two libraries behind one call.

ByteTrack, OC-SORT and SORT are those of `trackers`; DeepSORT is that of `deep-sort-realtime`, with the
vectors of an embedding bundle in the place of its own network. Nothing of them is written again here.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Collection
from typing import Any, Protocol

import msgspec
import numpy as np

from ..errors import InputError, Unsupported, UsageError
from ..tensors import Array

INSTALL = "pip install 'modelport[track]'"
# Its dependency opencv-python draws windows, with libraries that a server or a container may not have.
_HEADLESS = "pip uninstall -y opencv-python && pip install --force-reinstall opencv-python-headless"
TRACKERS = ("bytetrack", "ocsort", "sort", "deepsort")
"""What `tracker` may be."""


class Following(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How boxes become identities. What is None is as the tracker's library has it.

    Times in seconds, scores in the detector's units (from 0 to 1, as a rule).
    """

    tracker: str = "bytetrack"
    high_score: float | None = None
    """Boxes at least this good are matched first; ByteTrack looks at the others only for known objects."""
    new_score: float | None = None
    """Boxes at least this good may begin a track."""
    min_frames: int | None = None
    """Frames in a row in which an object must be seen before it has an identity."""
    min_iou: float | None = None
    """Overlap (intersection over union) that a box needs with where its object is expected."""
    max_distance: float | None = None
    """DeepSORT: cosine distance beyond which two looks are of two objects."""
    lost_seconds: float = 1.0
    """An object that is not seen for longer comes back as another."""
    fps: float = 30.0
    """Pictures a second, on the average."""

    def checked(self) -> Following:
        """The same, if its values are possible.

        Raises:
            UsageError: which is not, or means nothing to this tracker.
        """
        if self.tracker not in TRACKERS:
            raise UsageError(f"no tracker is called {self.tracker!r}", hint=f"known: {', '.join(TRACKERS)}")
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if value is not None and not (low <= value <= high and math.isfinite(value)):
                raise UsageError(f"expected {name} from {low:g} to {high:g}, got {value:g}")
        for name in _NAMES:
            if getattr(self, name) is not None and name not in _TAKEN[self.tracker]:
                raise UsageError(
                    f"{self.tracker} has no {name}", hint=f"it has {', '.join(_TAKEN[self.tracker])}"
                )
        return self

    def given(self) -> dict[str, Any]:
        """What is not None, as the tracker's library calls it."""
        taken = _TAKEN[self.tracker]
        return {taken[name]: getattr(self, name) for name in taken if getattr(self, name) is not None}


_RANGES = {
    "high_score": (0.0, 1e6),
    "new_score": (0.0, 1e6),
    "min_frames": (1, 1000),
    "min_iou": (0.0, 1.0),
    "max_distance": (0.0, 2.0),
    "lost_seconds": (0.0, 3600.0),
    "fps": (0.01, 1000.0),
}
_COMMON = {"min_frames": "minimum_consecutive_frames", "min_iou": "minimum_iou_threshold"}
_HIGH = {"high_score": "high_conf_det_threshold"}
_NEW = {"new_score": "track_activation_threshold"}
_TAKEN: dict[str, dict[str, str]] = {
    "bytetrack": {**_HIGH, **_NEW, **_COMMON},
    "ocsort": {**_HIGH, **_COMMON},
    "sort": {**_NEW, **_COMMON},
    "deepsort": {
        "new_score": "new_score",
        "min_frames": "n_init",
        "min_iou": "max_iou_distance",
        "max_distance": "max_cosine_distance",
    },
}
_NAMES = ("high_score", "new_score", "min_frames", "min_iou", "max_distance")


class Association(Protocol):
    """One video's identities."""

    needs_vectors: bool
    """Whether `update` asks for what the objects look like."""

    def update(self, boxes: Array, scores: Array, seconds: float, vectors: Array | None) -> list[int]:
        """The identity of each box of the next picture; 0 for one that has none (yet).

        Args:
            boxes: float32[n, 4], x1 y1 x2 y2.
            scores: float32[n].
            seconds: its time; later than the one before.
            vectors: float32[n, k] where `needs_vectors`.
        """
        ...

    def alive(self) -> Collection[int]:
        """The identities that are seen or may still come back."""
        ...


def follow(following: Following) -> Association:
    """A tracker for one video.

    Raises:
        Unsupported: its library is not installed. UsageError: impossible settings.
    """
    following = following.checked()
    return _Appearance(following) if following.tracker == "deepsort" else _Overlap(following)


class _Overlap:
    """The trackers of the library `trackers`, which look at boxes alone."""

    needs_vectors = False

    def __init__(self, following: Following) -> None:
        trackers = _library("trackers")
        self._detections: Any = _library("supervision").Detections
        made = {
            "bytetrack": trackers.ByteTrackTracker,
            "ocsort": trackers.OCSORTTracker,
            "sort": trackers.SORTTracker,
        }
        self._tracker: Any = made[following.tracker](
            # The library counts its buffer in frames at 30 a second, and means seconds by it.
            lost_track_buffer=round(following.lost_seconds * 30),
            frame_rate=following.fps,
            **following.given(),
        )
        # With times given, the library drops a track before it looks for its box; without, after that. One
        # frame more makes both the same, so that a video is followed as the library alone would follow it.
        self._tracker.maximum_time_without_update = following.lost_seconds + 1 / following.fps + 1e-6
        self._start: float | None = None

    def update(self, boxes: Array, scores: Array, seconds: float, vectors: Array | None) -> list[int]:
        """As `Association.update`; `vectors` are not looked at."""
        if self._start is None:
            self._start = seconds
        given = self._detections(
            xyxy=np.asarray(boxes, np.float32).reshape(-1, 4),
            confidence=np.asarray(scores, np.float32),
            data={"place": np.arange(len(boxes))},
        )
        with warnings.catch_warnings():
            # What the library warns of (times that stand still) cannot be changed by whoever reads it.
            warnings.simplefilter("ignore")
            found = self._tracker.update(given, timestamp=seconds - self._start)
        identities = [0] * len(boxes)
        for place, identity in zip(found.data.get("place", ()), found.tracker_id, strict=False):
            # The library counts from 0, and has -1 for none.
            identities[int(place)] = int(identity) + 1
        return identities

    def alive(self) -> Collection[int]:
        """As `Association.alive`."""
        return {int(track.tracker_id) + 1 for track in self._tracker.tracks if track.tracker_id >= 0}


class _Appearance:
    """DeepSORT: a Kalman filter for where an object is, cosine distances of vectors for its look."""

    needs_vectors = True

    def __init__(self, following: Following) -> None:
        library = _library("deep_sort_realtime.deepsort_tracker")
        given = following.given()
        self._new_score = given.pop("new_score", 0.3)
        if following.min_iou is not None:
            given["max_iou_distance"] = 1.0 - following.min_iou
        self._tracker: Any = library.DeepSort(
            embedder=None,
            max_age=max(1, round(following.lost_seconds * following.fps)),
            nn_budget=100,
            **given,
        )
        self._identities: dict[str, int] = {}
        self._count = 0

    def update(self, boxes: Array, scores: Array, seconds: float, vectors: Array | None) -> list[int]:
        """As `Association.update`; `seconds` are not looked at: DeepSORT counts frames."""
        if vectors is None or len(vectors) != len(boxes):
            raise InputError(f"DeepSORT needs one vector for each of {len(boxes)} boxes")
        corners = np.asarray(boxes, float).reshape(-1, 4)
        sizes = corners[:, 2:] - corners[:, :2]
        taken = [
            place
            for place in range(len(boxes))
            # It divides by the height; and it has no second look at weak boxes.
            if sizes[place].min() > 0 and float(scores[place]) >= self._new_score
        ]
        given = [
            ([*corners[place, :2].tolist(), *sizes[place].tolist()], float(scores[place]), None)
            for place in taken
        ]
        look = [np.asarray(vectors[place], np.float32) for place in taken]
        identities = [0] * len(boxes)
        for track in self._tracker.update_tracks(given, embeds=look, others=taken):
            if track.is_confirmed():
                identity = self._identities.get(track.track_id, 0)
                if not identity:
                    self._count += 1
                    identity = self._identities[track.track_id] = self._count
                if track.time_since_update == 0 and track.get_det_supplementary() is not None:
                    identities[int(track.get_det_supplementary())] = identity
        return identities

    def alive(self) -> Collection[int]:
        """As `Association.alive`."""
        known = {track.track_id for track in self._tracker.tracker.tracks} & self._identities.keys()
        # A stream may go on for months: identities that are over are forgotten.
        self._identities = {name: self._identities[name] for name in known}
        return set(self._identities.values())


def load(tracker: str) -> None:
    """Import what a tracker is made of, which takes a second the first time.

    Raises:
        Unsupported: it is not installed.
    """
    deepsort = ("deep_sort_realtime.deepsort_tracker",)
    for name in deepsort if tracker == "deepsort" else ("trackers", "supervision"):
        _library(name)


def _library(name: str) -> Any:
    import importlib

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(name)
    except ImportError as problem:
        raise Unsupported(
            f"tracking needs {name.partition('.')[0]}, which does not load: {problem}",
            hint=INSTALL if isinstance(problem, ModuleNotFoundError) else _HEADLESS,
        ) from problem
