"""torchvision's transforms as a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .source import Declared


def recipe_of(transforms: Mapping[str, Any]) -> Declared | None:
    """Not yet."""
    return None
