"""How the shipped digits bundle reads drawings that are nothing like MNIST's images.

    python benchmarks/digits_drawings.py [--each 120] [--json]

The pen strokes of examples/digits/samples are turned, sheared and stretched at random (seeded) and drawn in
several ways: thin and thick pens, small in a corner, light on dark, faint, and as synthetic photos of paper
with uneven light, noise and JPEG. Each goes through the whole bundle as an encoded file.
"""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from rich.progress import track

import modelport
from modelport.cli.demo import DIGITS

STROKES = Path(__file__).resolve().parents[1] / "examples" / "digits" / "samples" / "strokes.json"
Random = np.random.Generator


def drawn(
    strokes: list[list[tuple[float, float]]], random: Random, canvas: int, box: int, pen: float
) -> Image.Image:
    """Dark ink on white: strokes within `box` pixels, turned up to 10 degrees, somewhere on the canvas."""
    angle, shear = np.deg2rad(random.uniform(-10, 10)), random.uniform(-0.15, 0.15)
    turn = np.array([[np.cos(angle), -np.sin(angle) + shear], [np.sin(angle), np.cos(angle)]])
    turn *= random.uniform(0.85, 1.0, (2, 1))
    corner = random.uniform(0, canvas - box, 2)
    picture = Image.new("L", (2 * canvas, 2 * canvas), 255)
    draw = ImageDraw.Draw(picture)
    for stroke in strokes:
        points = ((np.array(stroke) - 0.5) @ turn.T + 0.5) * box + corner
        draw.line([tuple(2 * p) for p in points], fill=0, width=max(1, round(2 * pen)), joint="curve")
        for x, y in 2 * points[[0, -1]]:
            draw.ellipse([x - pen, y - pen, x + pen, y + pen], fill=0)
    return picture.resize((canvas, canvas), Image.Resampling.LANCZOS)


def photo(picture: Image.Image, random: Random) -> Image.Image:
    """The drawing as pencil on paper under a lamp at one side, with noise."""
    ink = 1 - np.asarray(picture, np.float32) / 255
    rows, columns = np.mgrid[-1 : 1 : ink.shape[0] * 1j, -1 : 1 : ink.shape[1] * 1j]
    a, b = random.uniform(-35, 35, 2)
    paper = 170 + a * rows + b * columns + random.normal(0, 6, ink.shape)
    return Image.fromarray((paper - ink * random.uniform(80, 130)).clip(0, 255).astype(np.uint8))


def faint(picture: Image.Image, random: Random) -> Image.Image:
    """Light grey on grey."""
    return Image.eval(picture, lambda value: 130 + (255 - value) // 5)


KINDS: dict[str, Callable[[list[list[tuple[float, float]]], Random], Image.Image]] = {
    "canvas of 280, pen of 2": lambda s, r: drawn(s, r, 280, 240, 2),
    "canvas of 280, pen of 18": lambda s, r: drawn(s, r, 280, 230, 18),
    "canvas of 280, pen of 34": lambda s, r: drawn(s, r, 280, 220, 34),
    "60 pixels in a canvas of 600": lambda s, r: drawn(s, r, 600, 60, 4),
    "white on black": lambda s, r: Image.eval(drawn(s, r, 280, 230, 18), lambda value: 255 - value),
    "light grey on grey": lambda s, r: faint(drawn(s, r, 280, 230, 14), r),
    "synthetic photo": lambda s, r: photo(drawn(s, r, 480, 300, 9), r),
}


def main() -> None:
    """Measure and print the share that is read right, for each kind."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--each", type=int, default=120)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    strokes = json.loads(STROKES.read_text())
    result: dict[str, float] = {}
    with modelport.Pipeline.open(DIGITS) as pipeline:
        for kind, make in KINDS.items():
            random, right = np.random.default_rng(1), 0
            for number in track(range(options.each), kind):
                digit = str(number % 10)
                variants = strokes[digit]
                file = io.BytesIO()
                make(variants[number // 10 % len(variants)], random).save(file, "JPEG", quality=85)
                best = pipeline.readable(pipeline.answer(pipeline.decode(file.getvalue())))[0]
                right += best["label"] == digit
            result[kind] = right / options.each
    print(json.dumps(result) if options.json else "\n".join(f"{k:30} {v:.1%}" for k, v in result.items()))


if __name__ == "__main__":
    main()
