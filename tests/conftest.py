"""Fixtures that more than one folder of tests uses."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """A folder of real models, photos and datasets, where there is one; the test skips where not."""
    folder = Path(os.environ.get("MODELPORT_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no test data at {folder} (set MODELPORT_TEST_DATA)")
    return folder


@pytest.fixture
def ultralytics_python(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The interpreter of the environment that ./test makes for Ultralytics; the test skips without it."""
    from modelport.isolation import environments

    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    monkeypatch.setenv(environments.VARIABLE, str(cache / "modelport-bench" / "environments"))
    found = environments.python_of(environments.table("ultralytics"))
    if found is None:
        pytest.skip(f"no environment of Ultralytics in {environments.root()}: ./test makes it")
    return found
