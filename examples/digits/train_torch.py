"""Train the digits network with PyTorch: 60,000 training images, the test images only at the end.

    python train_torch.py -o digits.pt                # a TorchScript file
    python train_torch.py -o digits.pt --pack repo    # and a Modelport package, verified

The network takes float32 [batch, 1, 28, 28], (pixel / 255 - 0.1307) / 0.3081 of white ink on
black, and gives raw logits [batch, 10].
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import torch
from mnist import MEAN, STD, Bytes, MnistError, load
from rich.progress import track
from torch import Tensor, nn
from torch.nn import functional as F

BATCH = 128
PEAK_RATE = 0.01


def network() -> nn.Sequential:
    """Six 3x3 convolutions in three stages, then one dense layer; 77,786 parameters."""
    layers: list[nn.Module] = []
    widths = [1, 16, 16, 32, 32, 64, 64]
    for index, (inputs, outputs) in enumerate(zip(widths, widths[1:], strict=False)):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs)]
        layers.append(nn.ReLU(inplace=True))
        if index % 2:
            layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.3), nn.Linear(64 * 3 * 3, 10))


def normalised(images: Bytes) -> Tensor:
    """uint8 [n, 28, 28] to float32 [n, 1, 28, 28], as the network takes it."""
    return (torch.from_numpy(images.copy()).float().unsqueeze(1) / 255 - MEAN) / STD


def augmented(images: Tensor) -> Tensor:
    """Each image [n, 1, 28, 28] turned, scaled, sheared, moved and bent a little; same shape.

    Rotation to 12 degrees, scale 0.85 to 1.15, shear to 0.15, 2 pixels either way, a smooth
    bend of about half a pixel; one stroke in four is made bolder or thinner.
    """
    count = len(images)

    def between(low: float, high: float) -> Tensor:
        return torch.rand(count) * (high - low) + low

    angle = between(-math.pi / 15, math.pi / 15)
    wide, tall = between(0.85, 1.15), between(0.85, 1.15)
    cos, sin, shear = angle.cos(), angle.sin(), between(-0.15, 0.15)
    rows = torch.stack(
        [
            torch.stack([cos / wide, (shear * cos - sin) / wide, between(-1 / 7, 1 / 7)], 1),
            torch.stack([sin / tall, (shear * sin + cos) / tall, between(-1 / 7, 1 / 7)], 1),
        ],
        1,
    )
    grid = F.affine_grid(rows, list(images.shape), align_corners=False)
    bend = F.interpolate(torch.randn(count, 2, 6, 6) * 0.06, size=(28, 28), mode="bicubic")
    black = -MEAN / STD
    moved = F.grid_sample(images - black, grid + bend.permute(0, 2, 3, 1), align_corners=False)
    chance = torch.rand(count, 1, 1, 1)
    share = torch.rand(count, 1, 1, 1) * 0.6
    bolder = moved + share * (F.max_pool2d(moved, 3, 1, 1) - moved)
    thinner = moved - share * (moved + F.max_pool2d(-moved, 3, 1, 1))
    moved = torch.where(chance < 0.15, bolder, torch.where(chance > 0.9, thinner, moved))
    return moved + black


def train(model: nn.Module, images: Tensor, labels: Tensor, epochs: int) -> None:
    """AdamW on a one-cycle schedule; prints the mean loss and the seconds of each epoch."""
    steps = math.ceil(len(images) / BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.02)
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, PEAK_RATE, epochs=epochs, steps_per_epoch=steps, pct_start=0.25
    )
    model.train()
    for epoch in range(1, epochs + 1):
        began, total = time.perf_counter(), 0.0
        batches = torch.randperm(len(images)).split(BATCH)
        for picked in track(batches, f"epoch {epoch:2}/{epochs}", transient=True):
            inputs = augmented(images[picked]).contiguous(memory_format=torch.channels_last)
            loss = F.cross_entropy(model(inputs), labels[picked], label_smoothing=0.05)
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
    parser = argparse.ArgumentParser(description="Train the digits network with PyTorch.")
    parser.add_argument("--data", type=Path, help="folder of the MNIST files (else downloaded)")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pt2", type=Path, help="also write a torch.export program here")
    parser.add_argument("--pack", type=Path, metavar="REPO", help="pack into this repository")
    parser.add_argument("-o", "--out", type=Path, default=Path("digits.pt"))
    args = parser.parse_args()
    try:
        data = load(args.data)
    except MnistError as error:
        parser.exit(2, f"error: {error}\n")

    torch.manual_seed(args.seed)
    model = network().to(memory_format=torch.channels_last)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, seed {args.seed}")
    train(model, normalised(data.train_images), torch.from_numpy(data.train_labels).long(), args.epochs)
    share = accuracy(model, normalised(data.test_images), torch.from_numpy(data.test_labels))
    print(f"test accuracy {share:.2%} of {len(data.test_labels):,} images")

    model = model.to(memory_format=torch.contiguous_format).eval()
    example = torch.zeros(2, 1, 28, 28)
    torch.jit.trace(model, example).save(str(args.out))
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
