"""Is a candidate still right? Paired with the START on the same items, and held against a margin.

Non-inferiority: a candidate passes where the interval of its change leaves no room for a loss beyond the
margin; it fails where even the figure itself is beyond it; in between the items are too few to tell, and it
is not taken. The interval is two-sided at 90 %, so that its lower end is the usual one-sided bound at 95 %.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from ..bundle.store import Bundle
from ..evaluate.compare import compare
from ..evaluate.matching import overlaps
from ..evaluate.run import evaluate
from ..evaluate.values import Evaluation, Resampling
from ..runtimes.pipeline import Pipeline
from ..tensors import Array
from .calibration import Calibration

LEVEL = 0.90
REPLICATES = 2000
ROUNDING = 1e-9
"""Points: one item of 200 is half a point, whatever binary fractions make of it."""
LESS_IS_BETTER = frozenset({"rmse", "mae", "log_loss"})
IOU = 0.5
SCORE = 0.25

Gate = Literal["interval", "estimate"]
"""What has to be within the margin: the whole interval of the loss, or only the loss that was seen."""
Verdict = Literal["passes", "undecided", "fails"]


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """How a candidate's answers stand to the START's."""

    by: Literal["accuracy", "agreement"]
    metric: str
    start: float
    value: float
    loss: float
    """What is lost, in points (hundredths) for shares, in the metric's unit else; negative is gained."""
    low: float
    high: float
    """The interval of the loss."""
    verdict: Verdict
    items: int
    p_value: float | None = None
    """McNemar's, for classifiers: how probable such a split is by chance alone."""


def evaluated(bundle: Bundle, data: Path, settings: dict[str, Any]) -> Evaluation:
    """The whole bundle on labelled data."""
    return evaluate(bundle, data, **{**settings, "replicates": 0})


def judged(start: Evaluation, candidate: Evaluation, margin: float, gate: Gate = "interval") -> Judgement:
    """A candidate against the START on the same labelled items.

    Args:
        gate: what has to be within the margin.
        margin: the loss that is accepted, in points of the main metric (0.5: half a hundredth); for errors
            such as rmse in hundredths of the START's.
    """
    compared = compare(start, candidate, Resampling(REPLICATES, 0, LEVEL))
    change = compared.changes[start.main]
    before, after = change.first or 0.0, change.second or 0.0
    scale = -100.0
    if start.main in LESS_IS_BETTER:
        scale = 100.0 / before if before else 100.0
    ends = sorted(
        scale * (end if end is not None else after - before) + 0.0 for end in (change.low, change.high)
    )
    loss = scale * (after - before) + 0.0  # no minus before a zero
    return Judgement(
        by="accuracy",
        metric=start.main,
        start=before,
        value=after,
        loss=loss,
        low=ends[0],
        high=ends[1],
        verdict=_verdict(loss, ends[1], margin, gate),
        items=compared.items,
        p_value=compared.mcnemar.p_value if compared.mcnemar else None,
    )


def agreement(
    start: Bundle, candidate: Bundle, items: Calibration, margin: float, gate: Gate = "interval"
) -> Judgement:
    """Without labels: the share of items with the START's answer, which says nothing of who is right."""
    with Pipeline.open(start) as first, Pipeline.open(candidate) as second:
        same = [
            alike(first.answer(first.decode(item)), second.answer(second.decode(item)))
            for item in items.items
        ]
    share = float(np.mean(same))
    loss, high = 100 * (1 - share), 100 * (1 - _lower(sum(same), len(same)))
    return Judgement(
        by="agreement",
        metric="agreement",
        start=1.0,
        value=share,
        loss=loss,
        low=0.0,
        high=high,
        verdict=_verdict(loss, high, margin, gate),
        items=len(same),
    )


def alike(one: dict[str, Array], other: dict[str, Array]) -> float:
    """How much of an answer is the same: 1 the best class, a share of the objects, or all numbers closely."""
    if "boxes" in one and "count" in one:
        return _objects_alike(one, other)
    if "indices" in one:
        return float(one["indices"].ravel()[0] == other["indices"].ravel()[0])
    same = [_close(one[name], other[name]) for name in one if name in other]
    return float(all(same))


def _close(one: Array, other: Array) -> bool:
    if one.shape != other.shape or one.dtype.kind not in "fiub":
        return bool(np.array_equal(one, other))
    scale = float(np.abs(one[np.isfinite(one)]).max(initial=0.0)) if one.size else 0.0
    return bool(np.allclose(one, other, rtol=1e-2, atol=1e-2 * scale, equal_nan=True))


def _objects_alike(one: dict[str, Array], other: dict[str, Array]) -> float:
    """Objects found by both (same class, half of the union shared) over those found by either."""
    (kinds, boxes), (other_kinds, other_boxes) = _objects(one), _objects(other)
    if not len(kinds) and not len(other_kinds):
        return 1.0
    able = (overlaps(boxes, other_boxes) >= IOU) & (kinds[:, None] == other_kinds)
    both = 0
    for row in able:
        if row.any():
            able[:, int(row.argmax())] = False
            both += 1
    return both / (len(kinds) + len(other_kinds) - both)


def _objects(answer: dict[str, Array]) -> tuple[Array, Array]:
    """The classes [n] and the boxes [n, 4] of the objects that somebody would be shown."""
    count = int(np.ravel(answer["count"])[0])
    shown = np.flatnonzero(answer["scores"].ravel()[:count] >= SCORE)
    return answer["classes"].ravel()[shown], answer["boxes"].reshape(-1, 4)[shown]


def needed(judgement: Judgement, margin: float) -> int | None:
    """About how many items would show that a candidate is within the margin; None where none would.

    The interval shrinks with the root of the items.
    """
    room, width = margin - judgement.loss, judgement.high - judgement.loss
    if room <= 0 or width <= 0:
        return None
    return int(np.ceil(judgement.items * (width / room) ** 2))


def _verdict(loss: float, worst: float, margin: float, gate: Gate) -> Verdict:
    margin += ROUNDING
    if worst <= margin or (gate == "estimate" and loss <= margin):
        return "passes"
    return "undecided" if loss <= margin else "fails"


def _lower(hits: float, of: int) -> float:
    """Wilson's lower bound of a share at one-sided 95 %."""
    z, share = 1.6449, hits / of
    middle = share + z * z / (2 * of)
    spread = z * float(np.sqrt(share * (1 - share) / of + z * z / (4 * of * of)))
    return (middle - spread) / (1 + z * z / of)
