"""A small network of PaddlePaddle that tells circles, squares and diamonds apart, saved for inference.

python make.py OUT    writes OUT/shapes.json, OUT/shapes.pdiparams, OUT/labels.txt and OUT/samples (pictures)
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import paddle
from paddle import nn
from PIL import Image

NAMES = ("circle", "square", "diamond")
SIDE, RESIZED = 32, 36
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
STEPS, ROWS = 60, 24


def picture(kind: int, random: np.random.Generator) -> Image.Image:
    """One light shape on dark ground, in a picture of any size."""
    height, width = random.integers(60, 120, 2)
    rows, columns = np.mgrid[:height, :width]
    down, across = abs(rows - height // 2), abs(columns - width // 2)
    away = (np.hypot(down, across), np.maximum(down, across), down + across)[kind]
    inside = away < min(width, height) * random.uniform(0.22, 0.36)
    ground, light = random.integers(0, 120, 3), random.integers(190, 256, 3)
    pixels = np.where(inside[..., None], light, ground) + random.integers(-25, 26, (height, width, 3))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def prepared(image: Image.Image) -> npt.NDArray[np.float32]:
    """As the recipe `imagenet` with size 32: the shorter side resized, the middle of it, normalised."""
    scale = RESIZED / min(image.size)
    width, height = (int(side * scale) for side in image.size)
    left, top = (width - SIDE) // 2, (height - SIDE) // 2
    resized = image.resize((width, height), Image.Resampling.BILINEAR)
    pixels = np.asarray(resized.crop((left, top, left + SIDE, top + SIDE)), np.float32) / 255
    return ((pixels - MEAN) / DEVIATION).transpose(2, 0, 1).astype(np.float32)


def network() -> nn.Layer:
    """Two convolutions with batch norms and one layer on their mean."""
    return nn.Sequential(
        nn.Conv2D(3, 16, 5, stride=2, padding=2),
        nn.BatchNorm2D(16),
        nn.Hardswish(),
        nn.Conv2D(16, 32, 3, stride=2, padding=1),
        nn.BatchNorm2D(32),
        nn.ReLU(),
        nn.MaxPool2D(2),
        nn.Flatten(),
        nn.Linear(32 * 4 * 4, len(NAMES)),
    )


def main(out: Path) -> None:
    """Train for some seconds and save."""
    paddle.seed(0)
    random = np.random.default_rng(0)
    model = network()
    optimiser = paddle.optimizer.AdamW(2e-3, parameters=model.parameters())
    for _ in range(STEPS):
        kinds = random.integers(0, len(NAMES), ROWS)
        batch = np.stack([prepared(picture(int(kind), random)) for kind in kinds])
        loss = nn.functional.cross_entropy(model(paddle.to_tensor(batch)), paddle.to_tensor(kinds))
        loss.backward()
        optimiser.step()
        optimiser.clear_grad()
    model.eval()
    taken = paddle.static.InputSpec([None, 3, SIDE, SIDE], "float32", "image")
    paddle.jit.save(model, str(out / "shapes"), input_spec=[taken])
    (out / "labels.txt").write_text("\n".join(NAMES) + "\n")
    (out / "samples").mkdir(parents=True, exist_ok=True)
    right = 0
    for number in range(12):
        kind = number % len(NAMES)
        image = picture(kind, random)
        image.save(out / "samples" / f"{NAMES[kind]}-{number}.png")
        right += int(model(paddle.to_tensor(prepared(image)[None])).numpy().argmax()) == kind
    print(f"{right} of 12 samples are told right")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
