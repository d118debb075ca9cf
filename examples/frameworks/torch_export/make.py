"""A small transformer that counts the pulses in a signal, as an exported program of any batch size.

python make.py OUT    writes OUT/pulses.pt2 and OUT/samples (a signal each)
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

LENGTH, PATCH, WIDTH, MOST = 64, 8, 32, 4
STEPS, ROWS = 150, 64


class Pulses(nn.Module):
    """The signal in eight parts, two layers of attention between them, and their mean."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.Conv1d(1, WIDTH, PATCH, stride=PATCH)
        self.places = nn.Parameter(torch.randn(1, LENGTH // PATCH, WIDTH) * 0.1)
        layer = nn.TransformerEncoderLayer(WIDTH, 4, 64, dropout=0.0, activation="gelu", batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.last = nn.Linear(WIDTH, MOST + 1)

    def forward(self, signal: Tensor) -> Tensor:
        """float32[batch, 64] to a score for each count from 0 to 4: float32[batch, 5]."""
        parts = self.parts(signal.unsqueeze(1)).transpose(1, 2) + self.places
        return self.last(self.layers(parts).mean(1))


def signals(counts: npt.NDArray[np.int64], random: np.random.Generator) -> npt.NDArray[np.float32]:
    """Noise with so many pulses in it, in parts of their own: float32[rows, 64]."""
    rows = random.normal(0, 0.1, (len(counts), LENGTH))
    for row, count in zip(rows, counts, strict=True):
        for part in random.permutation(LENGTH // PATCH)[:count]:
            start = part * PATCH + random.integers(1, PATCH - 4)
            row[start : start + 3] += random.uniform(1, 2)
    return rows.astype(np.float32)


def main(out: Path) -> None:
    """Train for some seconds and save."""
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    model = Pulses()
    optimiser = torch.optim.AdamW(model.parameters(), 3e-3)
    for _ in range(STEPS):
        counts = random.integers(0, MOST + 1, ROWS)
        scores = model(torch.from_numpy(signals(counts, random)))
        loss = nn.functional.cross_entropy(scores, torch.from_numpy(counts))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    out.mkdir(parents=True, exist_ok=True)
    batch = {0: torch.export.Dim("batch", min=1)}
    program = torch.export.export(model.eval(), (torch.zeros(2, LENGTH),), dynamic_shapes=(batch,))
    torch.export.save(program, str(out / "pulses.pt2"))
    counts = np.arange(12) % (MOST + 1)
    rows = signals(counts, random)
    right = int((model(torch.from_numpy(rows)).argmax(1).numpy() == counts).sum())
    (out / "samples").mkdir(exist_ok=True)
    for number, row in enumerate(rows):
        np.savez(out / "samples" / f"{counts[number]}-{number}.npz", signal=row)
    print(f"{right} of 12 samples are told right")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
