"""torchvision's transforms as a recipe, held against the transforms themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..errors import ModelportError
from ..steps.compile import PRE_STEPS
from ..steps.recipe import Recipe
from ..steps.step import parse_steps
from .pictures import LAST_DIGITS, Prepare, difference
from .source import Declared


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
        differs, count = difference(steps, prepare)
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
