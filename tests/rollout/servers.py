"""A server's models without the server: what `Traffic` asks for, in a folder of the test."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

from modelport.engine.traffic import Traffic
from modelport.errors import NotFound
from modelport.monitor.metrics import Metrics


class Models:
    """Models and versions by name; all are ready but those in `broken`."""

    def __init__(self, root: Path, **models: list[str]) -> None:
        self.root = root
        self.models = models
        self.broken: set[tuple[str, str]] = set()
        for name in models:
            (root / name).mkdir(exist_ok=True)

    def names(self) -> list[str]:
        return list(self.models)

    def versions(self, name: str) -> list[str]:
        if name not in self.models:
            raise NotFound(f"unknown model {name!r}")
        return self.models[name]

    def ready(self, name: str, version: str) -> bool:
        return version in self.models.get(name, ()) and (name, version) not in self.broken

    def folder(self, name: str) -> Path:
        self.versions(name)
        return self.root / name


def traffic_of(
    models: Models,
    *,
    metrics: Metrics | None = None,
    draw: Callable[[], float] | None = None,
    judges: int = 1,
) -> Traffic:
    """A server's traffic; its chance is always the same."""
    return Traffic(
        models,
        metrics=metrics.model if metrics is not None else None,
        draw=draw or random.Random(1).random,
        judges=judges,
    )
