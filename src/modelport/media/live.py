"""Cameras and network streams: the newest frame, and a new connection when one is cut."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator

from ..errors import ModelportError, NotFound, Unavailable
from .decoder import Decoder
from .frames import Frame, Sampling, Source

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
"""Seconds before the first and the later attempts to connect anew; each pause is twice the one before."""

_LOOK_SECONDS = 0.1


class Live(Source):
    """Frames as they come, with the time they came; at most one waits to be taken."""

    live = True

    def __init__(self, connect: Callable[[], Decoder], *, fps: float | None, reconnects: int) -> None:
        """Connect, and raise what `connect` raises: a first connection is not tried twice."""
        self._decoder = connect()
        super().__init__(self._decoder.name, ahead=1)
        self.fps = min(fps or self._decoder.fps, self._decoder.fps)
        self._connect = connect
        self._attempts = reconnects
        self._corrupt = 0
        self._sampling = Sampling(fps)
        self._start: float | None = None
        self._came = 0.0

    @property
    def corrupt(self) -> int:
        return self._corrupt + self._decoder.corrupt

    def close(self) -> None:
        super().close()
        if self._thread is None:
            self._decoder.close()

    def _frames(self) -> Iterator[Frame]:
        """Frames of one connection after the other.

        Raises:
            Unavailable: the stream was cut, and so many attempts in a row brought no frame.
        """
        index = -1
        failed = 0
        while True:
            before = index
            reason = "it ended"
            try:
                for number, _, picture in self._decoder.pictures(self._wanted):
                    index = before + 1 + number
                    failed = 0
                    yield Frame(index, self._came, picture, self.name)
            except Unavailable as problem:
                reason = problem.message
            finally:
                self._decoder.close()
            failed = self._again(failed, reason)
            if self._buffer.stopped or failed < 0:
                return

    def _again(self, failed: int, reason: str) -> int:
        """Connect anew; the number of attempts in a row without a frame, or -1: the stream is at its end."""
        if self._attempts == 0:
            return -1
        while failed < self._attempts:
            self._wait(min(FIRST_PAUSE * 2**failed, LONGEST_PAUSE))
            if self._buffer.stopped:
                return failed
            failed += 1
            corrupt = self._decoder.corrupt
            try:
                self._decoder = self._connect()
            except ModelportError as problem:
                reason = problem.message
                continue
            self._corrupt += corrupt
            self.reconnects += 1
            return failed
        raise Unavailable(f"{self.name} is gone after {failed} attempts to connect anew: {reason}")

    def _wanted(self, _: float) -> bool:
        # A stream's own times start anew with every connection, and cameras' clocks drift.
        self._came = self._now()
        return self._buffer.stopped or self._sampling.wants(self._came)

    def _now(self) -> float:
        """Seconds since the first frame came."""
        if self._start is None:
            self._start = time.monotonic()
        return time.monotonic() - self._start

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self._buffer.stopped and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, _LOOK_SECONDS))


def open_camera(text: str, timeout: float) -> Decoder:
    """The camera with this number, or `/dev/videoN`.

    Raises:
        NotFound: there is none of this number. Unavailable: it is in use, or not ours to read.
    """
    if sys.platform.startswith("linux"):
        address, format = (f"/dev/video{text}" if text.isdecimal() else text), "v4l2"
    elif sys.platform == "darwin":
        address, format = text, "avfoundation"
    else:
        address, format = f"video={text}", "dshow"
    try:
        return Decoder(address, format=format, timeout=timeout, live=True)
    except NotFound as problem:
        hint = "ls /dev/video* shows the cameras of this machine" if format == "v4l2" else None
        known = text if text == address else f"{text} ({address})"
        raise NotFound(f"there is no camera {known}", hint=hint) from problem
