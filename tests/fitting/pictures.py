"""Pictures with edges, colours and texture, of several sizes; and reference functions in files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

SIZES = {"wide": (90, 150), "tall": (170, 100), "square": (120, 120), "small": (66, 80)}


def write_pictures(folder: Path, sizes: dict[str, tuple[int, int]] = SIZES, suffix: str = "png") -> Path:
    """A folder of pictures of `sizes` (height, width)."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(7)
    for name, (height, width) in sizes.items():
        coarse = rng.integers(0, 256, (height // 12 + 2, width // 12 + 2, 3), np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
        noise = rng.integers(-20, 21, smooth.shape)
        pixels = (smooth.astype(int) + noise).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.{suffix}")
    return folder


HEAD = """
import numpy as np
from PIL import Image

"""


def write_reference(folder: Path, body: str, name: str = "prep.py") -> str:
    """FILE:func of a file with `body` in it."""
    path = folder / name
    path.write_text(HEAD + body)
    return f"{path}:func"
