"""A small network that tells where an arrow points, as TorchScript (`torch.jit.script`, with a loop in it).

python make.py OUT    writes OUT/arrows.pt, OUT/labels.txt and OUT/samples (pictures)
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw
from torch import Tensor, nn

NAMES = ("up", "left", "down", "right")
SIDE, RESIZED = 32, 36
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
STEPS, ROWS = 60, 24
ARROW = ((0, -1), (0.6, -0.2), (0.2, -0.2), (0.2, 0.9), (-0.2, 0.9), (-0.2, -0.2), (-0.6, -0.2))


class Arrows(nn.Module):
    """The same convolution again and again, each time on half the size."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 24, 5, stride=2, padding=2)
        self.again = nn.Conv2d(24, 24, 3, padding=1)
        self.norm = nn.BatchNorm2d(24)
        self.last = nn.Linear(24 * 4 * 4, len(NAMES))

    def forward(self, picture: Tensor) -> Tensor:
        """float32[batch, 3, 32, 32] to a score for each direction: float32[batch, 4]."""
        x = torch.relu(self.norm(self.first(picture)))
        while x.shape[-1] > 4:
            x = torch.max_pool2d(torch.relu(self.again(x)), 2)
        return self.last(x.flatten(1))


def picture(kind: int, random: np.random.Generator) -> Image.Image:
    """One arrow, a little turned, in a picture of any size."""
    width, height = (int(side) for side in random.integers(60, 120, 2))
    ground, ink = random.integers(150, 256, 3), random.integers(0, 90, 3)
    image = Image.new("RGB", (width, height), tuple(int(each) for each in ground))
    radius = min(width, height) * random.uniform(0.25, 0.38)
    turn = -kind * np.pi / 2 + random.uniform(-0.3, 0.3)
    cos, sin = np.cos(turn), np.sin(turn)
    corners = [
        (width / 2 + radius * (x * cos - y * sin), height / 2 + radius * (x * sin + y * cos))
        for x, y in ARROW
    ]
    ImageDraw.Draw(image).polygon(corners, fill=tuple(int(each) for each in ink))
    return image


def prepared(image: Image.Image) -> npt.NDArray[np.float32]:
    """As the recipe `imagenet` with size 32: the shorter side resized, the middle of it, normalised."""
    scale = RESIZED / min(image.size)
    width, height = (int(side * scale) for side in image.size)
    left, top = (width - SIDE) // 2, (height - SIDE) // 2
    resized = image.resize((width, height), Image.Resampling.BILINEAR)
    pixels = np.asarray(resized.crop((left, top, left + SIDE, top + SIDE)), np.float32) / 255
    return ((pixels - MEAN) / DEVIATION).transpose(2, 0, 1).astype(np.float32)


def main(out: Path) -> None:
    """Train for some seconds and save."""
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    model = Arrows()
    optimiser = torch.optim.AdamW(model.parameters(), 3e-3)
    for _ in range(STEPS):
        kinds = random.integers(0, len(NAMES), ROWS)
        batch = np.stack([prepared(picture(int(kind), random)) for kind in kinds])
        loss = nn.functional.cross_entropy(model(torch.from_numpy(batch)), torch.from_numpy(kinds))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    out.mkdir(parents=True, exist_ok=True)
    script = torch.jit.script(model.eval())
    script.save(str(out / "arrows.pt"))
    (out / "labels.txt").write_text("\n".join(NAMES) + "\n")
    (out / "samples").mkdir(exist_ok=True)
    right = 0
    for number in range(12):
        kind = number % len(NAMES)
        image = picture(kind, random)
        image.save(out / "samples" / f"{NAMES[kind]}-{number}.png")
        right += int(script(torch.from_numpy(prepared(image)[None])).argmax()) == kind
    print(f"{right} of 12 samples are told right")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
