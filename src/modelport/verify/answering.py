"""The form of the network that answers on this machine, asked the golden cases.

Where a variant was chosen, it answers in the place of the network that was packed: in 8 bits, on another
runtime, on smaller photos. It is another form of the network, which was judged when it was chosen, so that it
is not held against a tolerance. How far its answers are from the recorded ones is said, and decides nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import msgspec
import numpy as np

from ..bundle.manifest import Tolerance
from ..bundle.store import Bundle
from ..errors import ModelportError
from ..runtimes.form import DEFAULT, form_of
from ..runtimes.machine import choose_variant
from ..runtimes.pipeline import Pipeline
from ..tensors import Array, Tensors
from .agreement import agree
from .detections import are_detections, same_objects
from .parity import compare


class Answering(msgspec.Struct, frozen=True, kw_only=True):
    """What answers here in the packed network's place, beside the recorded answers."""

    variant: str
    """By name; empty where the chosen one does not run here, and the network answers as it was packed."""
    runtime: str
    compared: int = 0
    """Golden cases that are answered with a class; of a detector the objects in them that either found."""
    agreeing: int = 0
    """Those with the recorded class first; of objects those that both found."""
    of: Literal["cases", "objects", "numbers"] = "numbers"
    """What was counted; of `numbers` there is the difference alone."""
    max_difference: float = 0.0
    """The largest absolute difference of a number of the answer; of objects, of the score of one in both."""
    same_network: bool = False
    """Whether its graph is that of the network as packed: only where it ends, or a setting, is another."""
    problem: str = ""
    """Why it does not answer, where it does not."""
    passed_over: str = ""
    """The variant that was chosen for this machine and does not run here, with the reason; empty else."""

    def sentence(self) -> str:
        """The finding in words."""
        name = f"variant {self.variant}" if self.variant else "the network as it was packed"
        said = (
            f"{name} answers here, on {self.runtime}: {self._found()}" if self.variant else f"{name} answers"
        )
        return f"{self.passed_over}; {said}" if self.passed_over else said

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; a difference that is no number is null."""
        known = self.max_difference if np.isfinite(self.max_difference) else None
        return {**msgspec.to_builtins(self), "max_difference": known}

    def _found(self) -> str:
        if self.problem:
            return f"it fails: {self.problem}"
        apart = f"{self.max_difference:.3g}"
        if self.of == "cases":
            same = f"{self.agreeing} of {self.compared} golden cases have the recorded class first"
            return f"{same}, largest difference of a score {apart}"
        if self.of == "objects":
            same = f"{self.agreeing} of {self.compared} objects in the golden cases are found by both"
            return f"{same}, largest difference of their scores {apart}"
        return f"largest difference from the recorded answers {apart}"


def answering(
    bundle: Bundle,
    cases: Iterable[tuple[bytes, Tensors]],
    *,
    runtime: str | None = None,
    threads: int = 1,
) -> Answering | None:
    """What answers here, asked about `cases`; None where no variant is chosen for this machine.

    Args:
        bundle: with its variants.
        cases: an encoded item and its recorded answer, with a batch axis of one row.
        runtime: as `form_of` takes it.
        threads: threads of one network run.
    """
    chosen = choose_variant(bundle.manifest, None)
    if chosen is None or bundle.manifest.graphs.net.function is not None:
        return None
    form = form_of(bundle, None, runtime)
    over = ""
    if form.variant != chosen.name:
        reason = (
            _refused(bundle, chosen.name)
            if runtime in (None, chosen.runtime)
            else f"it is of {chosen.runtime}"
        )
        over = f"variant {chosen.name}, chosen for this machine, does not run here: {reason}"
    packed = (form.file, form.runtime) == (bundle.manifest.graphs.net.file, DEFAULT)
    about = Answering(
        variant=form.variant,
        runtime=form.runtime,
        same_network=packed and form.pre is None and form.reduced is None,
        passed_over=over,
    )
    if not form.variant:
        return about
    try:
        with Pipeline.open(bundle, threads=threads, runtime=runtime) as pipeline:
            pairs = [(_batch(pipeline.answer(pipeline.decode(item))), answer) for item, answer in cases]
    except ModelportError as problem:
        return msgspec.structs.replace(about, problem=problem.message)
    return _compared(about, pairs)


def _compared(about: Answering, pairs: Sequence[tuple[Tensors, Tensors]]) -> Answering:
    if any(are_detections(want) for _, want in pairs):
        counts = [same_objects(got, want) for got, want in pairs]
        return msgspec.structs.replace(
            about,
            of="objects",
            agreeing=sum(both for both, _, _ in counts),
            compared=sum(either for _, either, _ in counts),
            max_difference=max((apart for _, _, apart in counts), default=0.0),
        )
    same = [found for got, want in pairs if (found := agree(got, want)) is not None]
    return msgspec.structs.replace(
        about,
        of="cases" if same else "numbers",
        agreeing=sum(same),
        compared=len(same),
        max_difference=max((_apart(got, want) for got, want in pairs), default=0.0),
    )


def _apart(got: Tensors, want: Tensors) -> float:
    """The largest difference of floats; of ranked classes, of the score of one that both have."""
    if "scores" in want and "indices" in want and {"scores", "indices"} <= got.keys():
        scores = dict(zip(got["indices"].ravel().tolist(), got["scores"].ravel().tolist(), strict=False))
        ranked = zip(want["indices"].ravel().tolist(), want["scores"].ravel().tolist(), strict=False)
        return max((abs(scores[index] - score) for index, score in ranked if index in scores), default=0.0)
    return max((_furthest(got[name], want[name]) for name in want if name in got), default=0.0)


def _furthest(got: Array, want: Array) -> float:
    return compare(got, want, Tolerance()).max_abs if want.dtype.kind == "f" else 0.0


def _refused(bundle: Bundle, variant: str) -> str:
    """Why a variant does not run here: opening it by name says so."""
    try:
        Pipeline.open(bundle, variant=variant).close()
    except ModelportError as problem:
        return f"{problem.message} ({problem.hint})" if problem.hint else problem.message
    return "its runtime has not the settings that it was measured with"


def _batch(item: Tensors) -> dict[str, Array]:
    return {name: array[None] for name, array in item.items()}
