"""Versions that answer no more, until they are through with what they have taken."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ..monitor.metrics import ModelMetrics
from .model import LiveModel


class Retiring:
    """Closes versions in the background."""

    def __init__(self) -> None:
        self._models: dict[asyncio.Task[None], LiveModel] = {}

    def __len__(self) -> int:
        """How many are not through yet."""
        return len(self._models)

    def add(self, model: LiveModel, ended: Callable[[], None]) -> None:
        """Take `model` out of service and close it when it is through; then call `ended`."""
        model.retire()

        def closed(task: asyncio.Task[None]) -> None:
            del self._models[task]
            ended()

        task = asyncio.ensure_future(model.close())
        self._models[task] = model
        task.add_done_callback(closed)

    def counts(self, metrics: ModelMetrics) -> bool:
        """Whether one of them counts there still."""
        return any(model.metrics is metrics for model in self._models.values())

    async def finished(self) -> None:
        """Wait for all; raises what closing one of them did. Who stops waiting stops none of them."""
        await asyncio.shield(asyncio.gather(*self._models))
