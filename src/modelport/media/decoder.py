"""One opened video file, stream or camera: its pictures, upright and in RGB, with their times."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..bundle.manifest import Decode
from ..errors import InputError, ModelportError, NotFound, TooLarge, Unavailable
from ..tensors import Array
from .av import load_av
from .kinds import is_url, shown

MAX_ERRORS = 500
"""Damaged packets in a row after which a video is taken for ended."""
_DEFAULT_FPS = 25.0
_AGAIN_SECONDS = 0.005


class Decoder:
    """Reads one video stream from first to last picture. Not thread safe; close it."""

    def __init__(
        self,
        address: str,
        *,
        format: str | None = None,
        options: dict[str, str] | None = None,
        timeout: float | None = None,
        live: bool = False,
    ) -> None:
        """Open `address`.

        Args:
            address: a path or an address that FFmpeg reads.
            format: FFmpeg's name of the container or device; None: told from the content.
            options: FFmpeg's own.
            timeout: seconds without data after which opening or reading fails; None: none.
            live: decode for the shortest delay instead of the most pictures a second.

        Raises:
            NotFound, Unavailable, InputError: there is nothing, no connection, or no video in it.
            TooLarge: its pictures have more pixels than are decoded.
        """
        self._av = load_av()
        self._timeout = timeout
        self.name = shown(address)
        target = address if is_url(address) or format else f"file:{address}"
        try:
            self._container: Any = self._av.open(
                target, format=format, options=options or {}, timeout=timeout, metadata_errors="replace"
            )
        except (self._av.error.FFmpegError, OSError, ValueError) as problem:
            raise self._refused(problem, address) from problem
        try:
            self._stream: Any = self._chosen()
        except BaseException:
            self.close()
            raise
        self.corrupt = 0
        """Packets and pictures that could not be decoded whole; they were skipped."""
        self.fps = _rate(self._stream)
        """Pictures a second, on the average."""
        self.seconds: float | None = (
            self._container.duration / self._av.time_base if self._container.duration else None
        )
        """How long it is; None: it does not say, as a live stream."""
        self._lenient = self._told_of_damage()
        self._came_whole = False
        # Threads that decode a frame each would hold back as many frames, and tell their errors as late.
        at_once = self._lenient is not None or (live and self.seconds is None)
        self._stream.thread_type = "SLICE" if at_once else "AUTO"
        self.announced: int | None = self._stream.frames or None
        """How many pictures its index lists; None: it has none."""
        self.total: int | None = self.announced or (round(self.seconds * self.fps) if self.seconds else None)
        """About how many pictures it has."""
        self.count = 0
        """Pictures that came so far, the damaged ones among them."""

    def close(self) -> None:
        """Free it."""
        self._container.close()

    def pictures(self, wanted: Callable[[float], bool]) -> Iterator[tuple[int, float, Array]]:
        """(number, seconds from the start, uint8[H, W, 3]) of each picture whose time is `wanted`.

        Raises:
            Unavailable: no data came in time, or the connection was lost.
        """
        first: float | None = None
        last = 0.0
        for number, frame in enumerate(self._frames()):
            self.count = number + 1
            if frame is None:
                continue
            shown_at = frame.time
            if shown_at is None:
                shown_at = (first or 0.0) + number / self.fps
            if first is None:
                first = shown_at
            if shown_at - first < last:  # recordings that were put together start anew
                first = shown_at - last - 1 / self.fps
            seconds = last = shown_at - first
            if wanted(seconds):
                yield number, seconds, _upright(frame)

    def _frames(self) -> Iterator[Any]:
        """Decoded frames; None for each that was damaged."""
        errors = 0
        silent: float | None = None
        packets = self._container.demux(self._stream)
        while errors < MAX_ERRORS:
            try:
                packet = next(packets, None)
                if packet is None:
                    return
                frames = self._decoded(packet)
                silent = None
            except self._av.error.EOFError:
                return
            except BlockingIOError as problem:
                # A camera without a new picture: AVFoundation says so where others wait.
                silent = time.monotonic() if silent is None else silent
                if self._timeout is not None and time.monotonic() - silent > self._timeout:
                    raise Unavailable(f"{self.name} gave no picture for {self._timeout:g} s") from problem
                time.sleep(_AGAIN_SECONDS)
                packets = self._container.demux(self._stream)
                continue
            except OSError as problem:
                hint = None
                if not self.count and self.seconds is not None and is_url(self.name):
                    hint = "from a server without byte ranges a video needs its index in front (faststart)"
                words = f"{self.name} was cut after {self.count} frames: {problem.strerror or problem}"
                raise Unavailable(words, hint=hint) from problem
            except self._av.error.FFmpegError:
                # A generator that raised is at its end: the next one goes on behind the damage.
                packets = self._container.demux(self._stream)
                errors += 1
                self.corrupt += 1
                yield None
                continue
            for frame in frames:
                errors = 0
                if frame.is_corrupt:
                    self.corrupt += 1
                    yield None
                else:
                    yield frame

    def _told_of_damage(self) -> Any:
        """Have damage to a Motion JPEG told; another decoder, which passes over it. None: other codecs.

        As FFmpeg has it by itself, what is left of a JPEG is a picture that is grey from there on. In codecs
        whose pictures lean on one another it mends better than what is left out would be mended.
        """
        if self._stream.codec_context.name != "mjpeg":
            return None
        self._stream.codec_context.options = {"err_detect": "explode"}
        return self._av.CodecContext.create("mjpeg", "r")

    def _decoded(self, packet: Any) -> list[Any]:
        """The frames of a packet. While no JPEG was without fault, as with some cameras, faults pass."""
        try:
            frames: list[Any] = packet.decode()
        except self._av.error.FFmpegError:
            if self._lenient is None or self._came_whole:
                raise
            return list(self._lenient.decode(packet))
        self._came_whole = self._came_whole or bool(frames)
        return frames

    def _chosen(self) -> Any:
        streams = [s for s in self._container.streams.video if s.codec_context is not None]
        if not streams:
            raise InputError(f"{self.name} holds no video that can be decoded")
        stream = self._container.streams.best("video") or streams[0]
        # PyAV 18 dies on a stream whose parameters could not be read, so such a one is never decoded.
        if stream.codec_context is None or not stream.codec_context.width:
            raise InputError(f"the video in {self.name} is damaged: it does not tell its size")
        pixels = stream.codec_context.width * stream.codec_context.height
        if pixels > Decode().max_pixels:
            raise TooLarge(f"the pictures of {self.name} have {pixels} pixels each")
        return stream

    def _refused(self, problem: Exception, address: str) -> ModelportError:
        words = getattr(problem, "strerror", None) or str(problem)
        error = self._av.error
        if isinstance(problem, (error.FileNotFoundError, error.HTTPNotFoundError)):
            return NotFound(f"there is no {self.name}: {words}")
        if isinstance(problem, (error.InvalidDataError, error.EOFError, IsADirectoryError)):
            if is_url(address) and not address.lower().startswith("http"):
                return Unavailable(f"{self.name} gives no stream: {words}")
            complete = "is it complete? A recording that was cut off has no index; remux it"
            hint = None if is_url(address) else complete
            return InputError(f"{self.name} is no video that can be read: {words}", hint=hint)
        if is_url(address) or isinstance(problem, OSError):
            return Unavailable(f"cannot open {self.name}: {words}")
        return InputError(f"cannot open {self.name}: {words}")


def _rate(stream: Any) -> float:
    for rate in (stream.average_rate, stream.guessed_rate, stream.base_rate):
        if rate and 0 < float(rate) <= 240:
            return float(rate)
    return _DEFAULT_FPS


def _upright(frame: Any) -> Array:
    """uint8[H, W, 3] as it is to be shown: the display matrix of phone videos applied."""
    picture: Array = frame.to_ndarray(format="rgb24")
    data = next((bytes(side) for side in frame.side_data if side.type.name == "DISPLAYMATRIX"), None)
    return picture if data is None or len(data) < 36 else turned(picture, struct.unpack("=9i", data[:36]))


def turned(picture: Array, matrix: tuple[int, ...]) -> Array:
    """A picture, uint8[H, W, 3], after the quarter turns and mirrorings of a display matrix.

    The matrix is that of ISO/IEC 14496-12, 8.2.2: x' = a x + c y, y' = b x + d y. One that is no
    combination of quarter turns and mirrorings changes nothing.
    """
    a, b, c, d = matrix[0], matrix[1], matrix[3], matrix[4]
    if a == d == 0 and b and c:
        picture = picture.transpose(1, 0, 2)
        across, down = c, b
    elif b == c == 0 and a and d:
        across, down = a, d
    else:
        return picture
    if across < 0:
        picture = picture[:, ::-1]
    if down < 0:
        picture = picture[::-1]
    return np.ascontiguousarray(picture)
