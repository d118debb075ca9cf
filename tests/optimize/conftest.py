"""What several files of tests search on; one that needs other pictures has fixtures of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelport.bundle.store import Bundle

from .networks import packed, pictures


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of each file of tests."""
    return tmp_path_factory.mktemp("search")


@pytest.fixture(scope="module")
def start(place: Path) -> Bundle:
    """The bundle that is searched on."""
    return packed(place)


@pytest.fixture(scope="module")
def data(place: Path) -> Path:
    """Two dozen pictures of its classes."""
    return pictures(place / "pictures", 24)
