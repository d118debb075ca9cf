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
