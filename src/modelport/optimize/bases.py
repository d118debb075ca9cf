"""Passes whose results the others work on: what changes the network's form before its numbers are changed."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from ..bundle.manifest import Manifest
from .candidate import Candidate, Pass
from .passes.frame import Frame
from .passes.heads import Heads
from .passes.shapes import StaticShapes
from .passes.simplify import Simplify
from .passes.unused import Unused

DETECTION = "object-detection"
EXACT = (Unused, StaticShapes)
"""Those that change no arithmetic."""


def bases_of(manifest: Manifest) -> Iterator[Pass]:
    """Each works on the result of the one before, where that is right; of several of one name the first is.

    Where packing left the decoding of boxes to `post` already, that comes before what gains little: what is
    judged takes time, and a small budget may have none for what is behind.
    """
    detector, post = manifest.task == DETECTION, manifest.steps.post
    yield Unused(steps=post)
    yield StaticShapes(shapes={spec.name: spec.shape for spec in manifest.graphs.pre.signature.outputs})
    last, first = Heads(steps=post, channels_last=True), Heads(steps=post)
    heads: list[Pass] = [last, first] if detector else []
    packed = any(each.name == Heads.name for each in manifest.variants)
    folded: list[Pass] = [Simplify()]
    yield from [*heads, *folded] if packed else [*folded, *heads]
    if detector:
        yield Frame(prepares=manifest.steps.pre, steps=post)


def fitted(step: Pass, base: Candidate) -> Pass:
    """The same with the answer's steps of what it works on, where something was changed."""
    if not isinstance(step, Heads | Frame):
        return step
    changed: Pass = msgspec.structs.replace(step, steps=base.bundle.manifest.steps.post)
    return changed
