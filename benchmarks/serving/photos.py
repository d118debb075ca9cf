"""Pictures like photographs: smooth shapes, edges and grain, with JPEGs as large as a camera's."""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from .limit import Limit, Pictures, open_session
from .measure import OfWork
from .models import MODELS
from .peers import tutorial
from .places import made


@cache
def photo(width: int, height: int, seed: int) -> bytes:
    """A JPEG of quality 90; about 2 bits a pixel, as photographs have."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (9, 12, 3), np.uint8)
    image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    for _ in range(40):
        x, y = rng.integers(0, width), rng.integers(0, height)
        far = rng.integers(4, max(5, width // 5), 2)
        colour = tuple(int(value) for value in rng.integers(0, 256, 3))
        draw.ellipse((int(x), int(y), int(x + far[0]), int(y + far[1])), fill=colour)
    image = image.filter(ImageFilter.GaussianBlur(width / 1000))
    grain = rng.normal(0, 5, (height, width, 1))
    pixels = np.clip(np.asarray(image, np.float32) + grain, 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=90)
    return file.getvalue()


def photo_files(photos: Sequence[bytes]) -> tuple[Path, ...]:
    """The same in files, for processes that read them."""
    paths = tuple(made("photos", f"{index}-{len(data)}.jpg") for index, data in enumerate(photos))
    for path, data in zip(paths, photos, strict=True):
        path.write_bytes(data)
    return paths


def answers(photos: Sequence[bytes]) -> list[list[tuple[str, float]]]:
    """What the convolutional network says to each, worked out with Pillow and NumPy by hand."""
    session = open_session(MODELS["conv"].path, 1)
    found = [tutorial.answer(session, data) for data in photos]
    return [[(each["label"], each["score"]) for each in answer] for answer in found]


def picture_limit(limit: Limit, photos: Sequence[bytes]) -> OfWork:
    """The in-process limit with decoding: whichever of the two ways is faster here."""
    works = [Pictures(photo_files(photos), by) for by in ("tutorial", "pipeline")]
    return OfWork(limit, max(works, key=lambda work: limit.pace(work, 1.0).rate))
