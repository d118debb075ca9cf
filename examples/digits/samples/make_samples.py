"""Draw the sample digits: pen strokes written by hand here, then smoothed, wobbled and inked.

    python make_samples.py     # writes 0-a.png ... 9-b.png and strokes.json beside this file

Nothing here comes from a data set. Every run draws the same pictures.
"""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Final

from PIL import Image, ImageDraw

Point = tuple[float, float]
Stroke = list[Point]

SIDE: Final = 280
"""Pixels, both ways."""
FINER: Final = 4
"""Drawn this many times larger, then made smaller: smooth edges."""
STEP: Final = 1.5
"""Hundredths of a digit's height between the points of a smoothed stroke."""

HANDS: Final = {"a": (5.5, -0.02, 61), "b": (6.3, -0.08, 58)}
"""Two writers: the pen's width, the slant and a digit's height; width and height are hundredths of
the picture, the slant is x per y. Each digit of theirs varies a little."""

# Points of the pen, x and y in hundredths of the digit's height, y downwards. A space continues
# the curve, `/` is a sharp corner without lifting the pen, `|` lifts it.
WRITTEN: Final = {
    "0-a": "44,5 31,2 17,11 7,33 5,60 13,87 30,98 49,90 61,63 61,34 52,12 37,4 28,5",
    "0-b": "40,7 27,3 11,17 3,44 7,76 23,97 43,93 58,70 61,38 53,13 41,3",
    "1-a": "31,1 31,30 29,64 29,99",
    "1-b": "13,27 25,17 37,1/37,30 36,66 37,95|13,99 34,96 61,97",
    "2-a": "8,25 12,9 29,1 48,6 55,23 47,46 28,71 5,95/22,93 42,95 63,94",
    "2-b": "9,21 21,5 39,2 53,14 52,37 37,62 19,85 6,97 -4,92 -2,79 10,75 26,86 45,97 65,90",
    "3-a": "9,15 22,3 41,3 52,16 46,33 26,45/43,46 57,59 57,79 42,95 21,98 5,88",
    "3-b": "11,9 27,1 45,6 49,22 38,38 24,43/42,45 53,58 52,80 37,96 17,97 2,86",
    "4-a": "20,3 15,26 7,56/27,57 47,55 67,53|51,25 49,50 46,77 45,101",
    "4-b": "45,2 29,26 4,63/26,62 66,60|47,3 46,36 43,70 43,99",
    "5-a": "16,7 14,26 11,46/25,38 42,40 55,55 54,79 38,96 17,98 3,88|15,7 33,7 58,3",
    "5-b": "57,5 37,5 17,8/15,26 11,46/28,39 47,45 56,65 48,88 27,98 5,90",
    "6-a": "46,2 28,17 13,42 6,68 13,91 30,99 47,90 53,73 44,59 28,57 14,68 9,80",
    "6-b": "38,2 22,27 11,56 10,82 24,98 43,95 55,79 51,61 36,55 20,65 12,82",
    "7-a": "5,10 22,8 59,5/48,30 35,62 26,100",
    "7-b": "5,15 8,7 28,8 58,4/47,30 37,62 32,99|18,51 36,49 56,46",
    "8-a": "50,15 37,3 19,8 15,25 28,41 47,57 54,77 43,96 22,98 9,83 18,61 38,43 51,26 49,11 42,5",
    "8-b": "33,3 17,9 14,27 28,42 46,36 51,17 38,4 28,5|29,43 11,56 7,79 24,97 46,93 57,73 46,51 28,43",
    "9-a": "51,15 37,3 19,8 9,26 17,43 34,45 47,32 53,12/52,36 49,70 47,100",
    "9-b": "52,20 40,4 22,5 9,22 14,41 32,45 47,33 53,17 54,44 50,74 37,95 19,96 8,86",
}


def smooth(points: list[complex]) -> list[complex]:
    """A centripetal Catmull-Rom curve through `points` (x + y j), one new point every `STEP`."""
    padded = [2 * points[0] - points[1], *points, 2 * points[-1] - points[-2]]
    curve: list[complex] = []
    for p0, p1, p2, p3 in zip(padded, padded[1:], padded[2:], padded[3:], strict=False):
        t1 = math.sqrt(abs(p1 - p0))
        t2 = t1 + math.sqrt(abs(p2 - p1))
        t3 = t2 + math.sqrt(abs(p3 - p2))
        count = max(1, round(abs(p2 - p1) / STEP))
        for index in range(count):
            t = t1 + (t2 - t1) * index / count
            a1 = p0 + (p1 - p0) * t / t1
            a2 = p1 + (p2 - p1) * index / count
            a3 = p2 + (p3 - p2) * (t - t2) / (t3 - t2)
            b1 = a1 + (a2 - a1) * t / t2
            b2 = a2 + (a3 - a2) * (t - t1) / (t3 - t1)
            curve.append(b1 + (b2 - b1) * index / count)
    curve.append(points[-1])
    # A hand leaves no vertices: each point becomes the mean of its neighbours, the ends stay.
    rounded: list[complex] = []
    for index in range(len(curve)):
        reach = min(5, index, len(curve) - 1 - index)
        rounded.append(sum(curve[index - reach : index + reach + 1]) / (2 * reach + 1))
    return rounded


def strokes_of(name: str) -> list[Stroke]:
    """The strokes of one sample, x and y in 0..1 of the picture, with a hand's slow tremble."""
    chance = random.Random(name)
    _, slant, usual = HANDS[name[-1]]
    slant += chance.uniform(-0.05, 0.05)
    height = usual * chance.uniform(0.96, 1.04)
    drawn: list[Stroke] = []
    for part in WRITTEN[name].split("|"):
        path: list[complex] = []
        for piece in part.split("/"):
            given = [complex(*map(float, point.split(","))) for point in piece.split()]
            path += smooth(path[-1:] + given)[bool(path) :]
        waves = [(chance.uniform(25, 90), chance.uniform(0, math.tau)) for _ in range(4)]
        trembled: Stroke = []
        for index, at in enumerate(path):
            dx, dy, fx, fy = (0.45 * math.sin(index * STEP * 4 / w + p) for w, p in waves)
            trembled.append((at.real + dx + fx / 2 + (at.imag - 50) * slant, at.imag + dy + fy / 2))
        drawn.append(trembled)
    xs = [x for stroke in drawn for x, _ in stroke]
    ys = [y for stroke in drawn for _, y in stroke]
    scale = height / 100 / 100
    left = 0.5 + chance.uniform(-0.04, 0.04) - (min(xs) + max(xs)) / 2 * scale
    top = 0.5 + chance.uniform(-0.04, 0.04) - (min(ys) + max(ys)) / 2 * scale
    return [[(left + x * scale, top + y * scale) for x, y in stroke] for stroke in drawn]


def picture(name: str, strokes: list[Stroke]) -> Image.Image:
    """Grey [280, 280], black ink on white; thinner where the pen is quick, thicker where slow."""
    large = SIDE * FINER
    image = Image.new("L", (large, large), 255)
    draw = ImageDraw.Draw(image)
    for stroke in strokes:
        for index, (x, y) in enumerate(stroke):
            near = min(index, len(stroke) - 1 - index) / 8
            around = stroke[max(0, index - 4) : index + 5]
            straight = math.dist(around[0], around[-1]) / max(1e-9, sum(map(math.dist, around, around[1:])))
            width = HANDS[name[-1]][0] / 100 * (1.06 - 0.1 * straight**8 * min(1.0, near))
            radius = width * large / 2
            at = x * large, y * large
            draw.ellipse([at[0] - radius, at[1] - radius, at[0] + radius, at[1] + radius], fill=25)
    small = image.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    # Sixteen greys are enough for smooth edges and halve the file.
    return small.point([level // 16 * 17 for level in range(256)])


def thinned(stroke: Stroke) -> Stroke:
    """Every second point, and the last: as many as a mouse reports."""
    return [(round(x, 4), round(y, 4)) for x, y in stroke[:-1:2] + stroke[-1:]]


def main() -> None:
    folder = Path(__file__).parent
    lines: list[str] = []
    for digit in "0123456789":
        variants: list[list[Stroke]] = []
        for name in sorted(name for name in WRITTEN if name[0] == digit):
            strokes = strokes_of(name)
            picture(name, strokes).save(folder / f"{name}.png", optimize=True)
            variants.append([thinned(stroke) for stroke in strokes])
        lines.append(f'"{digit}": {json.dumps(variants, separators=(",", ":"))}')
    (folder / "strokes.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
