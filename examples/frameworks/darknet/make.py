"""A small YOLO that finds circles, squares and triangles, trained in PyTorch and saved as Darknet saves it.

python make.py OUT    writes OUT/shapes.cfg, shapes.weights, shapes.names and OUT/samples (pictures)
"""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import nn

NAMES = ("circle", "square", "triangle")
SIDE, STRIDE = 96, 16
ANCHORS = ((22, 22), (40, 40))
CELLS = SIDE // STRIDE
# Filters, kernel, stride; the last has no batch norm.
LAYERS = ((16, 3, 2), (32, 3, 2), (48, 3, 2), (64, 3, 2), (64, 3, 1), (len(ANCHORS) * (5 + len(NAMES)), 1, 1))
STEPS, ROWS = 400, 24
EPSILON = 1e-6
Found = list[tuple[int, float, float, float, float]]
"""Class, center x, center y, width and height of each shape, in pixels."""


def picture(random: np.random.Generator) -> tuple[Image.Image, Found]:
    """One to three shapes of any bright colour on a dark ground."""
    ground = random.integers(0, 40, (SIDE, SIDE, 3)) + random.integers(0, 60, 3)
    image = Image.fromarray(ground.astype(np.uint8))
    draw, found = ImageDraw.Draw(image), []
    taken: list[tuple[float, float, float]] = []
    for _ in range(int(random.integers(1, 4))):
        radius = float(random.uniform(8, 22))
        x, y = random.uniform(radius, SIDE - radius, 2)
        if any(abs(x - a) < radius + r and abs(y - b) < radius + r for a, b, r in taken):
            continue
        taken.append((x, y, radius))
        kind = int(random.integers(0, len(NAMES)))
        colour = tuple(int(each) for each in random.integers(150, 256, 3))
        box = (x - radius, y - radius, x + radius, y + radius)
        if kind == 0:
            draw.ellipse(box, fill=colour)
        elif kind == 1:
            draw.rectangle(box, fill=colour)
        else:
            draw.polygon([(x, box[1]), (box[0], box[3]), (box[2], box[3])], fill=colour)
        found.append((kind, float(x), float(y), 2 * radius, 2 * radius))
    return image, found


class Network(nn.Module):
    """Convolutions with leaky rectifiers, as the cfg describes them."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions, self.norms = nn.ModuleList(), nn.ModuleList()
        before = 3
        for index, (count, size, stride) in enumerate(LAYERS):
            last = index == len(LAYERS) - 1
            self.convolutions.append(nn.Conv2d(before, count, size, stride, size // 2, bias=last))
            if not last:
                self.norms.append(nn.BatchNorm2d(count, eps=EPSILON))
            before = count

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Pictures [batch, 3, SIDE, SIDE] to [batch, anchors, 5 + classes, CELLS, CELLS]."""
        for convolution, norm in zip(self.convolutions, self.norms, strict=False):
            x = nn.functional.leaky_relu(norm(convolution(x)), 0.1)
        return self.convolutions[-1](x).reshape(len(x), len(ANCHORS), 5 + len(NAMES), CELLS, CELLS)


def loss_of(raw: torch.Tensor, wanted: list[Found]) -> torch.Tensor:
    """YOLOv3's: a shape is told by the cell of its centre and the anchor that is most like it."""
    sure = torch.zeros_like(raw[:, :, 4])
    places, boxes, kinds = [], [], []
    for row, found in enumerate(wanted):
        for kind, x, y, width, height in found:
            anchor = int(np.argmin([abs(np.log(width / a[0])) for a in ANCHORS]))
            column, line = int(x // STRIDE), int(y // STRIDE)
            sure[row, anchor, line, column] = 1
            places.append((row, anchor, line, column))
            sides = np.log(width / ANCHORS[anchor][0]), np.log(height / ANCHORS[anchor][1])
            boxes.append((x / STRIDE - column, y / STRIDE - line, *sides))
            kinds.append(np.eye(len(NAMES))[kind])
    row, anchor, line, column = torch.tensor(places).T
    told = raw[row, anchor, :, line, column]
    want = torch.tensor(np.array(boxes), dtype=torch.float32)
    binary = nn.functional.binary_cross_entropy_with_logits
    centre = nn.functional.mse_loss(told[:, :2].sigmoid(), want[:, :2])
    side = nn.functional.mse_loss(told[:, 2:4], want[:, 2:])
    kind = binary(told[:, 5:], torch.tensor(np.array(kinds), dtype=torch.float32))
    known = binary(raw[:, :, 4], sure, pos_weight=torch.tensor(4.0))  # few places hold a shape
    return 8 * centre + 4 * side + 2 * kind + 10 * known


def cfg() -> str:
    """The description of the network."""
    lines = ["[net]", f"width={SIDE}", f"height={SIDE}", "channels=3", ""]
    for index, (count, size, stride) in enumerate(LAYERS):
        last = index == len(LAYERS) - 1
        lines += ["[convolutional]"] + ([] if last else ["batch_normalize=1"])
        lines += [f"filters={count}", f"size={size}", f"stride={stride}", "pad=1"]
        lines += ["activation=linear" if last else "activation=leaky", ""]
    anchors = ", ".join(f"{width},{height}" for width, height in ANCHORS)
    lines += ["[yolo]", "mask=0,1", f"anchors={anchors}", f"classes={len(NAMES)}", f"num={len(ANCHORS)}", ""]
    return "\n".join(lines)


def save(network: Network, path: Path) -> None:
    """Of each layer the biases, the norm's numbers and the weights, behind a header."""
    parts = []
    for index, convolution in enumerate(network.convolutions):
        if index < len(network.norms):
            norm = network.norms[index]
            parts += [norm.bias, norm.weight, norm.running_mean, norm.running_var]
        else:
            parts.append(convolution.bias)
        parts.append(convolution.weight)
    numbers = np.concatenate([part.detach().numpy().reshape(-1) for part in parts])
    path.write_bytes(struct.pack("<3iQ", 0, 2, 0, STEPS * ROWS) + numbers.astype("<f4").tobytes())


def main(out: Path) -> None:
    """Train for some seconds and save."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    random = np.random.default_rng(0)
    network = Network()
    optimiser = torch.optim.AdamW(network.parameters(), 4e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 6e-3, total_steps=STEPS)
    for _ in range(STEPS):
        made = [picture(random) for _ in range(ROWS)]
        batch = np.stack([np.asarray(image) for image, _ in made]).transpose(0, 3, 1, 2)
        loss = loss_of(
            network(torch.from_numpy(batch.astype(np.float32) / 255)), [found for _, found in made]
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    out.mkdir(parents=True, exist_ok=True)
    (out / "shapes.cfg").write_text(cfg())
    (out / "shapes.names").write_text("\n".join(NAMES) + "\n")
    save(network.eval(), out / "shapes.weights")
    (out / "samples").mkdir(exist_ok=True)
    for number in range(8):
        picture(random)[0].resize((3 * SIDE, 3 * SIDE)).save(out / "samples" / f"shapes-{number}.png")
    print(f"the loss is {loss.item():.2f} after {STEPS} steps")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
