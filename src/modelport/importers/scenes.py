"""Pictures of our own in which a detector may find something: a stop sign, a clock and a traffic light.

Detectors trained on photos know such plain things by their shapes, also when they are drawn, so a recorded
case holds objects even where nobody gave photos. Whoever trained on something else gives their own.
"""

from __future__ import annotations

import math

from PIL import Image, ImageDraw

SCENE_SIZES = ((320, 240), (240, 320), (640, 360))
"""Width and height: wide and tall, larger and smaller than most networks take."""


def scene(width: int, height: int) -> Image.Image:
    """The three things before sky and ground, as large as the picture allows."""
    picture = Image.new("RGB", (width, height), (150, 190, 230))
    draw = ImageDraw.Draw(picture)
    draw.rectangle((0, height * 2 // 3, width, height), fill=(110, 120, 90))
    size = min(width, height) / 7
    _sign(draw, width * 0.25, height * 0.4, size)
    _clock(draw, width * 0.55, height * 0.25, size)
    _light(draw, width * 0.82, height * 0.5, size)
    return picture


def _sign(draw: ImageDraw.ImageDraw, x: float, y: float, size: float) -> None:
    draw.rectangle((x - size / 12, y, x + size / 12, y + 4 * size), fill=(120, 120, 120))
    for share, colour in ((1.0, (255, 255, 255)), (0.93, (190, 20, 30))):
        angles = [math.pi / 8 + turn * math.pi / 4 for turn in range(8)]
        radius = size * share
        draw.polygon([(x + radius * math.cos(a), y + radius * math.sin(a)) for a in angles], fill=colour)
    for letter in range(4):
        left = x - size * 0.62 + letter * size * 0.33
        bars = (left, y - size * 0.25, left + size * 0.22, y + size * 0.25)
        draw.rectangle(bars, outline=(255, 255, 255), width=max(1, round(size / 14)))


def _clock(draw: ImageDraw.ImageDraw, x: float, y: float, size: float) -> None:
    face = (x - size, y - size, x + size, y + size)
    draw.ellipse(face, fill=(250, 250, 245), outline=(30, 30, 30), width=max(2, round(size / 10)))
    for hour in range(12):
        across, down = math.sin(hour * math.pi / 6) * size, math.cos(hour * math.pi / 6) * size
        mark = (x + 0.75 * across, y + 0.75 * down, x + 0.87 * across, y + 0.87 * down)
        draw.line(mark, fill=(20, 20, 20), width=max(1, round(size / 20)))
    draw.line((x, y, x + 0.4 * size, y - 0.3 * size), fill=(20, 20, 20), width=max(2, round(size / 12)))
    draw.line((x, y, x - 0.1 * size, y - 0.7 * size), fill=(20, 20, 20), width=max(2, round(size / 16)))


def _light(draw: ImageDraw.ImageDraw, x: float, y: float, size: float) -> None:
    draw.rectangle((x - size / 16, y, x + size / 16, y + 4 * size), fill=(70, 70, 70))
    box = (x - size / 3, y - size, x + size / 3, y + size)
    draw.rounded_rectangle(box, size / 8, fill=(25, 25, 25))
    for place, colour in enumerate(((230, 40, 30), (90, 80, 20), (20, 80, 40))):
        top = y - size * 0.85 + place * size * 0.6
        lamp = (x - size * 0.22, top, x + size * 0.22, top + 0.44 * size)
        draw.ellipse(lamp, fill=colour)
