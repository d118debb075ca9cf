"""One colour for each class or track: the same number has the same colour in every picture and run."""

from __future__ import annotations

import contextlib
from functools import lru_cache

from PIL import ImageFont

Colour = tuple[int, int, int]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

# The first seven are those of Okabe and Ito; each further one is the colour that lies farthest, in CIELAB,
# from all before it, for people who see all colours and for those who lack red or green alike.
PALETTE: tuple[Colour, ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
    (0, 0, 255),
    (150, 255, 165),
    (135, 15, 15),
    (105, 105, 255),
    (105, 45, 90),
    (135, 255, 225),
    (60, 45, 165),
    (255, 0, 90),
    (90, 240, 255),
    (240, 165, 90),
    (105, 150, 255),
    (90, 210, 150),
    (45, 45, 210),
)

_SIGNS = frozenset("…–—·•“”‘’€™")
# Pillow's own face holds Latin letters; for the others whatever the system has, by the usual names.
_WIDE_FACES = (
    "NotoSansCJK-Regular.ttc",
    "NotoSansSC-Regular.otf",
    "wqy-microhei.ttc",
    "msyh.ttc",
    "PingFang.ttc",
    "Arial Unicode.ttf",
    "DejaVuSans.ttf",
    "arial.ttf",
)


def colour_of(index: int) -> Colour:
    """The colour of a class or a track, as RGB; repeats after 20."""
    return PALETTE[index % len(PALETTE)]


@lru_cache(maxsize=256)
def text_colour(background: Colour) -> Colour:
    """Black or white, whichever stands out more (contrast ratio of WCAG 2.2, 1.4.3)."""
    red, green, blue = (_linear(value / 255) for value in background)
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return (0, 0, 0) if (luminance + 0.05) / 0.05 >= 1.05 / (luminance + 0.05) else (255, 255, 255)


def font_for(text: str, size: int) -> Font | None:
    """A face of `size` pixels that holds the letters of `text`; None where this machine has none."""
    if all(ord(letter) < 0x250 or letter in _SIGNS for letter in text):
        return _plain(size)
    return next((font for font in _others(size) if all(_holds(font, letter) for letter in text)), None)


@lru_cache(maxsize=32)
def _plain(size: int) -> Font:
    return ImageFont.load_default(size)


@lru_cache(maxsize=32)
def _others(size: int) -> tuple[ImageFont.FreeTypeFont, ...]:
    found = []
    for name in _WIDE_FACES:
        with contextlib.suppress(OSError):
            found.append(ImageFont.truetype(name, size))
    return tuple(found)


@lru_cache(maxsize=4096)
def _holds(font: ImageFont.FreeTypeFont, letter: str) -> bool:
    """Whether a face has a letter: what it has not, it draws as it draws a code point that is no letter."""
    return letter.isspace() or bytes(font.getmask(letter)) != bytes(font.getmask("\uffff"))


def _linear(value: float) -> float:
    return value / 12.92 if value <= 0.04045 else float(((value + 0.055) / 1.055) ** 2.4)
