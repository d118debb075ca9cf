"""Answers drawn on pictures: boxes with labels, trails, lines, zones and a caption.

Sizes follow the picture, colours the class (or the track), and every label stays inside the picture,
apart from the others as far as there is room.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..tensors import Array
from .palette import Colour, Font, colour_of, font_for, text_colour

__all__ = ["Canvas", "colour_of", "draw_caption", "draw_detections"]

Point = tuple[float, float]
Box = tuple[float, float, float, float]

_MAX_LABEL = 80
_DARK: Colour = (16, 16, 16)
_LIGHT: Colour = (255, 255, 255)


def draw_detections(
    picture: Array,
    detections: Sequence[Mapping[str, Any]],
    *,
    caption: str = "",
    trails: Mapping[int, Sequence[Point]] | None = None,
) -> Array:
    """A copy of `picture` with the detections drawn on it.

    Args:
        picture: uint8[H, W, 3], RGB.
        detections: what `tensors.readable` gives: `label`, `class`, `score`, `box` (x1 y1 x2 y2, pixels),
            and `track` where the object is followed.
        caption: text for the upper left corner; its lines are kept.
        trails: track -> the points (x, y) where it was, oldest first.

    Returns:
        uint8[H, W, 3].
    """
    canvas = Canvas(picture)
    if trails:
        canvas.trails(trails)
    if caption:
        canvas.caption(caption)
    canvas.detections(detections)
    return canvas.picture()


def draw_caption(picture: Array, caption: str) -> Array:
    """A copy of `picture`, uint8[H, W, 3], with lines of text in its upper left corner."""
    canvas = Canvas(picture)
    canvas.caption(caption)
    return canvas.picture()


class Canvas:
    """A picture that is drawn on. Labels avoid what was written before them, so captions come first."""

    def __init__(self, picture: Array) -> None:
        """Takes a copy of `picture`, uint8[H, W, 3]."""
        # Pillow may read the array where it lies: what is drawn must not reach the caller's own.
        self._image = Image.fromarray(picture).copy()
        self._draw = ImageDraw.Draw(self._image, "RGBA")
        self.width, self.height = self._image.size
        scale = (self.width + self.height) / 2
        # A single pixel between its dark rims shows little of its colour.
        self.stroke = max(round(scale * 0.0028), 2 if scale > 400 else 1)
        """The width of a box's line, in pixels."""
        self.text_size = min(max(11, round(scale * 0.02)), max(8, self.height // 4))
        """The height of a letter's square, in pixels."""
        self._taken: list[Box] = []

    def picture(self) -> Array:
        """What was drawn: uint8[H, W, 3]."""
        return np.asarray(self._image)

    def detections(self, detections: Sequence[Mapping[str, Any]]) -> None:
        """Boxes and their labels; the best are written first and lie on top."""
        ordered = sorted(detections, key=lambda d: -float(d.get("score", 0)))
        for found in reversed(ordered):
            self.box(found["box"], _colour(found))
        for found in ordered:
            self.label(found["box"], self._readable(found), _colour(found))

    def box(self, box: Sequence[float], colour: Colour) -> None:
        """A rectangle (x1 y1 x2 y2) with a dark edge on both sides, to be seen on its own colour too."""
        left, top, right, bottom = self._inside(box)
        for grow, fill, width in ((1, (*_DARK, 150), self.stroke + 2), (0, (*colour, 255), self.stroke)):
            edges = (left - grow, top - grow, max(left, right) + grow, max(top, bottom) + grow)
            self._draw.rectangle(edges, outline=fill, width=width)

    def label(self, box: Sequence[float], text: str, colour: Colour) -> None:
        """A line of text at a box, where nothing else is written if there is such a place."""
        text = text.replace("\n", " ")
        if len(text) > _MAX_LABEL:
            text = text[: _MAX_LABEL - 1] + "…"
        font = self._font(text)
        text = self._fitted(text, font)
        width, height = self._size_of(text, font)
        place = self._place(self._inside(box), width, height)
        self._taken.append(place)
        self._draw.rectangle(place, fill=(*colour, 255))
        self._write(place, text, font, text_colour(colour))

    def trails(self, trails: Mapping[int, Sequence[Point]]) -> None:
        """The way of each track, in its colour; older stretches are fainter."""
        for track, points in trails.items():
            colour = colour_of(track)
            steps = max(1, len(points) - 1)
            for step in range(len(points) - 1):
                strength = 70 + 185 * (step + 1) // steps
                ends = [*points[step], *points[step + 1]]
                self._draw.line(ends, fill=(*colour, strength), width=self.stroke + 1)

    def line(self, points: Sequence[Point], colour: Colour, text: str = "") -> None:
        """An open line through `points`, with a label at its first."""
        flat = [value for point in points for value in point]
        self._draw.line(flat, fill=(*_DARK, 150), width=self.stroke + 3, joint="curve")
        self._draw.line(flat, fill=(*colour, 255), width=self.stroke + 1, joint="curve")
        if text and points:
            x, y = points[0]
            self.label((x, y, x, y), text, colour)

    def zone(self, points: Sequence[Point], colour: Colour, text: str = "") -> None:
        """A polygon with a light fill, and a label at its first corner."""
        corners = [(float(x), float(y)) for x, y in points]
        if len(corners) > 2:
            self._draw.polygon(corners, fill=(*colour, 48))
        self.line([*corners, *corners[:1]], colour, text)

    def caption(self, text: str) -> None:
        """Lines of text on a dark ground in the upper left corner."""
        for place, line, font in self._lines(text):
            self._draw.rectangle(place, fill=(*_DARK, 190))
            self._write(place, line, font, _LIGHT)
            self._taken.append(place)

    def leave_room(self, text: str) -> None:
        """Keep labels off the place of a caption that is written later, over what is drawn till then."""
        self._taken += [place for place, _, _ in self._lines(text)]

    def _lines(self, text: str) -> Iterator[tuple[Box, str, Font]]:
        """A caption's lines that fit into the picture, and where each goes."""
        top = 0.0
        for line in filter(None, text.split("\n")):
            font = self._font(line)
            line = self._fitted(line, font)
            width, height = self._size_of(line, font)
            yield (0.0, top, width, top + height), line, font
            top += height
            if top + height > self.height:
                return

    def _readable(self, found: Mapping[str, Any]) -> str:
        """The label's text; with the class's number where no face of this machine has its letters."""
        text = label_of(found)
        if font_for(text, self.text_size) is None and "class" in found:
            return label_of({**found, "label": f"class {found['class']}"})
        return text

    def _inside(self, box: Sequence[float]) -> Box:
        left, top, right, bottom = (float(value) for value in box)
        across, down = self.width - 1, self.height - 1
        return (_clip(left, across), _clip(top, down), _clip(right, across), _clip(bottom, down))

    def _font(self, text: str) -> Font:
        return font_for(text, self.text_size) or font_for("", self.text_size) or ImageFont.load_default()

    def _padding(self) -> int:
        return max(2, self.text_size // 5)

    def _size_of(self, text: str, font: Font) -> tuple[float, float]:
        """Width and height of a label with its margin."""
        return self._draw.textlength(text, font=font) + 2 * self._padding(), self.text_size * 1.25 + 2

    def _fitted(self, text: str, font: Font) -> str:
        """The text, cut where it is wider than the picture."""
        while len(text) > 2 and self._size_of(text, font)[0] > self.width:
            text = text[: max(1, int(len(text) * 0.9) - 1)].rstrip("…") + "…"
        return text

    def _place(self, box: Box, width: float, height: float) -> Box:
        """Where a label of this size goes: above the box, in it, below, or further down until it is free."""
        left, top, right, bottom = box
        starts = [(left, top - height), (right - width, top - height), (left, top), (right - width, top)]
        starts += [(left, bottom), (left, bottom - height), (right - width, bottom - height)]
        starts += [(left, top + step * height) for step in range(1, 12)]
        starts += [(left, top - step * height) for step in range(2, 6)]
        first: Box | None = None
        for x, y in starts:
            place = self._kept(x, y, width, height)
            first = first or place
            if not any(_overlap(place, taken) for taken in self._taken):
                return place
        return first or (left, top, left + width, top + height)

    def _kept(self, x: float, y: float, width: float, height: float) -> Box:
        """The place moved into the picture."""
        x, y = _clip(x, self.width - 1 - width), _clip(y, self.height - 1 - height)
        return (x, y, x + width, y + height)

    def _write(self, place: Box, text: str, font: Font, colour: Colour) -> None:
        middle = (place[0] + self._padding(), (place[1] + place[3]) / 2)
        self._draw.text(middle, text, font=font, fill=(*colour, 255), anchor="lm")


def label_of(found: Mapping[str, Any]) -> str:
    """What a detection's label says: `person 0.82`, with its track in front: `#3 person 0.82`."""
    text = str(found.get("label", found.get("class", "")))
    if "score" in found:
        text += f" {float(found['score']):.2f}"
    return f"#{found['track']} {text}" if found.get("track") is not None else text


def _colour(found: Mapping[str, Any]) -> Colour:
    track = found.get("track")
    return colour_of(int(track if track is not None else found.get("class", 0)))


def _clip(value: float, most: float) -> float:
    return min(max(value, 0.0), max(most, 0.0))


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
