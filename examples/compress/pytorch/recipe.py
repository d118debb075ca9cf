"""What `compress.py` makes of a PyTorch network: fewer channels, zeros, or a student."""

from __future__ import annotations

import argparse
import copy
import sys
from pathlib import Path

import torch
from channels import fewer_channels, widths
from networks import FULL, HALF, NARROW, digits, resnet8, saved, written
from torch import Tensor, nn
from torch.nn import functional as F
from training import Lessons, lessons, train
from weights import fewer_weights, zeros

sys.path.append(str(Path(__file__).resolve().parents[1]))
import comparison
from pictures import Pictures

JUDGED = 256
"""Pictures, drawn anew for each step, that Taylor importances are taken from."""


def network(pictures: Pictures, widths: tuple[int, ...], own: Path | None = None) -> nn.Module:
    """That of the file `own`; or the digits network for MNIST's pictures, ResNet-8 for others. Not
    trained.

    Raises:
        SystemExit: the file's network does not take the pictures, or does not give a logit for each class.
    """
    classes = len(pictures.names)
    if own:
        made = own_network(own, widths, classes, pictures.shape)
    else:
        made = digits(widths) if pictures.digits else resnet8(widths, classes, pictures.shape[2])
    return made.to(memory_format=torch.channels_last)


def own_network(own: Path, widths: tuple[int, ...], classes: int, shape: tuple[int, int, int]) -> nn.Module:
    """The network of the file `own`, asked about two black pictures; its shape is (channels, side, side), as
    PyTorch has pictures."""
    side, _, channels = shape
    make = comparison.own_network(own)
    with comparison.explained(own, f"[batch, {channels}, {side}, {side}]", classes) as given:
        made = make(widths, classes, (channels, side, side)).eval()
        with torch.no_grad():
            given.append(tuple(made(torch.zeros(2, channels, side, side)).shape))
    return made.train()


def student(pictures: Pictures, own: Path | None = None) -> nn.Module:
    """The network of more than four times fewer multiply-adds that learns from the first: half as wide, or
    ResNet-8 at half the resolution. Not trained."""
    if own or pictures.digits:
        return network(pictures, NARROW, own)
    made = resnet8(HALF, len(pictures.names), pictures.shape[2], stride=2)
    return made.to(memory_format=torch.channels_last)


def pruned(teacher: nn.Module, data: Lessons, args: argparse.Namespace) -> nn.Module:
    """`teacher` with fewer channels, trained again after each round with its own former self as its
    teacher."""
    model = copy.deepcopy(teacher)

    def loss(model: nn.Module) -> Tensor:
        picked = torch.randperm(len(data.images))[:JUDGED]
        return F.cross_entropy(model(data.batch(picked)), data.labels[picked])

    example = data.batch(torch.zeros(1, dtype=torch.int64))
    judged = loss if args.importance == "taylor" else None
    stages = fewer_channels(model, example, judged, args.fewer, rounds=args.rounds, multiple=args.multiple)
    for turn, _ in enumerate(stages, 1):
        print(f"  round {turn}: channels {widths(model)}")
        model.to(memory_format=torch.channels_last)
        last = turn == args.rounds
        train(model, data, args.epochs if last else 1, peak=0.1 if last else 0.03, teacher=teacher)
    return model


def sparse(teacher: nn.Module, data: Lessons, args: argparse.Namespace) -> nn.Module:
    """`teacher` with `args.zeros` of its weights zero, trained again after each round."""
    model = copy.deepcopy(teacher)
    for turn, _ in enumerate(fewer_weights(model, args.zeros, rounds=args.rounds), 1):
        train(model, data, 2 if turn == args.rounds else 1, peak=0.03, teacher=teacher)
    print(f"  {zeros(model):.1%} of the weights are zero")
    return model


def run(args: argparse.Namespace, pictures: Pictures) -> None:
    """Make what the options ask for of the pictures, and compare all."""
    torch.set_num_threads(args.threads)
    data = lessons(pictures, args.batch, args.flip)

    def made(name: str, first: Path) -> nn.Module:
        teacher = None if name == "teacher" else written(first, network(pictures, FULL, args.network))
        torch.manual_seed(args.seed)
        if name == "pruned":
            return pruned(teacher, data, args)
        if name == "sparse":
            return sparse(teacher, data, args)
        whole = teacher is None
        model = network(pictures, FULL, args.network) if whole else student(pictures, args.network)
        epochs = args.teacher_epochs if whole else args.student_epochs
        train(model, data, epochs, peak=0.2 if whole else 0.15, teacher=teacher)
        return model

    def write(name: str, first: Path, file: Path) -> None:
        saved(made(name, first), pictures.shape, file)

    comparison.finished(args, pictures, ".pt", write)
