"""Files that travel as base64, where a protocol carries only text."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any

from ..errors import InputError

_ALPHABET = re.compile(rb"[A-Za-z0-9+/]{24}")
PICTURES = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF", b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"BM")
"""How files with pictures begin; no JSON text does."""


def decode_base64(text: Any, at: str) -> bytes:
    """Base64 text, with or without a `data:` prefix.

    Raises:
        InputError: not a string, or not base64.
    """
    if not isinstance(text, str):
        raise InputError("expected base64 text", at=at)
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as problem:
        raise InputError(f"not base64: {problem}", at=at) from problem


def is_base64_of_picture(data: bytes) -> bool:
    """Whether `data` is base64, with or without a `data:` prefix, of what begins as pictures do."""
    start = bytes(data[:256])
    if start.startswith(b"data:image/"):
        return b";base64," in start
    found = _ALPHABET.match(start)
    return found is not None and base64.b64decode(found[0]).startswith(PICTURES)
