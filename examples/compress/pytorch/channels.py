"""Structured pruning: whole channels go, so that the network that is left is a smaller dense one.

Torch-Pruning (Fang et al., "DepGraph: Towards Any Structural Pruning", 2023; MIT) traces which tensors hang
together, as the two sides of an addition do, and takes a channel out of all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch_pruning
from torch import Tensor, nn

STEPS = 100
"""Steps from the whole network to none; as many are taken as the wanted multiply-adds need."""
MOST = 0.75
"""No layer loses more than this share of the channels that it had at the start."""


def fewer_channels(
    model: nn.Module,
    example: Tensor,
    loss: Callable[[nn.Module], Tensor] | None,
    times: float,
    *,
    rounds: int = 1,
    multiple: int = 1,
) -> Iterator[nn.Module]:
    """Prune `model` in place until it has `times` fewer multiply-adds, in `rounds`: the caller trains in
    between.

    The channels that matter least go first, over all layers together, each layer's importances divided by
    their mean. With a loss they are judged by the first-order Taylor term |Σ weight · gradient|, the change
    in the loss that taking a channel out would make (Molchanov et al., "Importance Estimation for Neural
    Network Pruning", 2019); without one by the size of their weights.

    Args:
        model: in evaluation mode; its last linear layer keeps its outputs.
        example: float32 [1, channels, side, side].
        loss: of the model on some batches, as a scalar to differentiate; None for magnitude.
        times: at least 1.
        rounds: each makes the network smaller by the same factor.
        multiple: widths are rounded to multiples of this: processors and compilers work on 4, 8 or 16 at
            once.

    Yields:
        The model, after each round.
    """
    before = multiply_adds(model, example)
    # One for all rounds: it knows how wide the layers were.
    pruner = _pruner(model, example, judged=loss is not None, multiple=multiple)
    for turn in range(1, rounds + 1):
        wanted = before / times ** (turn / rounds)
        for _ in range(STEPS):
            if multiply_adds(model, example) <= wanted:
                break
            model.zero_grad()
            if loss:
                loss(model).backward()
            pruner.step()
        model.zero_grad()
        if multiply_adds(model, example) > wanted:
            raise SystemExit(
                f"error: no layer loses more than {MOST:.0%}: {times:g} times fewer is out of reach"
            )
        yield model


def _pruner(
    model: nn.Module, example: Tensor, *, judged: bool, multiple: int
) -> torch_pruning.pruner.BasePruner:
    """What takes channels out of `model`, the least important first, in `STEPS` steps to none."""
    importances = torch_pruning.importance
    return torch_pruning.pruner.BasePruner(
        model,
        example,
        importance=importances.GroupTaylorImportance()
        if judged
        else importances.GroupMagnitudeImportance(p=2),
        global_pruning=True,
        pruning_ratio=0.99,
        max_pruning_ratio=MOST,
        iterative_steps=STEPS,
        ignored_layers=[module for module in model.modules() if isinstance(module, nn.Linear)][-1:],
        round_to=multiple if multiple > 1 else None,
    )


def multiply_adds(model: nn.Module, example: Tensor) -> int:
    """Of convolutions and matrix products, as Torch-Pruning counts them; the table's figures are the
    graph's."""
    with torch.no_grad():
        return int(torch_pruning.utils.count_ops_and_params(model, example)[0])


def widths(model: nn.Module) -> list[int]:
    """How many channels each convolution makes, in the order of the modules."""
    return [module.out_channels for module in model.modules() if isinstance(module, nn.Conv2d)]
