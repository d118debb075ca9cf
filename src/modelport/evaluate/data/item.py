"""What every reader of data gives: items with their truths. Knows no model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from ...errors import InputError
from ...files import read_limited
from ...tensors import Array

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"})

Word = str | int | float
"""A class as the data names it: a name, or an index."""


class Boxes(msgspec.Struct, frozen=True, eq=False):
    """The objects of one picture, in `unit`: pixels, or shares of its width and height."""

    boxes: Array
    """float64[n, 4]: x1 y1 x2 y2"""
    classes: Array
    """int64[n]: indices into the data's `names`"""
    crowd: Array
    """bool[n]"""
    unit: Literal["pixels", "share"] = "pixels"

    def in_pixels(self, width: int, height: int) -> Boxes:
        """The same boxes in the pixels of a picture that is `width` x `height`."""
        if self.unit == "pixels":
            return self
        scale = np.array([width, height, width, height], np.float64)
        return Boxes(self.boxes * scale, self.classes, self.crowd)


class Item(msgspec.Struct, frozen=True, eq=False):
    """One thing to answer, and the right answer."""

    name: str
    """Within the data: a path below its folder, or a row's number."""
    source: Path | bytes | dict[str, Array]
    """A file, an encoded row or text, or one item's arrays without a batch axis."""
    truth: Any
    """Word, tuple of Words (any of them is right), float, or Boxes."""


class Data(msgspec.Struct, frozen=True, eq=False):
    """Items, and what the words in their truths can be."""

    name: str
    kind: Literal["classes", "boxes", "targets"]
    """Pictures with a class, pictures with boxes, arrays with a target."""
    items: Sequence[Item]
    names: tuple[str, ...] = ()
    """The data's own class names, where it lists them."""
    notes: tuple[str, ...] = ()


def read_text(path: Path, limit: int = 1 << 30) -> str:
    """A file's text in UTF-8, with or without a byte order mark.

    Raises:
        NotFound, TooLarge: as `read_limited`. InputError: not UTF-8.
    """
    try:
        return read_limited(path, limit).decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise InputError(f"not UTF-8: {problem}", at=str(path), hint="save it as UTF-8") from problem


def pictures_below(folder: Path, *, deep: bool = True) -> list[Path]:
    """The picture files in a folder, sorted; hidden files are none."""
    found = folder.rglob("*") if deep else folder.iterdir()
    return sorted(
        path
        for path in found
        if path.suffix.lower() in PICTURE_SUFFIXES and not path.name.startswith(".") and path.is_file()
    )


def some(names: Sequence[str], most: int = 5) -> str:
    """The first few names, and how many more there are."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


Reader = Callable[[Path], Data]
