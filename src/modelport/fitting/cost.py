"""What each wrong variant costs: the network's accuracy on labelled pictures, picture by picture."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from ..bundle.store import Bundle
from ..errors import InputError, ModelportError, UsageError
from ..evaluate.compare import mcnemar
from ..evaluate.data.item import Item
from ..evaluate.data.names import Classes
from ..evaluate.data.read import read_data
from ..evaluate.outcomes import classified
from ..files import read_limited
from ..runtimes.pipeline import Pipeline
from ..sampling import evenly
from ..steps.compile import PRE_STEPS, reference_pre
from ..steps.decode import decode_image
from ..steps.step import parse_steps
from ..tensors import Array
from .finding import Finding
from .variants import Steps, variants

Track = Callable[[Iterable[Any], int], Iterable[Any]]
FOUND = "as found"
_BATCH = 16


class Cost(msgspec.Struct, frozen=True):
    """One way to prepare the pictures, and what the network makes of them."""

    name: str
    top1: float
    difference: float = 0.0
    """From the found steps, as a share."""
    low: float = 0.0
    high: float = 0.0
    """The 95 % interval of the paired difference."""
    lost: int = 0
    """Pictures that only the found steps get right."""
    won: int = 0
    """Pictures that only this one gets right."""
    p_value: float = 1.0
    """McNemar's exact test."""


class Costs(msgspec.Struct, frozen=True):
    """The found steps first, then the others, the dearest first."""

    bundle: str
    pictures: int
    rows: tuple[Cost, ...]
    skipped: tuple[str, ...] = ()
    """Variants that the network cannot be given, and why."""


def costs_of(
    finding: Finding, bundle: Path, labels: Path, *, limit: int | None = None, track: Track | None = None
) -> Costs:
    """Answer the labelled pictures with the network of `bundle`, prepared in each way.

    Args:
        labels: a folder for each class, or a table of file,label.
        limit: at most so many pictures, evenly picked.
        track: wraps the pictures, with their number.

    Raises:
        UsageError: the found steps do not make what the network takes. InputError, NotFound: no labels,
            or classes that the bundle does not have.
    """
    opened = Bundle.open(bundle)
    with Pipeline.open(opened) as pipeline:
        items, meant = _labelled(opened, labels, limit)
        ways = _ways(finding, opened)
        right: dict[str, list[bool]] = {name: [] for name in ways}
        skipped: dict[str, str] = {}
        tracked = iter(track(items, len(items)) if track else items)
        while batch := list(islice(tracked, _BATCH)):
            pictures = [_picture(item, opened) for item in batch]
            truths = [meant[item.truth] for item in batch]
            for name, steps in ways.items():
                if name in skipped:
                    continue
                try:
                    right[name] += _right(pipeline, steps, pictures, truths)
                except (InputError, UsageError) as problem:
                    if name == FOUND:
                        raise UsageError(
                            f"the network of {opened.manifest.name} does not take what the steps make: "
                            f"{problem.message}"
                        ) from problem
                    skipped[name] = problem.message
    rows = [_cost(name, right[FOUND], got) for name, got in right.items() if name not in skipped]
    rows = [rows[0], *sorted(rows[1:], key=lambda row: row.difference)]
    name = f"{opened.manifest.name} {opened.manifest.version}"
    return Costs(name, len(items), tuple(rows), tuple(f"{one}: {why}" for one, why in skipped.items()))


def _labelled(
    bundle: Bundle, labels: Path, limit: int | None
) -> tuple[list[Item], Mapping[Any, tuple[int, ...]]]:
    if bundle.manifest.task == "object-detection" or bundle.manifest.decode.kind != "image":
        raise UsageError(
            f"{bundle.manifest.name} is for {bundle.manifest.task}; "
            "the cost of a variant is told for classifiers of pictures"
        )
    data = read_data(labels, bundle.manifest.task)
    items = evenly(data.items, limit or len(data.items))
    try:
        return items, Classes(bundle.labels()).find_all(item.truth for item in items)
    except InputError as problem:
        hint = (
            "the names of its labels, or the classes' indices; modelport pack --labels FILE gives it labels"
        )
        raise InputError(problem.message, at=str(labels), hint=hint) from problem


def _ways(finding: Finding, bundle: Bundle) -> dict[str, Steps]:
    ways = {FOUND: finding.steps}
    own = parse_steps(bundle.manifest.steps.pre, PRE_STEPS, "$.steps.pre")
    if own != finding.steps:
        ways["as the bundle is packed"] = own
    return ways | variants(finding.steps)


def _picture(item: Item, bundle: Bundle) -> Array:
    assert isinstance(item.source, Path)
    decode = bundle.manifest.decode
    try:
        return decode_image(read_limited(item.source, decode.max_bytes), decode)
    except ModelportError as problem:
        raise InputError(problem.message, at=item.name, hint=problem.hint) from problem


def _right(
    pipeline: Pipeline, steps: Steps, pictures: list[Array], truths: list[tuple[int, ...]]
) -> list[bool]:
    """Whether the best class is right, picture by picture."""
    spec = pipeline.bundle.manifest.graphs.net.signature.inputs[0]
    rows = [reference_pre(steps, picture) for picture in pictures]
    if spec.dtype != rows[0].dtype.name:
        raise UsageError(f"it takes {spec.dtype}, the steps make {rows[0].dtype.name}")
    answer = pipeline.post(pipeline.net({spec.name: np.stack(rows)}))
    return [
        classified("", truth, {name: array[row] for name, array in answer.items()}).rank == 0
        for row, truth in enumerate(truths)
    ]


def _cost(name: str, found: list[bool], got: list[bool]) -> Cost:
    one, two = np.array(found), np.array(got)
    lost, won, n = int((one & ~two).sum()), int((two & ~one).sum()), len(one)
    difference = (won - lost) / n
    error = 1.96 * math.sqrt(max(0.0, (won + lost) / n - difference**2) / n)
    return Cost(
        name,
        float(two.mean()),
        difference,
        difference - error,
        difference + error,
        lost,
        won,
        mcnemar(lost, won),
    )
