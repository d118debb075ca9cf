"""Trains the network of `textures.py` and saves a checkpoint as training scripts do: the weights and more.

python make.py OUT    writes OUT/textures.pth, OUT/textures.py, OUT/labels.txt and OUT/samples (pictures)
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import nn

HERE = Path(__file__).resolve().parent
NAMES = ("checks", "stripes", "dots", "noise")
SIDE = 32
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
STEPS, ROWS = 60, 32


def texture(kind: int, side: int, random: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Two colours in a pattern, with some noise: uint8[side, side, 3]."""
    rows, columns = np.mgrid[:side, :side] / side * random.uniform(3, 5) + random.uniform(0, 1, (2, 1, 1))
    if kind == 0:
        share = (rows % 1 > 0.5) ^ (columns % 1 > 0.5)
    elif kind == 1:
        share = (rows if random.integers(2) else columns) % 1 > 0.5
    elif kind == 2:
        share = (rows % 1 - 0.5) ** 2 + (columns % 1 - 0.5) ** 2 < 0.08
    else:
        share = random.random((side, side)) > 0.5
    dark, light = random.integers(0, 100, 3), random.integers(150, 256, 3)
    noise = random.integers(-15, 16, (side, side, 3))
    return np.asarray(np.clip(np.where(share[..., None], dark, light) + noise, 0, 255), np.uint8)


def prepared(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """As the recipe `imagenet` prepares a picture of 36 pixels: the middle 32, normalised."""
    edge = (len(pixels) - SIDE) // 2
    middle = pixels[edge : edge + SIDE, edge : edge + SIDE] / 255.0
    return ((middle - MEAN) / DEVIATION).transpose(2, 0, 1).astype(np.float32)


def main(out: Path) -> None:
    """Train for some seconds and save."""
    sys.path.insert(0, str(HERE))
    from textures import Textures

    torch.manual_seed(0)
    random = np.random.default_rng(0)
    model = Textures(len(NAMES))
    optimiser = torch.optim.AdamW(model.parameters(), 3e-3)
    for _ in range(STEPS):
        kinds = random.integers(0, len(NAMES), ROWS)
        batch = np.stack([prepared(texture(int(kind), SIDE, random)) for kind in kinds])
        loss = nn.functional.cross_entropy(model(torch.from_numpy(batch)), torch.from_numpy(kinds))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    model.eval()
    out.mkdir(parents=True, exist_ok=True)
    state = {"epoch": 1, "state_dict": model.state_dict(), "optimizer": optimiser.state_dict()}
    torch.save(state, out / "textures.pth")
    shutil.copy(HERE / "textures.py", out / "textures.py")
    (out / "labels.txt").write_text("\n".join(NAMES) + "\n")
    (out / "samples").mkdir(exist_ok=True)
    right = 0
    for number in range(12):
        kind = number % len(NAMES)
        pixels = texture(kind, 36, random)
        Image.fromarray(pixels).save(out / "samples" / f"{NAMES[kind]}-{number}.png")
        right += int(model(torch.from_numpy(prepared(pixels)[None])).argmax()) == kind
    print(f"{right} of 12 samples are told right")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
