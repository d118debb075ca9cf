"""A small convolutional network of Keras that scales pixels itself, and tells three shapes apart.

python make.py OUT    writes OUT/shapes.keras, OUT/labels.txt and OUT/samples/*.png
"""

from __future__ import annotations

import sys
from pathlib import Path

import keras
import numpy as np
from keras import layers
from PIL import Image, ImageDraw

NAMES = ("circle", "square", "triangle")
SIDE = 32


def drawn(kind: int, random: np.random.Generator) -> Image.Image:
    """A shape of some colour and place on a ground of another."""
    ground, ink = (tuple(int(c) for c in random.integers(low, low + 90, 3)) for low in (0, 150))
    picture = Image.new("RGB", (SIDE, SIDE), ground)
    pen = ImageDraw.Draw(picture)
    size = int(random.integers(12, 22))
    left, top = (int(c) for c in random.integers(2, SIDE - size - 2, 2))
    box = (left, top, left + size, top + size)
    if kind == 0:
        pen.ellipse(box, ink)
    elif kind == 1:
        pen.rectangle(box, ink)
    else:
        pen.polygon([(left, top + size), (left + size, top + size), (left + size // 2, top)], ink)
    return picture


def main(out: Path) -> None:
    """Train, and save the network and some pictures."""
    keras.utils.set_random_seed(0)
    random = np.random.default_rng(0)
    kinds = np.arange(900) % 3
    pictures = np.stack([np.asarray(drawn(kind, random)) for kind in kinds])
    net = keras.Sequential(
        [
            keras.Input((SIDE, SIDE, 3)),
            layers.RandomFlip("horizontal"),
            layers.Rescaling(1 / 127.5, offset=-1),
            layers.Conv2D(16, 3, 2, activation="relu"),
            layers.BatchNormalization(),
            layers.Conv2D(32, 3, 2, activation="relu"),
            layers.Conv2D(32, 3, 2, activation="relu"),
            layers.Flatten(),
            layers.Dense(3, activation="softmax"),
        ]
    )
    net.compile("adam", "sparse_categorical_crossentropy")
    net.fit(pictures.astype(np.float32), kinds, epochs=8, batch_size=32, verbose=0)
    net.save(out / "shapes.keras")
    (out / "labels.txt").write_text("\n".join(NAMES) + "\n")
    (out / "samples").mkdir(exist_ok=True)
    for number in range(12):
        drawn(number % 3, random).save(out / "samples" / f"{NAMES[number % 3]}{number // 3}.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
