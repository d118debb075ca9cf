"""RMSE, MAE and R2 on items as often as they were drawn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..tensors import Array
from .values import Measured


class RegressionScorer:
    """The metrics of a regression."""

    def __init__(self, outcomes: Sequence[Measured]) -> None:
        self.truth = np.array([outcome.truth for outcome in outcomes], np.float64)
        self.answer = np.array([outcome.answer for outcome in outcomes], np.float64)

    def values(self) -> dict[str, float | None]:
        """Each metric on all items."""
        once = self.resampled(np.ones((1, len(self.truth)), np.int32))
        return {name: float(array[0]) if np.isfinite(array[0]) else None for name, array in once.items()}

    def resampled(self, weights: Array) -> dict[str, Array]:
        """Metrics on draws: weights int32[r, items] -> float64[r] for each."""
        error = self.answer - self.truth
        total = weights.sum(axis=1)
        squares = weights @ error**2
        # R2 does not change when all targets are moved, and its sums lose fewer digits near 0.
        moved = self.truth - self.truth.mean()
        spread = weights @ moved**2 - (weights @ moved) ** 2 / total
        with np.errstate(invalid="ignore", divide="ignore"):
            r2 = np.where(spread > 0, 1 - squares / spread, np.nan)
        return {"rmse": np.sqrt(squares / total), "mae": weights @ np.abs(error) / total, "r2": r2}
