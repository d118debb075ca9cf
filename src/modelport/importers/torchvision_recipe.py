"""torchvision's transforms as a recipe, held against the transforms themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..bundle.manifest import Decode
from ..errors import ModelportError
from ..steps.compile import PRE_STEPS, reference_pre
from ..steps.recipe import Recipe
from ..steps.step import PreStep, parse_steps
from ..tensors import Array
from . import golden as cases
from .source import Declared

LAST_DIGITS = 2e-6
"""Share of the largest number that floats may differ by."""

Prepare = Callable[[Array], Array]
"""A picture uint8 [height, width, 3] to what the transforms make of it."""


def recipe_of(told: Mapping[str, Any], prepare: Prepare, tell: Callable[[str], None]) -> Declared | None:
    """The recipe of a classifier, or None with the reason told.

    Args:
        told: `why`, and `steps` with `labels`, or a `problem`; of a process that is not trusted.
        prepare: the transforms themselves.
        tell: told why they are not taken.
    """
    why = str(told.get("why"))[:200]
    if not isinstance(told.get("steps"), list):
        tell(f"{why} are not taken for the recipe: they {str(told.get('problem'))[:300]}")
        return None
    try:
        steps = parse_steps(told["steps"], PRE_STEPS, "$.pre")
        differs, count = _differs(steps, prepare)
    except ModelportError as problem:
        tell(f"{why} are not taken for the recipe: {problem.message}")
        return None
    if differs > LAST_DIGITS:
        tell(
            f"{why} are not taken for the recipe: they do something that their settings do not say; the "
            f"steps differ by {differs:.2g} of the largest number on {count} pictures"
        )
        return None
    kept = "in every bit" if not differs else f"but for {differs:.1g} of the largest number"
    recipe = Recipe(
        name="torchvision",
        task="image-classification",
        description=f"As {why} prepare pictures.",
        parameters={"output": "", "top_k": 5},
        pre=tuple(told["steps"]),
        post=({"softmax": {"of": "$output"}}, {"top_k": {"k": "$top_k"}}, "labels"),
    )
    labels = tuple(str(label)[:200] for label in told.get("labels") or ())
    return Declared(recipe, f"{why}, and gives the same {kept} for {count} pictures", labels=labels)


def _differs(steps: Sequence[PreStep], prepare: Prepare) -> tuple[float, int]:
    """How far the steps are from the transforms, as a share of the largest number, and on how many
    pictures."""
    decode = cases.decoder(Decode(), ())
    worst, count = 0.0, 0
    for item in cases.made_up_pictures():
        image = decode(item.data)["image"]
        for picture in (image, np.ascontiguousarray(image[: len(image) * 2 // 3 | 1])):
            want, got = prepare(picture), reference_pre(steps, picture)
            count += 1
            if want.shape != got.shape or want.dtype != got.dtype:
                return np.inf, count
            scale = float(np.abs(want).max()) or 1.0
            worst = max(worst, float(np.abs(want.astype(np.float64) - got).max()) / scale)
    return worst, count
