"""A small ConvNeXT that tells circles, squares and triangles apart, saved as Hugging Face folders are.

python make.py OUT    writes OUT/shapes (the folder) and OUT/samples (pictures)
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from transformers import ConvNextConfig, ConvNextForImageClassification
from transformers.models.convnext.image_processing_pil_convnext import ConvNextImageProcessorPil

NAMES = ("circle", "square", "triangle")
SIDE = 32
STEPS, ROWS = 90, 24


def picture(kind: int, random: np.random.Generator) -> Image.Image:
    """One shape of any colour on noise, in a picture of any size."""
    width, height = (int(side) for side in random.integers(60, 160, 2))
    ground = random.integers(0, 60, (height, width, 3)) + random.integers(0, 120, 3)
    image = Image.fromarray(ground.astype(np.uint8))
    radius = int(min(width, height) * random.uniform(0.2, 0.32))
    x, y = width // 2, height // 2
    colour = tuple(int(each) for each in random.integers(190, 256, 3))
    draw, box = ImageDraw.Draw(image), (x - radius, y - radius, x + radius, y + radius)
    if kind == 0:
        draw.ellipse(box, fill=colour)
    elif kind == 1:
        draw.rectangle(box, fill=colour)
    else:
        draw.polygon([(x, box[1]), (box[0], box[3]), (box[2], box[3])], fill=colour)
    return image


def main(out: Path) -> None:
    """Train for some seconds and save."""
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    processor = ConvNextImageProcessorPil(size={"shortest_edge": SIDE}, crop_pct=0.875)
    names = dict(enumerate(NAMES))
    model = ConvNextForImageClassification(
        ConvNextConfig(
            hidden_sizes=[16, 32],
            depths=[1, 1],
            num_stages=2,
            layer_scale_init_value=1.0,
            id2label=names,
            label2id={name: index for index, name in names.items()},
        )
    )
    optimiser = torch.optim.AdamW(model.parameters(), 3e-3)
    for _ in range(STEPS):
        kinds = random.integers(0, len(NAMES), ROWS)
        pictures = [picture(int(kind), random) for kind in kinds]
        batch = processor(images=pictures, return_tensors="pt")
        loss = model(**batch, labels=torch.from_numpy(kinds)).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    model.eval().save_pretrained(out / "shapes")
    processor.save_pretrained(out / "shapes")
    (out / "samples").mkdir(parents=True, exist_ok=True)
    right = 0
    for number in range(12):
        kind = number % len(NAMES)
        image = picture(kind, random)
        image.save(out / "samples" / f"{NAMES[kind]}-{number}.png")
        with torch.no_grad():
            right += int(model(**processor(images=image, return_tensors="pt")).logits.argmax()) == kind
    print(f"{right} of 12 samples are told right")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
