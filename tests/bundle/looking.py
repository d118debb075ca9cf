"""What the tests of the store have in common: damaging a bundle, and looking at what is left."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelport.bundle.store import Bundle
from modelport.errors import BundleError

Edit = Callable[[dict[str, Any]], None]
Tamper = Callable[[Edit], Path]
"""Writes a bundle whose manifest was edited, and gives its place."""


def refusal(path: Path) -> str:
    """What the refusal to open says."""
    with pytest.raises(BundleError) as caught:
        Bundle.open(path)
    return str(caught.value)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, by its relative name."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }
