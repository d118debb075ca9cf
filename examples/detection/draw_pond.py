"""Draw a small detection data set: geese and ducks on a pond, with reeds, stones and lily pads among them.

    python draw_pond.py pond                    # 128 pictures to train on, 32 to validate, data.yaml

Every picture is drawn anew from a seeded generator, so the same command gives the same files. Boxes are taken
from the drawn bird itself, seen or half hidden by another one; a bird that others hide for the most part has
no label, as a person marking the picture would leave it out.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

CLASSES = ("goose", "duck")
SEEN = 0.5
"""The least share of a bird that must be seen for it to be labelled."""
FINE = 3
"""Everything is drawn this many times larger, and made smaller at the end, which smooths the edges."""

Point = tuple[float, float]


class Bird(NamedTuple):
    """One bird: its class, and where and how it floats. Lengths are shares of the picture's side."""

    kind: int
    x: float
    y: float
    length: float
    facing: int
    """1 to the right, -1 to the left."""
    dip: float
    """0 with the head up, 1 with the beak at the water."""


class Labelled(NamedTuple):
    """A picture, and its boxes as rows of class, centre x, centre y, width, height, shares of the picture."""

    picture: Image.Image
    boxes: list[tuple[int, float, float, float, float]]


def scene(random: np.random.Generator, side: int) -> Labelled:
    """One pond of `side` by `side` pixels with none to eight birds."""
    fine = side * FINE
    picture = _water(random, fine)
    for _ in range(random.integers(2, 7)):
        _distract(ImageDraw.Draw(picture), random, fine)
    birds = _flock(random)
    shapes: list[Image.Image] = []
    for bird in birds:
        layer = Image.new("RGBA", (fine, fine))
        (_goose if bird.kind == 0 else _duck)(ImageDraw.Draw(layer), bird, random, fine)
        ripple = Image.new("RGBA", (fine, fine))
        _ripples(ImageDraw.Draw(ripple), bird, fine)
        picture.paste(ripple, (0, 0), ripple)
        picture.paste(layer, (0, 0), layer)
        shapes.append(layer.getchannel("A").point(lambda alpha: 255 if alpha > 127 else 0))
    boxes = [
        (bird.kind, *box)
        for index, bird in enumerate(birds)
        if (box := _box(shapes[index], shapes[index + 1 :], fine)) is not None
    ]
    small = picture.resize((side, side), Image.Resampling.BOX)
    return Labelled(_camera(random, small), boxes)


def _flock(random: np.random.Generator) -> list[Bird]:
    """Birds in and out of groups, the far ones first: higher up and smaller."""
    birds: list[Bird] = []
    wanted = int(random.choice([0, 1, 2, 3, 4, 5, 6, 7, 8], p=[0.04, *[0.12] * 8]))
    while len(birds) < wanted:
        kind = int(random.random() < 0.4)
        near = random.uniform(0.1, 1.0)
        x, y = random.uniform(0.05, 0.95), 0.25 + 0.65 * near
        if birds and random.random() < 0.25:  # beside another one, so that they overlap
            other = birds[int(random.integers(len(birds)))]
            x, y = other.x + random.uniform(-0.14, 0.14), other.y + random.uniform(-0.03, 0.05)
            near = (y - 0.25) / 0.65
        if not 0.02 < x < 0.98 or not 0.25 < y < 0.95:
            continue
        length = (0.14 + 0.2 * near) * random.uniform(0.85, 1.15) * (0.72 if kind else 1.0)
        birds.append(Bird(kind, x, y, length, int(random.choice([-1, 1])), float(random.random() ** 3)))
    return sorted(birds, key=lambda bird: bird.y)


def _water(random: np.random.Generator, fine: int) -> Image.Image:
    """Sky's colour above, a bank, and water with waves."""
    base = np.array([random.integers(40, 110), random.integers(95, 150), random.integers(115, 185)], float)
    rows = np.linspace(0.75, 1.15, fine)[:, None, None]
    x, y = np.meshgrid(np.linspace(0, 1, fine), np.linspace(0, 1, fine))
    waves = np.sin(2 * math.pi * (y * random.uniform(18, 40) + 0.4 * np.sin(x * random.uniform(4, 14))))
    pixels = base * rows + waves[..., None] * random.uniform(2, 9)
    bank = random.uniform(0.06, 0.2) + 0.02 * np.sin(x * random.uniform(3, 20))
    green = np.array([random.integers(60, 120), random.integers(90, 150), random.integers(40, 80)], float)
    pixels = np.where((y < bank)[..., None], green + 10 * np.sin(60 * x + 31 * y)[..., None], pixels)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def _distract(draw: ImageDraw.ImageDraw, random: np.random.Generator, fine: int) -> None:
    """A stone, a lily pad, reeds, a log or a buoy: of a bird's size or colour, and no bird."""
    x, y = random.uniform(0, fine), random.uniform(0.2, 1) * fine
    size = random.uniform(0.03, 0.13) * fine
    grey = int(random.integers(70, 150))
    kind = random.integers(5)
    if kind == 0:
        draw.ellipse((x, y, x + size * 1.3, y + size * 0.7), (grey, grey - 8, grey - 18))
    elif kind == 1:
        draw.pieslice((x, y, x + size, y + size * 0.5), 20, 340, (60, 130 + grey // 4, 60))
    elif kind == 2:
        for _ in range(int(random.integers(3, 9))):
            foot = x + random.uniform(-1, 1) * size / 2
            draw.line((foot, y, foot + random.uniform(-0.3, 0.3) * size, y - size * 1.6), (90, 120, 50), 5)
    elif kind == 3:
        draw.rounded_rectangle((x, y, x + size * 2, y + size * 0.35), size * 0.15, (100, 75, 50))
    else:
        draw.ellipse((x, y, x + size * 0.5, y + size * 0.5), (210, 70, 50))


def _at(bird: Bird, fine: int, along: float, up: float) -> Point:
    """A place on a bird, in its lengths from the middle of its water line."""
    size = bird.length * fine
    return bird.x * fine + bird.facing * along * size, bird.y * fine - up * size


def _ellipse(
    draw: ImageDraw.ImageDraw, middle: Point, wide: float, high: float, colour: tuple[int, ...]
) -> None:
    draw.ellipse((middle[0] - wide, middle[1] - high, middle[0] + wide, middle[1] + high), colour)


def _goose(draw: ImageDraw.ImageDraw, bird: Bird, random: np.random.Generator, fine: int) -> None:
    """A Canada goose: grey-brown body, long black neck, black head with a white cheek."""
    size = bird.length * fine
    shade = int(random.integers(-18, 18))
    body, wing = (139 + shade, 118 + shade, 95 + shade, 255), (105 + shade, 88 + shade, 72 + shade, 255)
    black, white = (28, 26, 28, 255), (235, 235, 228, 255)
    _ellipse(draw, _at(bird, fine, -0.08, 0.12), 0.36 * size, 0.16 * size, body)
    tail = [_at(bird, fine, -0.38, 0.18), _at(bird, fine, -0.5, 0.24), _at(bird, fine, -0.36, 0.06)]
    draw.polygon(tail, white)
    _ellipse(draw, _at(bird, fine, -0.12, 0.16), 0.25 * size, 0.1 * size, wing)
    chest, head = (0.24, 0.16), (0.34 + 0.16 * bird.dip, 0.58 - 0.38 * bird.dip)
    bend = (0.3, (chest[1] + head[1]) / 2)
    neck = [_at(bird, fine, *place) for place in (chest, bend, head)]
    draw.line(neck, black, max(2, round(0.1 * size)), joint="curve")
    _ellipse(draw, _at(bird, fine, *head), 0.085 * size, 0.065 * size, black)
    _ellipse(draw, _at(bird, fine, head[0] - 0.01, head[1] - 0.02), 0.032 * size, 0.04 * size, white)
    beak = [(0.06, 0.03), (0.15, -0.01), (0.06, -0.03)]
    draw.polygon([_at(bird, fine, head[0] + a, head[1] + b) for a, b in beak], (40, 38, 36, 255))


def _duck(draw: ImageDraw.ImageDraw, bird: Bird, random: np.random.Generator, fine: int) -> None:
    """A drake: pale body, brown breast, short neck, green head, yellow beak."""
    size = bird.length * fine
    shade = int(random.integers(-14, 14))
    _ellipse(
        draw, _at(bird, fine, -0.06, 0.13), 0.4 * size, 0.18 * size, (188 + shade, 184 + shade, 176, 255)
    )
    _ellipse(draw, _at(bird, fine, 0.24, 0.15), 0.14 * size, 0.15 * size, (112 + shade, 66 + shade, 44, 255))
    tail = [_at(bird, fine, -0.42, 0.16), _at(bird, fine, -0.54, 0.3), _at(bird, fine, -0.34, 0.26)]
    draw.polygon(tail, (40, 40, 42, 255))
    up = 0.42 - 0.2 * bird.dip
    draw.line([_at(bird, fine, 0.28, 0.2), _at(bird, fine, 0.32, up)], (24, 92, 58, 255), round(0.13 * size))
    _ellipse(draw, _at(bird, fine, 0.34, up), 0.13 * size, 0.11 * size, (24, 98, 60, 255))
    beak = [(0.44, up + 0.04), (0.6, up - 0.02), (0.44, up - 0.06)]
    draw.polygon([_at(bird, fine, *place) for place in beak], (226, 186, 60, 255))


def _ripples(draw: ImageDraw.ImageDraw, bird: Bird, fine: int) -> None:
    size = bird.length * fine
    for ring in (0.42, 0.56):
        x, y = _at(bird, fine, -0.05, -0.02)
        draw.ellipse(
            (x - ring * size, y - 0.07 * size, x + ring * size, y + 0.09 * size),
            None,
            (225, 235, 240, 120),
            3,
        )


def _box(shape: Image.Image, later: list[Image.Image], fine: int) -> tuple[float, float, float, float] | None:
    """The box of what is drawn of a bird inside the picture; None where too little of it is seen."""
    box = shape.getbbox()
    if box is None:
        return None
    seen = shape
    for other in later:
        seen = ImageChops.subtract(seen, other)
    whole, left = (np.count_nonzero(np.asarray(mask)) for mask in (shape, seen))
    if left < SEEN * whole:
        return None
    x1, y1, x2, y2 = (edge / fine for edge in box)
    return (x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1


def _camera(random: np.random.Generator, picture: Image.Image) -> Image.Image:
    """Light, sharpness and noise differ from picture to picture."""
    if random.random() < 0.3:
        picture = picture.filter(ImageFilter.GaussianBlur(random.uniform(0.2, 0.7)))
    pixels = np.asarray(picture, np.float64) * random.uniform(0.75, 1.2)
    pixels += random.normal(0, random.uniform(0, 6), pixels.shape)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def write(folder: Path, *, train: int, val: int, side: int, seed: int) -> Path:
    """Draw the data set into `folder`; the path of its data.yaml."""
    random = np.random.default_rng(seed)
    for part, count in (("train", train), ("val", val)):
        for kind in ("images", "labels"):
            (folder / kind / part).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            drawn = scene(random, side)
            drawn.picture.save(folder / "images" / part / f"{index:04}.jpg", quality=92)
            rows = (f"{kind} {x:.6f} {y:.6f} {w:.6f} {h:.6f}\n" for kind, x, y, w, h in drawn.boxes)
            (folder / "labels" / part / f"{index:04}.txt").write_text("".join(rows))
    names = "".join(f"  {index}: {name}\n" for index, name in enumerate(CLASSES))
    data = folder / "data.yaml"
    data.write_text(f"path: {folder.resolve()}\ntrain: images/train\nval: images/val\nnames:\n{names}")
    return data


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw a data set of geese and ducks on a pond.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--train", type=int, default=128, help="pictures to train on (default 128)")
    parser.add_argument("--val", type=int, default=32, help="pictures to validate on (default 32)")
    parser.add_argument("--side", type=int, default=160, help="pixels of each picture's side (default 160)")
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    print(write(chosen.folder, train=chosen.train, val=chosen.val, side=chosen.side, seed=chosen.seed))


if __name__ == "__main__":
    main()
