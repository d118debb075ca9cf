"""Train the digits network with PyTorch: 60,000 training images, the test images only at the end.

    python train_torch.py -o digits.pt                # a TorchScript file
    python train_torch.py -o digits.pt --pack repo    # and a Modelport package, verified

The network takes float32 [batch, 1, 28, 28], (pixel / 255 - 0.1307) / 0.3081 of white ink on
black, and gives raw logits [batch, 10].
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path

import command
import torch
from mnist import MEAN, STD, Bytes, MnistError, load
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional as F

BATCH = 128
PEAK_RATE = 0.15
SMOOTHING = 0.02
"""The share of certainty the labels give up, so that scores stay short of 1."""


def network(widths: Sequence[int] = (16, 32, 64)) -> nn.Sequential:
    """Two 3x3 convolutions of each of three widths, then one dense layer; 77,786 parameters."""
    found: list[nn.Module] = []
    inputs = 1
    for width in widths:
        for _ in range(2):
            found.append(nn.Conv2d(inputs, width, 3, padding=1, bias=False))
            found += [nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
            inputs = width
        found.append(nn.MaxPool2d(2))
    return nn.Sequential(*found, nn.Flatten(), nn.Linear(inputs * 3 * 3, 10))


def normalised(images: Bytes) -> Tensor:
    """uint8 [n, 28, 28] to float32 [n, 1, 28, 28], as the network takes it."""
    return (torch.from_numpy(images.copy()).float().unsqueeze(1) / 255 - MEAN) / STD


def augmented(images: Tensor, strength: float) -> Tensor:
    """Each image [n, 1, 28, 28] turned, scaled, sheared, moved and bent a little; same shape.

    At most, when `strength` is 1: 12 degrees, a scale of 0.85 to 1.15 each way, a shear of 0.15,
    2 pixels, a smooth bend of about a pixel. Each image draws how much of that it gets, so many
    stay nearly as they are. One in four is made bolder or thinner.
    """
    count = len(images)
    amount = torch.rand(count) * strength

    def within(limit: float) -> Tensor:
        return (torch.rand(count) * 2 - 1) * limit * amount

    angle, shear, wide, tall = within(math.pi / 15), within(0.15), 1 + within(0.15), 1 + within(0.15)
    cos, sin = angle.cos(), angle.sin()
    across = torch.stack([cos / wide, (shear * cos - sin) / wide, within(2 / 14)], 1)
    down = torch.stack([sin / tall, (shear * sin + cos) / tall, within(2 / 14)], 1)
    grid = F.affine_grid(torch.stack([across, down], 1), list(images.shape), align_corners=False)
    bend = torch.randn(count, 2, 6, 6) * 0.06 * amount.view(-1, 1, 1, 1)
    grid = grid + F.interpolate(bend, size=(28, 28), mode="bicubic").permute(0, 2, 3, 1)
    black = -MEAN / STD
    moved = F.grid_sample(images - black, grid, align_corners=False)
    kind = torch.rand(count, 1, 1, 1)
    share = torch.rand(count, 1, 1, 1) * 0.6 * strength
    bolder = moved + share * (F.max_pool2d(moved, 3, 1, 1) - moved)
    thinner = moved - share * (moved + F.max_pool2d(-moved, 3, 1, 1))
    return torch.where(kind < 0.15, bolder, torch.where(kind > 0.9, thinner, moved)) + black


def train(model: nn.Module, images: Tensor, labels: Tensor, epochs: int) -> None:
    """SGD on a one-cycle rate, milder augmentation in the last third; prints each epoch's loss."""
    steps = math.ceil(len(images) / BATCH)
    optimizer = torch.optim.SGD(model.parameters(), PEAK_RATE, momentum=0.9, nesterov=True, weight_decay=5e-4)
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, PEAK_RATE, total_steps=epochs * steps, pct_start=0.25, cycle_momentum=False
    )
    model.train()
    for epoch in range(1, epochs + 1):
        began, total = time.perf_counter(), 0.0
        strength = 1 - 0.5 * max(0.0, (epoch / epochs - 0.7) / 0.3)
        batches = torch.randperm(len(images)).split(BATCH)
        for picked in track(batches, f"epoch {epoch:2}/{epochs}", transient=True, disable=command.QUIET):
            inputs = augmented(images[picked], strength)
            logits = model(inputs.contiguous(memory_format=torch.channels_last))
            loss = F.cross_entropy(logits, labels[picked], label_smoothing=SMOOTHING)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            cycle.step()
            total += loss.item() * len(picked)
        seconds = time.perf_counter() - began
        print(f"epoch {epoch:2}: loss {total / len(images):.4f}, {seconds:.0f} s", flush=True)


@torch.inference_mode()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """The share of `images` whose largest logit is the label's."""
    model.eval()
    found = torch.cat([model(part).argmax(1) for part in images.split(1000)])
    return float((found == labels).double().mean())


def main() -> None:
    parser = command.arguments("PyTorch", "digits.pt")
    parser.add_argument("--pt2", type=Path, help="also write a torch.export program to this file")
    args = parser.parse_args()
    try:
        data = load(args.data)
    except MnistError as error:
        parser.exit(2, f"error: {error}\n")

    torch.manual_seed(args.seed)
    model = network().to(memory_format=torch.channels_last)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, seed {args.seed}")
    began = time.perf_counter()
    train(model, normalised(data.train_images), torch.tensor(data.train_labels).long(), args.epochs)
    minutes = (time.perf_counter() - began) / 60
    share = accuracy(model, normalised(data.test_images), torch.tensor(data.test_labels))
    print(f"test accuracy {share:.2%} of {len(data.test_labels):,} images, {minutes:.1f} minutes")

    # Saved in the plain memory order, which is what every reader of the file expects.
    model = model.to(memory_format=torch.contiguous_format).eval()
    example = torch.zeros(2, 1, 28, 28)
    torch.jit.trace(model, example).save(str(args.out))
    if args.pt2:
        batch = {0: torch.export.Dim("batch", min=1)}
        torch.export.save(torch.export.export(model, (example,), dynamic_shapes=(batch,)), args.pt2)
    if args.pack:
        command.pack(args.out, args.pack)


if __name__ == "__main__":
    main()
