"""A right server, and a proxy before it that can be told to be wrong."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from .proxy import Proxy

ROOT = Path(__file__).resolve().parents[2]


def scorecard() -> ModuleType:
    """scripts/conformance_scorecard.py as a module."""
    spec = importlib.util.spec_from_file_location("scorecard", ROOT / "scripts" / "conformance_scorecard.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["scorecard"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def right(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, int]]:
    """The HTTP and the gRPC port of a Modelport that serves the four models of the scorecard."""
    contestant = scorecard().Contestant("modelport", tmp_path_factory.mktemp("right"))
    contestant.start()
    yield contestant.port, contestant.grpc_port
    contestant.stop()


@pytest.fixture
def proxy(right: tuple[int, int]) -> Iterator[Proxy]:
    made = Proxy(right[0])
    yield made
    made.close()
