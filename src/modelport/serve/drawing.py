"""Answers drawn on the caller's own picture, as a JPEG or PNG: beside the event loop, a few at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import Any, Final

import msgspec

from ..bundle.manifest import Decode, Manifest
from ..errors import QueueFull, TooLarge

JPEG: Final = "image/jpeg"
PNG: Final = "image/png"
KINDS: Final = (JPEG, PNG)
MAX_PIXELS = 36_000_000
"""Of a picture that is drawn on: it is held about four times over, 3 bytes a pixel."""
_THREADS = 2
_WAITING = 16
_QUALITY = 90


def draws(manifest: Manifest) -> bool:
    """Whether a bundle's answer can be drawn on the picture it was asked with."""
    return manifest.task == "object-detection" and manifest.decode.kind == "image"


class Drawing:
    """Draws for one server; what does not fit in its short queue is refused."""

    def __init__(self, threads: int = _THREADS, waiting: int = _WAITING) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="modelport-draw")
        self._most = threads + waiting
        self._under_way = 0

    async def __call__(
        self, data: bytes, decode: Decode, detections: Sequence[Mapping[str, Any]], kind: str
    ) -> bytes:
        """The picture's file with the detections drawn on it.

        Args:
            data: the encoded picture that was answered.
            decode: how the bundle reads it; boxes are in the pixels that this gives.
            kind: one of `KINDS`.

        Raises:
            TooLarge: more than `MAX_PIXELS`. QueueFull: too many are drawn already.
        """
        if self._under_way >= self._most:
            raise QueueFull(f"{self._under_way} pictures are being drawn already", hint="ask for JSON")
        self._under_way += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._pool, draw, data, decode, detections, kind)
        finally:
            self._under_way -= 1


def draw(data: bytes, decode: Decode, detections: Sequence[Mapping[str, Any]], kind: str) -> bytes:
    """As `Drawing`, at once and here."""
    # A server that nobody asks for pictures does without Pillow.
    from PIL import Image

    from ..media.draw import draw_detections
    from ..steps.decode import decode_image

    bounded = msgspec.structs.replace(decode, max_pixels=min(decode.max_pixels, MAX_PIXELS))
    try:
        picture = decode_image(data, bounded)
    except TooLarge as problem:
        raise TooLarge(
            f"{problem.message}, to be drawn on", hint="ask for JSON, or send a smaller picture"
        ) from problem
    file = BytesIO()
    drawn = Image.fromarray(draw_detections(picture, detections))
    if kind == JPEG:
        drawn.save(file, "JPEG", quality=_QUALITY)
    else:
        drawn.save(file, "PNG", compress_level=1)
    return file.getvalue()
