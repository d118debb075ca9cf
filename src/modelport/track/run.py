"""Pictures of a source, one after the other, through a detector and a tracking session."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import msgspec
import numpy as np

from ..errors import InputError
from ..media.draw import Canvas
from ..media.frames import Frame, Source
from ..media.palette import colour_of
from ..runtimes.pipeline import Pipeline
from ..tensors import Array
from .appearance import Appearance
from .events import LineCrossed
from .session import Found, Session, Step, detector_options

Detect = Callable[[Frame], Found]
"""The objects of a picture, as `tensors.readable` gives them."""


class Shown(msgspec.Struct, frozen=True):
    """One picture that was looked at, and what it brought."""

    frame: Frame
    step: Step


class Delay(msgspec.Struct):
    """How far a live source was behind, in seconds: from a picture to its tracks."""

    longest: float = 0.0
    total: float = 0.0
    frames: int = 0

    @property
    def mean(self) -> float:
        """On the average."""
        return self.total / self.frames if self.frames else 0.0

    def add(self, seconds: float) -> None:
        """One picture more."""
        self.longest = max(self.longest, seconds)
        self.total += seconds
        self.frames += 1


def detector(
    pipeline: Pipeline,
    options: Mapping[str, Any],
    *,
    classes: Collection[int] = (),
    tracker: str = "bytetrack",
) -> Detect:
    """What finds objects with a bundle.

    Args:
        classes: numbers of those that are kept; none for all.
        tracker: for whom: one that wants to see weak boxes gets them, unless `options` set a threshold.

    Raises:
        InputError: the bundle is no object detector.
    """
    manifest = pipeline.bundle.manifest
    if manifest.task != "object-detection":
        raise InputError(
            f"{manifest.name} is for {manifest.task or 'no known task'}; expected an object detector",
            hint="pack one with --recipe yolov5, say",
        )
    given = detector_options(options, manifest, tracker)

    def detect(frame: Frame) -> Found:
        found = pipeline.readable(pipeline.answer({"image": frame.picture}, given or None))
        assert isinstance(found, list)
        return [each for each in found if not classes or each["class"] in classes]

    return detect


def follow_source(
    source: Source,
    detect: Detect,
    session: Session,
    *,
    appearance: Appearance | None = None,
    ahead: int = 2,
    delay: Delay | None = None,
) -> Iterator[Shown]:
    """Each picture of `source` with its tracks, in order.

    Detection of the next pictures of a file runs while the one before is followed and drawn. Of a live
    source nothing is looked at ahead: the picture that is newest when the one before is done comes next.

    Args:
        ahead: pictures of a file that are detected ahead, side by side.
        delay: how far a live source falls behind is added to it.
    """
    first: float | None = None
    with ThreadPoolExecutor(max(1, ahead)) as pool:
        waiting: deque[tuple[Frame, Future[Found]]] = deque()
        ahead = 0 if source.live else ahead
        for frame in source:
            taken = time.monotonic() - frame.seconds
            first = taken if first is None else min(first, taken)
            waiting.append((frame, pool.submit(detect, frame)))
            if len(waiting) > ahead:
                yield _followed(*waiting.popleft(), session, appearance)
                if source.live and delay is not None:
                    delay.add(time.monotonic() - first - frame.seconds)
        while waiting:
            yield _followed(*waiting.popleft(), session, appearance)


def _followed(frame: Frame, found: Future[Found], session: Session, appearance: Appearance | None) -> Shown:
    objects = found.result()
    height, width = frame.picture.shape[:2]
    vectors = appearance.vectors(frame.picture, objects) if appearance is not None else None
    step = session.step(objects, frame.seconds, (width, height), vectors=vectors, frame=frame.index)
    return Shown(frame, step)


class Drawing:
    """Draws tracks, trails, lines and zones with their counts; what happened is seen for a moment."""

    FLASH_SECONDS = 0.4

    def __init__(self, session: Session, *, caption: bool = True) -> None:
        self._session = session
        self._caption = caption
        self._flash: dict[str, float] = {}

    def draw(self, picture: Array, step: Step) -> Array:
        """A copy of `picture`, uint8[H, W, 3], with everything drawn on it."""
        canvas = Canvas(picture)
        for event in step.events:
            if isinstance(event, LineCrossed):
                self._flash[event.line] = step.seconds
        status = f"{step.seconds:.2f} s, {len(step.tracks)} now, {self._session.seen} in all"
        if self._caption:
            canvas.leave_room(status)
        self._shapes(canvas, step.seconds)
        canvas.trails(self._session.trails())
        if self._caption:
            canvas.caption(status)
        canvas.detections(step.tracks)
        return canvas.picture()

    def _shapes(self, canvas: Canvas, seconds: float) -> None:
        counting = self._session.counting
        if counting is None:
            return
        for number, zone in enumerate(counting.zones):
            stays = counting.stays[zone.name].values()
            inside, entered = sum(each.inside for each in stays), sum(each.entered for each in stays)
            canvas.zone(
                zone.corners, colour_of(number + 2), f"{zone.name}: {inside} inside, {entered} entered"
            )
        for line in counting.lines:
            counts = counting.crossings[line.name].values()
            text = (
                f"{line.name}: {sum(each.into for each in counts)} in, {sum(each.out for each in counts)} out"
            )
            fresh = seconds - self._flash.get(line.name, -1e9) < self.FLASH_SECONDS
            canvas.line((line.start, line.end), (255, 64, 64) if fresh else (255, 255, 255), text)


class Given(Source):
    """Frames without pictures, for objects that were found elsewhere; up to the last that has any.

    Args:
        found: by frame, from 0.
    """

    def __init__(self, name: str, found: Mapping[int, Found], fps: float) -> None:
        super().__init__(name)
        self.fps = fps
        self.total = max(found, default=-1) + 1
        corners = (value for each in found.values() for one in each for value in one["box"])
        self._side = int(max(corners, default=1)) + 1

    def _frames(self) -> Iterator[Frame]:
        picture = np.broadcast_to(np.zeros((1, 1, 3), np.uint8), (self._side, self._side, 3))
        for index in range(self.total or 0):
            yield Frame(index, index / self.fps, picture, self.name)
