"""An RTSP server (RFC 2326) of one H.264 film over TCP, packed as RFC 6184 says; it can be cut."""

from __future__ import annotations

import re
import socket
import struct
import threading
import time
from fractions import Fraction

import numpy as np

from .films import av, pictures

_MOST = 1200
_SDP = (
    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=test\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\n"
    "a=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1\r\na=control:track0\r\n"
)


def units(shown: list[np.ndarray]) -> list[list[bytes]]:
    """The NAL units of each picture, parameter sets before every key frame."""
    height, width, _ = shown[0].shape
    context = av.CodecContext.create("libx264", "w")
    context.width, context.height, context.pix_fmt = width, height, "yuv420p"
    context.time_base = Fraction(1, 25)
    context.options = {"g": "5", "tune": "zerolatency", "preset": "ultrafast"}
    found = []
    for number, picture in enumerate([*shown, None]):
        frame = None
        if picture is not None:
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = number
        for packet in context.encode(frame):
            found.append([unit for unit in re.split(b"\0\0\0?\1", bytes(packet)) if unit])
    return found


class RtspServer:
    """Serves the film again and again to each connection, which is cut after `shots` pictures."""

    def __init__(self, shots: list[int | None], *, pause: float = 0.02) -> None:
        self._film = units(pictures(20))
        self._shots = shots
        self._pause = pause
        self.played = 0
        self._closed = False
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"rtsp://user:secret@127.0.0.1:{self._socket.getsockname()[1]}/cam"

    def __enter__(self) -> RtspServer:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        self._socket.close()

    def _accept(self) -> None:
        while not self._closed:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as lines:
            try:
                while line := lines.readline().decode():
                    method, address, _ = line.split()
                    headers = {}
                    while field := lines.readline().decode().strip():
                        name, _, value = field.partition(":")
                        headers[name.lower()] = value.strip()
                    connection.sendall(self._reply(method, address, headers["cseq"]))
                    if method == "PLAY":
                        self._play(connection)
                        return
            except (OSError, ValueError):
                return

    def _reply(self, method: str, address: str, number: str) -> bytes:
        head = f"RTSP/1.0 200 OK\r\nCSeq: {number}\r\n"
        if method == "OPTIONS":
            head += "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n"
        if method == "DESCRIBE":
            head += f"Content-Base: {address}/\r\nContent-Type: application/sdp\r\n"
            head += f"Content-Length: {len(_SDP)}\r\n"
            return f"{head}\r\n{_SDP}".encode()
        if method == "SETUP":
            head += "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n"
        if method == "PLAY":
            head += "Session: 1\r\nRange: npt=0.000-\r\n"
        return f"{head}\r\n".encode()

    def _play(self, connection: socket.socket) -> None:
        shots = self._shots[min(self.played, len(self._shots) - 1)]
        self.played += 1
        sequence = number = 0
        while not self._closed and (shots is None or number < shots):
            parts = self._film[number % len(self._film)]
            payloads = [piece for unit in parts for piece in _pieces(unit)]
            for index, payload in enumerate(payloads):
                mark = 0x80 if index == len(payloads) - 1 else 0
                head = struct.pack(">BBHII", 0x80, mark | 96, sequence & 0xFFFF, number * 3600, 7)
                packet = head + payload
                connection.sendall(struct.pack(">cBH", b"$", 0, len(packet)) + packet)
                sequence += 1
            number += 1
            time.sleep(self._pause)


def _pieces(unit: bytes) -> list[bytes]:
    """A NAL unit as it is, or in fragments (FU-A, RFC 6184, 5.8)."""
    if len(unit) <= _MOST:
        return [unit]
    indicator, kind = (unit[0] & 0xE0) | 28, unit[0] & 0x1F
    body = unit[1:]
    parts = [body[start : start + _MOST] for start in range(0, len(body), _MOST)]
    last = len(parts) - 1
    return [
        bytes((indicator, kind | (0x80 if index == 0 else 0) | (0x40 if index == last else 0))) + part
        for index, part in enumerate(parts)
    ]
