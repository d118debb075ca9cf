"""Small films made with PyAV, and servers of streams that can be cut and come back."""

from __future__ import annotations

import base64
import http.server
import io
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ..boxes import Box, pixels_with

av = pytest.importorskip("av", reason="the tests of video need PyAV")

BOUNDARY = b"frame"
LOGIN = "Basic " + base64.b64encode(b"user:se@cret").decode()


def scene(number: int, size: tuple[int, int] = (160, 120)) -> list[Box]:
    """A red rectangle that moves two pixels to the right with each picture."""
    left = 4 + 2 * (number % ((size[0] - 60) // 2))
    return [("red", left, 20, left + 50, 80)]


def pictures(count: int, size: tuple[int, int] = (160, 120)) -> list[np.ndarray]:
    return [pixels_with(scene(number, size), size=size) for number in range(count)]


def write_film(
    path: Path,
    shown: Sequence[np.ndarray],
    *,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    rate: int = 25,
    times: Sequence[float] | None = None,
    turn: int | None = None,
    noise: bool = False,
    faststart: bool = True,
) -> Path:
    """A video of these pictures. `turn`: degrees counter-clockwise of its display matrix.

    `faststart`: whether an .mp4 has its index in front, for who reads it from its start only.
    """
    height, width, _ = shown[0].shape
    grain = np.random.default_rng(0).integers(0, 60, shown[0].shape, np.uint8) if noise else None
    clock = Fraction(1, 1000 if times else rate)
    options = {"movflags": "+faststart"} if path.suffix == ".mp4" and faststart else {}
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=rate, options={"g": "10"})
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        stream.codec_context.time_base = clock
        if turn is not None:
            stream.set_display_rotation(turn)
        for number, picture in enumerate(shown):
            if grain is not None:
                picture = np.roll(grain, 3 * number, 1) + picture // 2
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts = round(times[number] / clock) if times else number
            frame.time_base = clock
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def jpeg(picture: np.ndarray) -> bytes:
    data = io.BytesIO()
    Image.fromarray(picture).save(data, "JPEG", quality=92)
    return data.getvalue()


class MotionJpeg:
    """An HTTP server of a Motion JPEG stream, as IP cameras have it; each connection gets `shots` pictures.

    `shots` of the first connection, the second, …; the last is for all later ones; None: without end. Of each
    `break_every`th picture only the share `kept` is as it should be. With `silent` a connection that has had
    its pictures stays open and says nothing more.
    """

    def __init__(
        self,
        shots: Sequence[int | None],
        *,
        pause: float = 0.01,
        break_every: int = 0,
        kept: float = 0.0,
        silent: bool = False,
    ) -> None:
        self.connections = 0
        self.sent = 0
        self._shots = list(shots)
        self._pause = pause
        self._break = break_every
        self._kept = kept
        self._silent = silent
        self._frames = [jpeg(picture) for picture in pictures(20)]
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/stream"
        self._closed = False

    def __enter__(self) -> MotionJpeg:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        self._server.shutdown()
        self._server.server_close()

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Type", f"multipart/x-mixed-replace;boundary={BOUNDARY.decode()}")
        request.end_headers()
        if "Lavf" not in request.headers.get("User-Agent", ""):
            return  # somebody who only asks what there is
        shots = self._shots[min(self.connections, len(self._shots) - 1)]
        self.connections += 1
        number = 0
        try:
            while not self._closed and (shots is None or number < shots):
                data = self._frames[number % len(self._frames)]
                if self._break and number % self._break == self._break - 1:
                    left = max(30, round(len(data) * self._kept))
                    data = data[:left] + bytes(len(data) - left)
                head = f"Content-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n".encode()
                request.wfile.write(b"--" + BOUNDARY + b"\r\n" + head + data + b"\r\n")
                number += 1
                self.sent += 1
                time.sleep(self._pause)
            while self._silent and not self._closed:
                time.sleep(self._pause)
        except OSError:
            pass


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def web(
    files: dict[str, tuple[int, str, bytes]],
    *,
    redirects: dict[str, str] | None = None,
    asked: list[str] | None = None,
) -> Iterator[str]:
    """A web server of fixed replies: path -> (status, media type, body); its address.

    Paths that start with `/closed` are for who logs in as `user` with the password `se@cret`.
    """

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if asked is not None:
                asked.append(path)
            if path.startswith("/closed") and self.headers.get("Authorization") != LOGIN:
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="camera"')
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            if redirects and path in redirects:
                self.send_response(302)
                self.send_header("Location", redirects[path])
                self.end_headers()
                return
            status, kind, body = files.get(path, (404, "text/plain", b"none"))
            self.send_response(status)
            self.send_header("Content-Type", kind)
            if kind != "image/endless":
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
