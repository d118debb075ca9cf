"""Frames from whatever the user names: pictures, folders, video files, cameras and streams.

    open_source("photo.jpg" | "folder" | "*.png" | "film.mp4" | "0" | "rtsp://…" | "http://…")

Reading and decoding run ahead in a thread. A file gives every frame; a live source gives the newest, and
counts those that nobody was ready for.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from pathlib import Path

from ..bundle.manifest import Decode
from ..errors import InputError, NotFound, TooLarge, Unauthorized
from ..files import read_limited
from ..steps.decode import decode_image
from .decoder import Decoder
from .fetch import FETCH_SECONDS, content_type, fetch
from .frames import Frame, Sampling, Source
from .kinds import PICTURE_SUFFIXES, Kind, is_url, local_kind_of, shown
from .live import Live, open_camera

__all__ = ["Frame", "Source", "open_source"]


class Pictures(Source):
    """Files and addresses of pictures, one frame each; `fps` is the rate they are taken to stand for."""

    def __init__(self, name: str, files: list[str], *, fps: float | None, decode: Decode) -> None:
        super().__init__(name)
        self.fps = fps or self.fps
        self.total = len(files)
        self._files = files
        self._decode = decode

    def _frames(self) -> Iterator[Frame]:
        for index, name in enumerate(self._files):
            data = read_picture(name, self._decode.max_bytes)
            try:
                picture = decode_image(data, self._decode)
            except InputError as problem:
                raise type(problem)(f"{shown(name)}: {problem.message}", hint=problem.hint) from problem
            yield Frame(index, index / self.fps, picture, shown(name))


class Video(Source):
    """A video file: every frame, or `fps` of them a second."""

    def __init__(self, address: str, *, fps: float | None = None, decoder: Decoder | None = None) -> None:
        self._decoder = decoder or Decoder(address)
        super().__init__(self._decoder.name)
        self._sampling = Sampling(fps)
        self.fps = min(fps or self._decoder.fps, self._decoder.fps)
        if self._decoder.total:
            self.total = max(1, round(self._decoder.total * self.fps / self._decoder.fps))

    @property
    def corrupt(self) -> int:
        return self._decoder.corrupt

    @property
    def missing(self) -> int:
        return max(0, (self._decoder.announced or 0) - self._decoder.count)

    def _frames(self) -> Iterator[Frame]:
        try:
            for index, seconds, picture in self._decoder.pictures(self._wanted):
                yield Frame(index, seconds, picture, self.name)
        finally:
            self._decoder.close()

    def _wanted(self, seconds: float) -> bool:
        return self._buffer.stopped or self._sampling.wants(seconds)

    def close(self) -> None:
        super().close()
        if self._thread is None:
            self._decoder.close()


def settled_kind(text: str, *, timeout: float = FETCH_SECONDS) -> Kind:
    """As `local_kind_of`; an http(s) address that does not tell by its ending is asked for its media type.

    Raises:
        NotFound, Unavailable: the address does not answer.
    """
    kind = local_kind_of(text)
    if kind == "stream" and text.lower().startswith(("http://", "https://")):
        try:
            return "picture" if content_type(text, seconds=timeout).startswith("image/") else "stream"
        except Unauthorized:
            return "stream"  # cameras may ask for digests, which FFmpeg answers
    return kind


def open_source(
    text: str,
    *,
    fps: float | None = None,
    reconnects: int = 5,
    timeout: float = 10.0,
    decode: Decode | None = None,
) -> Source:
    """Frames of what `text` names; `with open_source(…) as frames: for frame in frames: …`.

    Args:
        text: a picture, a directory or glob of pictures, a video file, a camera's number, or an address:
            http(s) of a picture, a video or a stream (MJPEG, HLS), rtsp, rtmp, …
        fps: at most so many frames a second; for pictures in a directory: the rate they stand for.
        reconnects: how often in a row a cut stream is tried again before it is given up.
        timeout: seconds without data after which a stream counts as cut.
        decode: the limits of pictures.

    Raises:
        NotFound, InputError, TooLarge, Unavailable: it is not there, or not what can be read.
        Unsupported: a video, and PyAV is not installed.
    """
    if fps is not None and not 0 < fps <= 1000:
        raise InputError(f"expected 0 < fps <= 1000, got {fps}")
    kind = settled_kind(text, timeout=timeout)
    if kind == "video":
        return Video(text, fps=fps)
    if kind in ("picture", "pictures"):
        files = pictures_in(text) if kind == "pictures" else [text]
        return Pictures(shown(text), files, fps=fps, decode=decode or Decode())
    if kind == "camera":
        return Live(lambda: open_camera(text, timeout), fps=fps, reconnects=reconnects)
    return _of_address(text, fps, reconnects, timeout)


def _of_address(address: str, fps: float | None, reconnects: int, timeout: float) -> Source:
    """A stream; where http gives one with a length, that is a video file: every frame counts."""

    # TCP: a lost datagram would smear all pictures up to the next key frame. A video file that is cut in
    # the middle is asked for the rest.
    rtsp = address.lower().startswith("rtsp")
    options = {"rtsp_transport": "tcp"} if rtsp else {"reconnect": "1", "reconnect_delay_max": "4"}

    def connect() -> Decoder:
        return Decoder(address, options=dict(options), timeout=timeout, live=True)

    first = [connect()]
    # Servers of recordings tell their length over RTSP too, and still play them at their own pace.
    if first[0].seconds is not None and not rtsp:
        return Video(address, fps=fps, decoder=first[0])
    return Live(lambda: first.pop() if first else connect(), fps=fps, reconnects=reconnects)


def pictures_in(text: str) -> list[str]:
    """The picture files in a directory (at any depth) or of a glob, sorted by name.

    Raises:
        NotFound: there is none.
    """
    if Path(text).is_dir():
        names = [str(path) for path in Path(text).rglob("*") if path.is_file()]
    else:
        names = [name for name in glob.glob(text, recursive=True) if os.path.isfile(name)]
    found = sorted(name for name in names if Path(name).suffix.lower() in PICTURE_SUFFIXES)
    if not found:
        raise NotFound(f"no file in {text!r} has one of the endings {', '.join(sorted(PICTURE_SUFFIXES))}")
    return found


def read_picture(name: str, limit: int) -> bytes:
    """The bytes of a file or of an http(s) address, at most `limit`.

    Raises:
        NotFound, InputError, TooLarge, Unavailable: as it says.
    """
    if is_url(name):
        return fetch(name, limit)
    if os.path.isdir(name):
        raise InputError(f"{name} is a directory; expected a file")
    try:
        return read_limited(name, limit, called=name)
    except TooLarge as problem:
        raise TooLarge(f"{name} is over {limit} bytes, the most this bundle decodes") from problem
