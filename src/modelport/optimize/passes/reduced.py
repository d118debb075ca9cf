"""JPEG photos decoded at a fraction of their sides, where these are far larger than the network's input."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import msgspec

from ...bundle.manifest import Manifest, Variant
from ...bundle.store import Bundle
from ...errors import ModelportError
from ...steps.compile import PRE_STEPS
from ...steps.decode import picture_size, reduction_of
from ...steps.image import both_sides
from ...steps.resize import Letterbox, Resize
from ...steps.step import parse_steps
from ..calibration import Calibration
from ..candidate import Candidate, NotApplicable, version_after

FACTORS = (2, 1)
"""Of the sides that the first resize makes: where these are half of what is left, next to nothing is lost."""
LEAST = 8
"""Pixels of a side, as `Variant.reduced` has it."""


class Reduced(msgspec.Struct, frozen=True):
    """The same network on the same runtime; libjpeg makes fewer pixels of a photo, which are resized sooner.

    `least` is the height and width that are left at least; (0, 0) where the bundle says none.
    """

    name: ClassVar[str] = "photos"
    least: tuple[int, int] = (0, 0)

    @property
    def id(self) -> str:
        return self.name if self.least == (0, 0) else f"{self.name}-{self.least[0]}x{self.least[1]}"

    @property
    def title(self) -> str:
        at_least = "" if self.least == (0, 0) else ", at least {} x {}".format(*self.least)
        return f"photos decoded at 1/2, 1/4 or 1/8{at_least}"

    def of(self, candidate: Candidate) -> Candidate:
        """A candidate's own network on photos that are decoded so; `written` makes the bundle of it."""
        return candidate.then(self.id, self.title)

    def written(self, candidate: Candidate, folder: Path) -> Candidate:
        """The same with a bundle of its own in `folder`, whose variant says how photos are decoded."""
        made, start = self.of(candidate), candidate.bundle
        variant = Variant(self.id, start.manifest.graphs.net.file, reduced=self.least)
        bundle = start.derive(
            folder / made.id, {}, version=version_after(start, self.id), variants=(variant,)
        )
        return msgspec.structs.replace(made, bundle=bundle, variant=variant.name)


def reductions(bundle: Bundle, calibration: Calibration) -> Iterator[tuple[Reduced, str]]:
    """The fractions that may be tried, the most careful first, each with why it is not; empty where it is."""
    if bundle.manifest.decode.kind != "image":
        return
    try:
        height, width = sides(bundle.manifest)
    except NotApplicable as problem:
        yield Reduced(), str(problem)
        return
    steps = [Reduced((max(LEAST, each * height), max(LEAST, each * width))) for each in FACTORS]
    careful, bold = (
        [reduction_of(item, bundle.manifest.decode, step.least) for item in calibration.items]
        for step in steps
    )
    nothing = f"no item is a JPEG of which half is that large: {_largest(bundle, calibration)}"
    if max(bold) == 1:
        yield steps[1], nothing  # and so of what is larger
        return
    yield steps[0], nothing if max(careful) == 1 else ""
    as_well = "the items are decoded as with at least {} x {}".format(*steps[0].least)
    yield steps[1], as_well if bold == careful else ""


def decoded(bundle: Bundle, calibration: Calibration, step: Reduced) -> str:
    """At which fractions a step has the items decoded, in words."""
    divisors = Counter(reduction_of(item, bundle.manifest.decode, step.least) for item in calibration.items)
    said = [f"{divisors[each]} at 1/{each}" for each in sorted(divisors) if each > 1]
    said += [f"{divisors[1]} whole"] if divisors[1] else []
    return f"of {len(calibration.items)} items {', '.join(said)}"


def sides(manifest: Manifest) -> tuple[int, int]:
    """The height and width that the first step makes of any picture, or more.

    Raises:
        NotApplicable: it makes none of a known size, or the answer is in the photo's own pixels.
    """
    if manifest.carried:
        names = ", ".join(spec.name for spec in manifest.carried)
        raise NotApplicable(f"the answer is in the photo's own pixels ({names})")
    try:
        steps = parse_steps(manifest.steps.pre, PRE_STEPS, "$.steps.pre")
    except ModelportError as problem:
        raise NotApplicable(f"its steps are not known here: {problem.message}") from problem
    first = steps[0] if steps else None
    if not isinstance(first, Resize | Letterbox):
        what = f"its first step is {first.name}" if first is not None else "its steps are not listed"
        raise NotApplicable(f"the first thing done to a picture is to be a resize, and {what}")
    if isinstance(first, Letterbox):
        return both_sides(first.size)
    if first.size is not None:
        return both_sides(first.size)
    # With the aspect kept the shorter side is what has to be left; of `longer` that is no more than this.
    short = max(first.target(1, 1))
    return short, short


def _largest(bundle: Bundle, calibration: Calibration) -> str:
    """Of the items, in words."""
    sizes = [picture_size(item, bundle.manifest.decode) for item in calibration.items]
    width, height = max(sizes, key=lambda size: size[0] * size[1])
    return f"the largest has {height} x {width}"
