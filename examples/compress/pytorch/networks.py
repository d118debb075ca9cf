"""The two networks that are made smaller, each of any three widths. Both take [batch, channels, side,
side]."""

from __future__ import annotations

import copy
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

sys.path.append(str(Path(__file__).resolve().parents[2] / "digits"))
from train_torch import network as digits

__all__ = ["FULL", "HALF", "NARROW", "digits", "resnet8", "saved", "written"]

FULL = (16, 32, 64)
NARROW = (8, 14, 28)
"""Of the student: a little more than four times fewer multiply-adds than `FULL`, in both networks."""
HALF = (16, 32, 60)
"""Of ResNet-8's student, which is nearly as wide and works at half the resolution from its first convolution
on: the same saving, and the channels stay."""


class Block(nn.Module):
    """Two 3x3 convolutions and what goes round them: the input, or where sizes differ a 1x1 convolution of
    it."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, width, 3, stride, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(width)
        self.second = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(width)
        self.around: nn.Module = nn.Identity()
        if stride != 1 or inputs != width:
            one = nn.Conv2d(inputs, width, 1, stride, bias=False)
            self.around = nn.Sequential(one, nn.BatchNorm2d(width))

    def forward(self, flow: Tensor) -> Tensor:
        found = torch.relu(self.first_norm(self.first(flow)))
        return torch.relu(self.second_norm(self.second(found)) + self.around(flow))


def resnet8(
    widths: Sequence[int] = FULL, classes: int = 10, channels: int = 3, stride: int = 1
) -> nn.Sequential:
    """The residual network of MLPerf Tiny's image classification (Banbury et al. 2021), after He et al. 2015.

    Seven 3x3 convolutions, two of 1x1, and a dense layer: 12.5 million multiply-adds on a 32x32 picture, and
    a quarter of that with `stride`, which is the first convolution's, at 2.
    """
    first = nn.Conv2d(channels, widths[0], 3, stride, padding=1, bias=False)
    stem = [first, nn.BatchNorm2d(widths[0]), nn.ReLU()]
    inputs = (widths[0], *widths)
    blocks = [Block(inputs[n], width, 1 if n == 0 else 2) for n, width in enumerate(widths)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], classes)]
    return nn.Sequential(*stem, *blocks, *head)


def saved(model: nn.Module, shape: tuple[int, int, int], path: Path) -> None:
    """Write `model`, which takes pictures of `shape` (side, side, channels), as TorchScript."""
    side, _, channels = shape
    model = copy.deepcopy(model).to(memory_format=torch.contiguous_format).eval()
    partial = path.with_suffix(".part")
    torch.jit.trace(model, torch.zeros(2, channels, side, side)).save(str(partial))
    partial.replace(path)


def written(path: Path, model: nn.Module) -> nn.Module:
    """`model` with the weights of a TorchScript file of the same network.

    Raises:
        SystemExit: the file is of another network.
    """
    try:
        model.load_state_dict(torch.jit.load(str(path)).state_dict())
    except RuntimeError as error:
        raise SystemExit(f"error: {path} does not hold this network: {str(error).splitlines()[0]}") from None
    return model.to(memory_format=torch.channels_last).eval()
