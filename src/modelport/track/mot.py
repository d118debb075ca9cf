"""The text format of MOTChallenge: one object a line, `frame,id,left,top,width,height,score,…`.

Frames count from 1, and so do pixels: the picture's upper left one is (1, 1). Here both count from 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import msgspec

from ..errors import InputError, NotFound

MAX_ROWS = 10_000_000


class Row(msgspec.Struct, frozen=True):
    """One object in one picture. `frame` counts from 0, `box` is x1 y1 x2 y2 in pixels from 0."""

    frame: int
    track: int
    box: tuple[float, float, float, float]
    score: float
    class_: int = -1
    """As the file has it: 1 is a pedestrian in MOTChallenge's ground truths; -1 for none."""


def read_rows(path: Path) -> list[Row]:
    """All lines of a file.

    Raises:
        NotFound: no such file. InputError: a line that is none, with its number.
    """
    try:
        with path.open(encoding="utf-8") as file:
            return list(_rows(file, path))
    except OSError as problem:
        raise NotFound(f"cannot read {path}: {problem.strerror}") from problem
    except UnicodeDecodeError as problem:
        raise InputError(f"{path} is no text: {problem}") from problem


def by_frame(rows: Iterable[Row], label: str = "object") -> dict[int, list[dict[str, Any]]]:
    """Frame (from 0) -> its objects, as `tensors.readable` gives them."""
    found: dict[int, list[dict[str, Any]]] = {}
    for row in rows:
        each = {"label": label, "class": max(row.class_, 0), "score": row.score, "box": list(row.box)}
        found.setdefault(row.frame, []).append(each)
    return found


def write_rows(file: TextIO, frame: int, tracks: Sequence[Mapping[str, Any]]) -> None:
    """The tracks of one picture (`frame` from 0), as MOTChallenge wants results."""
    for each in tracks:
        x1, y1, x2, y2 = each["box"]
        file.write(
            f"{frame + 1},{each['track']},{x1 + 1:.2f},{y1 + 1:.2f},{x2 - x1:.2f},{y2 - y1:.2f},"
            f"{each['score']:.4f},-1,-1,-1\n"
        )


def _rows(lines: Iterable[str], path: Path) -> Iterator[Row]:
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        if number > MAX_ROWS:
            raise InputError(f"{path} has more than {MAX_ROWS} lines")
        yield _row(text, path, number)


def _row(text: str, path: Path, number: int) -> Row:
    parts = text.replace(";", ",").split(",") if "," in text or ";" in text else text.split()
    try:
        values = [float(part) for part in parts]
    except ValueError:
        values = []
    if len(values) < 6 or not all(map(math.isfinite, values)):
        raise InputError(
            f"expected frame,id,left,top,width,height[,score,…], got {text[:120]!r}",
            at=f"{path}:{number}",
        )
    frame, track, left, top, width, height = values[:6]
    if frame < 1 or width <= 0 or height <= 0:
        raise InputError(
            f"expected a frame from 1 and a width and height above 0, got {text[:120]!r}",
            at=f"{path}:{number}",
        )
    score = values[6] if len(values) > 6 else 1.0
    kind = int(values[7]) if len(values) > 7 else -1
    box = (left - 1, top - 1, left - 1 + width, top - 1 + height)
    return Row(int(frame) - 1, int(track), box, score, kind)
