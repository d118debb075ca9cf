"""A residual network that tells textures apart; `make.py` trains it, and its weights are packed with this."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Block(nn.Module):
    """Two convolutions, and what went into them beside."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.SiLU(),
            nn.Conv2d(after, after, 3, padding=1, bias=False),
            nn.BatchNorm2d(after),
        )
        self.beside = nn.Conv2d(before, after, 1, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """float32[batch, before, height, width] to [batch, after, height / 2, width / 2]."""
        return torch.nn.functional.silu(self.body(x) + self.beside(x))


class Textures(nn.Module):
    """float32[batch, 3, 32, 32] to a score for each texture: float32[batch, classes]."""

    def __init__(self, classes: int = 4) -> None:
        super().__init__()
        self.blocks = nn.Sequential(Block(3, 16), Block(16, 32))
        self.head = nn.Linear(64, classes)

    def forward(self, picture: Tensor) -> Tensor:
        """Scores from the mean and the largest value of every feature."""
        found = self.blocks(picture)
        return self.head(torch.cat([found.mean((2, 3)), found.amax((2, 3))], 1))
