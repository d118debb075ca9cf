"""Training with labels, and with a teacher's answers where there is one."""

from __future__ import annotations

import math
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

sys.path.append(str(Path(__file__).resolve().parents[1]))
sys.path.append(str(Path(__file__).resolve().parents[2] / "digits"))
from pictures import Bytes, Pictures
from train_torch import augmented as bent

SMOOTHING = 0.02
TEMPERATURE = 4.0
TAUGHT = 0.9
"""The share of the loss that comes from the teacher; the rest comes from the labels."""


@dataclass(frozen=True)
class Lessons:
    """Training pictures, uint8 [n, channels, side, side], their classes int64 [n], and how they are
    varied."""

    images: Tensor
    labels: Tensor
    mean: float
    std: float
    varied: Callable[[Tensor], Tensor]
    size: int
    """Pictures in a batch."""

    def batch(self, picked: Tensor) -> Tensor:
        """float32 [n, channels, side, side] of the pictures `picked`, normalised and varied."""
        return self.varied((self.images[picked].float() / 255 - self.mean) / self.std)


def lessons(pictures: Pictures, size: int, flip: bool = False) -> Lessons:
    """Of the training pictures; `flip` mirrors half of them, which is wrong for digits and right for dogs."""

    def moved(images: Tensor) -> Tensor:
        side = images.shape[-1]
        padded = F.pad(images, (2, 2, 2, 2), mode="reflect")
        top, left = (torch.randint(5, (len(images), 1)) + torch.arange(side) for _ in range(2))
        rows = torch.arange(len(images))[:, None, None]
        found = padded.permute(0, 2, 3, 1)[rows, top[:, :, None], left[:, None, :]].permute(0, 3, 1, 2)
        if flip:
            found = torch.where(torch.rand(len(images), 1, 1, 1) < 0.5, found.flip(3), found)
        return found

    varied = (lambda images: bent(images, 0.7)) if pictures.digits else moved
    images = planes(pictures.train_images)
    return Lessons(images, torch.from_numpy(pictures.train_labels), pictures.mean, pictures.std, varied, size)


def planes(images: Bytes) -> Tensor:
    """uint8 [n, side, side, channels] as [n, channels, side, side]."""
    return torch.from_numpy(images.transpose(0, 3, 1, 2).copy())


def loss_of(logits: Tensor, labels: Tensor, taught: Tensor | None) -> Tensor:
    """Cross entropy with the labels, and with the teacher's softened answers.

    The second part is that of Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network"
    (2015): T² KL(softmax(taught / T) ‖ softmax(logits / T)), where T² keeps its gradients as large as the
    first part's whatever T is.

    Args:
        logits, taught: float32 [n, classes]; `taught` is None where there is no teacher.
        labels: int64 [n].
    """
    if taught is None:
        return F.cross_entropy(logits, labels, label_smoothing=SMOOTHING)
    soft, wanted = (F.log_softmax(each / TEMPERATURE, 1) for each in (logits, taught))
    told = F.kl_div(soft, wanted, reduction="batchmean", log_target=True) * TEMPERATURE**2
    return TAUGHT * told + (1 - TAUGHT) * F.cross_entropy(logits, labels)


def train(
    model: nn.Module,
    data: Lessons,
    epochs: int,
    *,
    peak: float,
    teacher: nn.Module | None = None,
) -> None:
    """SGD on a one-cycle rate up to `peak`; prints each epoch's loss. `model` is left as the last step left
    it."""
    steps = math.ceil(len(data.images) / data.size)
    told = asked(teacher, data) if teacher else None
    optimizer = torch.optim.SGD(model.parameters(), peak, momentum=0.9, nesterov=True, weight_decay=5e-4)
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, peak, total_steps=epochs * steps, pct_start=0.2, cycle_momentum=False
    )
    model.train()
    for epoch in range(1, epochs + 1):
        began, total = time.process_time(), 0.0
        for picked in torch.randperm(len(data.images)).split(data.size):
            inputs = data.batch(picked).contiguous(memory_format=torch.channels_last)
            with torch.no_grad():
                taught = told(inputs) if told else None
            loss = loss_of(model(inputs), data.labels[picked], taught)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            cycle.step()
            total += loss.item() * len(picked)
        seconds = time.process_time() - began
        print(f"  epoch {epoch}/{epochs}: loss {total / len(data.images):.4f}, {seconds:.0f} s", flush=True)
    model.eval()


def asked(teacher: nn.Module, data: Lessons) -> Callable[[Tensor], Tensor]:
    """`teacher`, which is in evaluation mode, with its layers fused, which takes a little more than half the
    time: much of a student's training is waiting for its teacher."""
    example = data.batch(torch.zeros(data.size, dtype=torch.int64))
    example = example.contiguous(memory_format=torch.channels_last)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch.compile needs a C++ compiler
        frozen = torch.jit.freeze(torch.jit.trace(teacher, example))
        return torch.jit.optimize_for_inference(frozen)


@torch.inference_mode()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor, mean: float, std: float) -> float:
    """The share of `images` (uint8) whose largest logit is the label's."""
    found = [model((part.float() / 255 - mean) / std).argmax(1) for part in images.split(1000)]
    return float((torch.cat(found) == labels).double().mean())
