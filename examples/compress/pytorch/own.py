"""A network of yours for `compress.py --network own.py`: three convolutions, each as wide as is asked.

python compress.py --data DIR --network own.py -o out
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn


def network(widths: Sequence[int], classes: int, shape: tuple[int, int, int]) -> nn.Module:
    """A network that is not trained.

    Args:
        widths: three numbers of channels: (16, 32, 64) for the first network, (8, 14, 28) for its student.
        classes: how many logits it gives: [batch, classes].
        shape: of a picture: (channels, side, side).
    """
    channels, _, _ = shape
    first, second, third = widths
    return nn.Sequential(
        *block(channels, first, stride=2),
        *block(first, second),
        *block(second, third),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(third, classes),
    )


def block(inputs: int, width: int, stride: int = 1) -> list[nn.Module]:
    """A convolution of 3x3 with what follows it."""
    return [nn.Conv2d(inputs, width, 3, stride, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
