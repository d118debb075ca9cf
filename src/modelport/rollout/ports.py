"""What a rollout asks of the server that it runs in: which versions are ready, and where figures go."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol


class Versions(Protocol):
    """The models that this server has."""

    def names(self) -> list[str]:
        """Their names."""
        ...

    def versions(self, name: str) -> list[str]:
        """A model's versions, oldest first. Raises NotFound."""
        ...

    def ready(self, name: str, version: str) -> bool:
        """Whether a version would answer now. Asked for each request of a model with a plan."""
        ...

    def folder(self, name: str) -> Path:
        """`REPO/NAME`, where the rollout is kept. Raises NotFound."""
        ...


class VersionMetrics(Protocol):
    """One version's metrics; `monitor.metrics.ModelMetrics` is one."""

    gauges: dict[str, float]

    def gauge(self, name: str, value: float, weight: float = 1.0, /) -> None: ...

    def count(self, name: str, times: int = 1, /) -> None: ...


Metrics = Callable[[str, str], VersionMetrics]
"""(model, version) -> its metrics: `Metrics().model` of `monitor`."""
