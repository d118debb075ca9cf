"""What Olive's configuration names: the calibration items, and the accuracy of what it tries."""

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


_judges: dict[str, Any] = {}


def evaluate(
    model: Any, device: Any = None, execution_providers: Any = None, **told: str
) -> dict[str, float]:
    """The main metric on the labelled items."""
    from benchmarks.optimize.judging import Judge
    from benchmarks.optimize.networks import InOnnxRuntime, outputs_of
    from modelport.bundle.store import Bundle

    bundle = Bundle.open(told["bundle"])
    if told["bundle"] not in _judges:
        _judges[told["bundle"]] = Judge(bundle, Path(told["truth"]))
    judge = _judges[told["bundle"]]
    network = InOnnxRuntime(Path(model.model_path), outputs_of(bundle), threads=2)
    return {"score": judge.score(judge.outcomes(network.run))}
