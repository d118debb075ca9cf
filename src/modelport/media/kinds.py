"""What a name means: by its form, or by a file's first bytes. Imports nothing heavy."""

from __future__ import annotations

import glob
from pathlib import Path
from typing import Literal
from urllib.parse import SplitResult, urlsplit, urlunsplit

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".m2ts", ".wmv", ".flv"}
    | {".3gp", ".ogv", ".mjpeg", ".mjpg", ".h264", ".264", ".h265", ".hevc", ".m3u8"}
)

Kind = Literal["picture", "pictures", "video", "stream", "camera"]


def kind_of(text: str) -> Kind:
    """What a name is, by its form alone: nothing is opened or asked for."""
    if is_url(text):
        parts = parts_of(text)
        still = parts.scheme in ("http", "https") and Path(parts.path).suffix.lower() in PICTURE_SUFFIXES
        return "picture" if still else "stream"
    path = Path(text)
    if path.is_dir() or (not path.exists() and glob.has_magic(text)):
        return "pictures"
    if (text.isdecimal() and not path.exists()) or text.startswith("/dev/video"):
        return "camera"
    return "video" if path.suffix.lower() in VIDEO_SUFFIXES else "picture"


def local_kind_of(text: str) -> Kind:
    """As `kind_of`, but a file whose ending says nothing is told by its first bytes."""
    kind = kind_of(text)
    if kind != "picture" or is_url(text) or Path(text).suffix.lower() in PICTURE_SUFFIXES:
        return kind
    try:
        with open(text, "rb") as file:
            head = file.read(12)
    except (OSError, ValueError):
        return kind
    return "video" if _starts_a_video(head) else kind


def _starts_a_video(head: bytes) -> bool:
    """MP4 and MOV, Matroska and WebM, AVI, FLV, MPEG."""
    if head[4:8] == b"ftyp":
        return head[8:12] not in (b"heic", b"heix", b"mif1", b"avif")
    return head.startswith((b"\x1aE\xdf\xa3", b"FLV\1", b"\0\0\1\xba")) or (
        head.startswith(b"RIFF") and head[8:12] == b"AVI "
    )


def is_url(text: str) -> bool:
    """Whether a text is an address that something may be fetched or streamed from."""
    scheme, separator, rest = text.partition("://")
    return bool(separator and rest and scheme.isalnum() and len(scheme) > 1)


def shown(text: str) -> str:
    """An address without its user name and password, for messages and file names; other text as it is."""
    if not is_url(text):
        return text
    parts = parts_of(text)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, parts.query, ""))


def parts_of(address: str) -> SplitResult:
    """The parts of an address; one that cannot be taken apart has a scheme alone."""
    try:
        return urlsplit(address)
    except ValueError:
        return SplitResult(address.partition("://")[0].lower(), "", "", "", "")
