"""What makes a candidate again: told in the report, and the key of what is kept of it in the work folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from .calibration import Calibration
from .candidate import Candidate, Pass, apply, identity
from .found import Found, key_of
from .outcome import Recipe
from .passes.reduced import Reduced


def recipe_of(step: Pass | Reduced, source: Candidate) -> Recipe:
    """What makes of `source` what `step` makes of it."""
    try:
        fields = msgspec.to_builtins(step)
    except TypeError:  # of a third party, and no struct
        fields = {}
    return Recipe(step.name, fields, source.id)


def key_of_making(step: Pass | Reduced, source: Candidate) -> str:
    """The same for the same step, settings and all, on the same network."""
    recipe = recipe_of(step, source)
    return key_of(*identity(source), msgspec.json.encode(recipe, order="deterministic"))


def key_of_network(candidate: Candidate) -> str:
    """The same for the same network, run in the same way."""
    return key_of(*identity(candidate))


def made_by(
    step: Pass, base: Candidate, calibrated: Callable[[Candidate], Calibration], found: Found
) -> Candidate:
    """What a step makes of `base`, now or in an earlier run.

    Args:
        calibrated: gives the items as a candidate prepares them.
        found: what an earlier run left.

    Raises:
        NotApplicable, Unsupported: as `apply` says.
    """

    def make(folder: Path) -> Candidate:
        return apply(step, base.bundle, calibrated(base), folder, base.passes)

    return found.candidate(step.id, key_of_making(step, base), make)
