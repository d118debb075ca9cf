"""Pictures to an H.264 .mp4 that browsers play."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from PIL import Image

from ..errors import InputError, Unsupported
from ..tensors import Array
from .av import load_av
from .whole import new_part

_CLOCK = 90_000
"""Ticks a second of a picture's time, as in MPEG."""
_ENCODERS = ("libx264", "libopenh264", "h264")


class VideoWriter:
    """A video that appears under its name when it is complete, and not before.

    The pictures are written beside the final name, under one that starts with a dot and ends with
    `.part.mp4`; `close` renames it. After an error, or without `close`, no file of that name is there.
    """

    def __init__(self, path: str | os.PathLike[str], fps: float, width: int, height: int) -> None:
        """Open a video of `width` x `height` pixels that shows `fps` pictures a second.

        Odd sizes are made even by repeating the last row and column: H.264 with 4:2:0 colours has no
        other. A picture of another size is fitted in, with black bars.

        Raises:
            Unsupported: PyAV is not installed, or has no encoder of H.264.
            InputError: a size or a rate that is none, or that the encoder refuses.
            OSError: the file cannot be made.
        """
        if width < 1 or height < 1 or not 0 < fps <= 1000:
            raise InputError(f"expected a size in pixels and 0 < fps <= 1000, got {width} x {height}, {fps}")
        self.path = Path(path)
        self.frames = 0
        self.fps = float(fps)
        self._size = (width, height)
        self._last = -1
        self._av = load_av()
        encoder = self._encoder()
        self._part: Path | None = new_part(self.path, ".part.mp4")
        with self._or_nothing():
            self._open(encoder)

    def _encoder(self) -> str:
        for name in _ENCODERS:
            with contextlib.suppress(ValueError):  # PyAV's UnknownCodecError is one
                self._av.Codec(name, "w")
                return name
        raise Unsupported("this build of PyAV has no encoder of H.264", hint="install PyAV's own wheel")

    def _open(self, encoder: str) -> None:
        self._container: Any = self._av.open(
            str(self._part), "w", format="mp4", options={"movflags": "+faststart"}
        )
        options = {"preset": "veryfast", "crf": "23"} if encoder == "libx264" else {}
        rate = Fraction(self.fps).limit_denominator(1001)
        self._stream: Any = self._container.add_stream(encoder, rate=rate, options=options)
        width, height = self._size
        self._stream.width, self._stream.height = width + width % 2, height + height % 2
        self._stream.pix_fmt = "yuv420p"
        context = self._stream.codec_context
        context.time_base = Fraction(1, _CLOCK)
        # Browsers take video without these for BT.709 or BT.601 by its size: the colours would shift.
        context.color_primaries = context.color_trc = context.colorspace = 1  # BT.709 (ISO/IEC 23091-2)
        context.color_range = 1  # 16 to 235

    def write(self, picture: Array, seconds: float | None = None) -> None:
        """Append a picture, uint8[H, W, 3] in RGB.

        Args:
            picture: the pixels; they may be changed as soon as this returns.
            seconds: when it is shown, from the video's start; without it, 1 / fps after the one before.
                A time that is not after the last one's is moved right behind it.

        Raises:
            OSError: the disk is full or gone; the unfinished file was removed.
        """
        if self._part is None:
            raise InputError(f"{self.path.name} is closed: it takes no more pictures")
        ticks = round(seconds * _CLOCK) if seconds is not None else self._last + self._step()
        ticks = max(ticks, self._last + 1, 0)
        with self._or_nothing():
            frame = self._av.VideoFrame.from_ndarray(self._fitted(picture), format="rgb24")
            frame = frame.reformat(format="yuv420p", dst_colorspace=1, dst_color_range=1)
            frame.pts, frame.time_base = ticks, Fraction(1, _CLOCK)
            self._container.mux(self._stream.encode(frame))
        self._last = ticks
        self.frames += 1

    def _step(self) -> int:
        return round(_CLOCK / self.fps) if self.frames else 1

    def close(self) -> None:
        """Write what is left and give the file its name. A video without a picture leaves no file.

        Raises:
            OSError: the disk is full or gone; the unfinished file was removed.
        """
        if self._part is None:
            return
        if not self.frames:
            self.abandon()
            return
        with self._or_nothing():
            self._container.mux(self._stream.encode(None))
            self._container.close()
            self._part.replace(self.path)
        self._part = None

    def abandon(self) -> None:
        """Stop without a file. Harmless after `close`."""
        if self._part is None:
            return
        with contextlib.suppress(Exception):
            self._container.close()
        self._part.unlink(missing_ok=True)
        self._part = None

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abandon()

    @contextlib.contextmanager
    def _or_nothing(self) -> Iterator[None]:
        """After any error there is no file; FFmpeg's own errors are told in words."""
        try:
            yield
        except BaseException as problem:
            self.abandon()
            if isinstance(problem, self._av.error.FFmpegError) and not isinstance(problem, OSError):
                what = f"{self.path.name} of {self._size[0]} x {self._size[1]} pixels"
                raise InputError(f"{what} cannot be encoded: {problem.strerror}") from problem
            raise

    def _fitted(self, picture: Array) -> Array:
        """The picture in the video's size, with even sides."""
        width, height = self._size
        if picture.shape[:2] != (height, width):
            picture = _letterboxed(picture, width, height)
        if width % 2 or height % 2:
            picture = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        return np.ascontiguousarray(picture)


def _letterboxed(picture: Array, width: int, height: int) -> Array:
    """The whole picture as large as it fits into width x height, on black."""
    scale = min(width / picture.shape[1], height / picture.shape[0])
    inner = max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale))
    image = Image.new("RGB", (width, height))
    image.paste(Image.fromarray(picture).resize(inner), ((width - inner[0]) // 2, (height - inner[1]) // 2))
    return np.asarray(image)
