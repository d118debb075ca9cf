"""What Olive's configuration names: the calibration items, and the labelled ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from olive.data.registry import Registry


class Items(torch.utils.data.Dataset):
    """The prepared items, and a label that nobody reads."""

    def __init__(self, path: str) -> None:
        with np.load(path) as held:
            self._arrays = {name: held[name] for name in held.files}

    def __len__(self) -> int:
        return len(next(iter(self._arrays.values())))

    def __getitem__(self, place: int) -> tuple[dict[str, torch.Tensor], int]:
        return {name: torch.from_numpy(array[place]) for name, array in self._arrays.items()}, 0


@Registry.register_dataset()
def calibration_items(path: str, **_: Any) -> Items:
    """By the name that the configuration gives."""
    return Items(path)


class Labelled(torch.utils.data.Dataset):
    """The labelled items of a classifier, prepared, and their classes."""

    def __init__(self, bundle: str, truth: str) -> None:
        from benchmarks.optimize.judging import Judge
        from modelport.bundle.store import Bundle

        held = Bundle.open(bundle)
        self._judge = Judge(held, Path(truth))
        spec = held.manifest.graphs.net.signature.outputs[0]
        blank = {spec.name: np.zeros((1, *spec.shape[1:]), np.float32)}
        self._truth = [each.truth[0] for each in self._judge.outcomes(lambda batch: blank)]

    def __len__(self) -> int:
        return len(self._truth)

    def __getitem__(self, place: int) -> tuple[dict[str, torch.Tensor], int]:
        arrays = self._judge.input(place)
        return {name: torch.from_numpy(array[0]) for name, array in arrays.items()}, self._truth[place]


@Registry.register_dataset()
def labelled_items(bundle: str, truth: str, **_: Any) -> Labelled:
    """By the name that the configuration gives."""
    return Labelled(bundle, truth)


@Registry.register_post_process()
def best_class(output_data: torch.Tensor, **_: Any) -> torch.Tensor:
    """Scores to classes."""
    return output_data.argmax(1)
