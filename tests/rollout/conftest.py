"""A server's models, and its traffic."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelport.engine.traffic import Traffic

from .servers import Models, traffic_of


@pytest.fixture
def models(tmp_path: Path) -> Models:
    return Models(tmp_path, m=["1", "2", "3"], other=["1"])


@pytest.fixture
def traffic(models: Models) -> Traffic:
    return traffic_of(models)
