"""Unstructured pruning: the smallest weights become zero. The tensors keep their shapes, and dense kernels
their time.

What it gives is a file that packs: zeros compress. To get time from it takes kernels for sparse weights,
which ONNX Runtime's processors do not have.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn
from torch.nn.utils import prune


def fewer_weights(model: nn.Module, share: float, *, rounds: int = 1) -> Iterator[nn.Module]:
    """Set `share` of all weights of convolutions and matrices to zero, the smallest ones of the whole
    network.

    In `rounds`, between which the caller trains; zeros stay zeros. From round to round the share grows
    along the cubic curve of Zhu and Gupta, "To prune, or not to prune" (2017). When the iterator ends the
    masks are part of the weights.
    """
    # PyTorch's pruning takes weights in the plain memory order only.
    model.to(memory_format=torch.contiguous_format)
    layers = [(module, "weight") for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    gone = 0.0
    for turn in range(1, rounds + 1):
        wanted = share * (1 - (1 - turn / rounds) ** 3)
        # The amount is of the weights that are left.
        prune.global_unstructured(layers, prune.L1Unstructured, amount=(wanted - gone) / (1 - gone))
        gone = wanted
        yield model
    for module, name in layers:
        prune.remove(module, name)


def zeros(model: nn.Module) -> float:
    """The share of the weights of convolutions and matrices that are zero."""
    found = [module.weight for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    return float(sum(torch.sum(each == 0) for each in found) / sum(each.numel() for each in found))
