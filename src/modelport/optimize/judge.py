"""Is a candidate still right? Paired with the START on the same items, and held against a margin.

Non-inferiority: a candidate passes where the interval of its change leaves no room for a loss beyond the
margin; it fails where even the figure itself is beyond it; in between the items are too few to tell, and it
is not taken. The interval is two-sided at 90 %, so that its lower end is the usual one-sided bound at 95 %.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec
import numpy as np

from ..client.many import in_order
from ..engine.settings import usable_cores
from ..errors import InputError, ModelportError
from ..evaluate.compare import Paired
from ..evaluate.matching import overlaps
from ..evaluate.run import evaluate
from ..evaluate.values import Comparison, Evaluation, Resampling, read, write
from ..tensors import Array
from ..verify.emulated import same_bits
from .candidate import Candidate, opened

LEVEL = 0.90
REPLICATES = 1000
PART = 40
"""Items that are asked first."""
SURE = 0.98
"""The interval's level there: one good candidate of a hundred is dropped too early."""
ROUNDING = 1e-9
"""Points: one item of 200 is half a point, whatever binary fractions make of it."""
LESS_IS_BETTER = frozenset({"rmse", "mae", "log_loss"})
IOU = 0.5
SCORE = 0.25
Z = 1.6449
"""Of the normal distribution: 95 % are below."""

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
    part: bool = False
    """Whether that was a part of the items, which left no doubt, so that the rest was not asked."""
    only_start: int | None = None
    """Items that the START alone has right; for classifiers."""
    only_candidate: int | None = None
    p_value: float | None = None
    """McNemar's: how probable such a split is by chance alone."""


class Judge(Protocol):
    """Holds candidates against the START."""

    def judge(self, candidate: Candidate) -> Judgement:
        """How the candidate's answers stand to the START's.

        Raises:
            ModelportError: it does not run.
        """
        ...


class ByLabels:
    """On labelled data: the main metric of `evaluate`, paired item by item.

    A part of the items is asked first. A candidate that is surely beyond the margin there is not asked the
    rest.

    Args:
        start: the START.
        data: what is known of which items.
        kept: where the START's evaluation is, or is put.
        settings: of `evaluate`.
        margin: the loss that is accepted, in points.
    """

    def __init__(
        self, start: Candidate, data: Path, kept: Path, settings: dict[str, Any], margin: float, gate: Gate
    ) -> None:
        self._data, self._settings = data, settings
        self._margin, self._gate = margin, gate
        evaluation = _read(kept)
        if evaluation is None:
            evaluation = self._evaluated(start)
            write(evaluation, kept)
        self._whole = Paired(evaluation, Resampling(REPLICATES, 0, LEVEL))
        self._part = Paired(evaluation, Resampling(REPLICATES, 0, SURE))
        self._screened = len(evaluation.outcomes) >= 3 * PART

    @property
    def start(self) -> Evaluation:
        """The START's own."""
        return self._whole.first

    def judge(self, candidate: Candidate) -> Judgement:
        """See `Judge`."""
        if self._screened:
            seen = self._part.compare(self._evaluated(candidate, PART))
            found = judgement_of(seen, self.start.main, self._margin, self._gate)
            if found.low > self._margin + ROUNDING:
                return msgspec.structs.replace(found, verdict="fails", part=True)
        whole = self._whole.compare(self._evaluated(candidate))
        return judgement_of(whole, self.start.main, self._margin, self._gate)

    def _evaluated(self, candidate: Candidate, limit: int | None = None) -> Evaluation:
        return evaluated(candidate, self._data, self._settings, limit)


def evaluated(
    candidate: Candidate, data: Path, settings: dict[str, Any], limit: int | None = None
) -> Evaluation:
    """A candidate on labelled data, or on at most `limit` items of it.

    Raises:
        ModelportError: as `evaluate`.
    """
    how: dict[str, Any] = {"runtime": candidate.runtime, "settings": candidate.settings}
    how |= {"variant": candidate.variant, **settings, "replicates": 0}
    if limit is not None:
        how["limit"] = limit
    return evaluate(candidate.bundle, data, **how)


def _read(kept: Path) -> Evaluation | None:
    if not kept.is_file():
        return None
    with contextlib.suppress(InputError):
        return read(kept)
    return None  # it was cut off


def judged(start: Evaluation, candidate: Evaluation, margin: float, gate: Gate = "interval") -> Judgement:
    """A candidate against the START on the same labelled items; see `judgement_of`."""
    compared = Paired(start, Resampling(REPLICATES, 0, LEVEL)).compare(candidate)
    return judgement_of(compared, start.main, margin, gate)


def judgement_of(compared: Comparison, metric: str, margin: float, gate: Gate) -> Judgement:
    """What a comparison says of the second of the two.

    Args:
        gate: what has to be within the margin.
        margin: the loss that is accepted, in points of the metric (0.5: half a hundredth); for errors such
            as rmse in hundredths of the START's.
    """
    change = compared.changes[metric]
    before, after = change.first or 0.0, change.second or 0.0
    scale = -100.0
    if metric in LESS_IS_BETTER:
        scale = 100.0 / before if before else 100.0
    ends = sorted(
        scale * (end if end is not None else after - before) + 0.0 for end in (change.low, change.high)
    )
    loss = scale * (after - before) + 0.0  # no minus before a zero
    test = compared.mcnemar
    return Judgement(
        by="accuracy",
        metric=metric,
        start=before,
        value=after,
        loss=loss,
        low=ends[0],
        high=ends[1],
        verdict=_verdict(loss, ends[1], margin, gate),
        items=compared.items,
        only_start=test.only_first if test else None,
        only_candidate=test.only_second if test else None,
        p_value=test.p_value if test else None,
    )


class ByAgreement:
    """Without labels: the share of items with the START's answer, which says nothing of who is right."""

    def __init__(self, start: Candidate, items: Sequence[bytes], margin: float, gate: Gate) -> None:
        self._items, self._margin, self._gate = items, margin, gate
        self._answers = list(_answers(start, items))

    def judge(self, candidate: Candidate) -> Judgement:
        """See `Judge`; it ends where the share is surely too small."""
        shares: list[float] = []
        for one, other in zip(self._answers, _answers(candidate, self._items), strict=False):
            shares.append(alike(one, other))
            if len(shares) == PART and 100 * (1 - _upper(sum(shares), PART)) > self._margin:
                break
        share, part = float(np.mean(shares)), len(shares) < len(self._items)
        loss, high = 100 * (1 - share), 100 * (1 - _lower(sum(shares), len(shares)))
        return Judgement(
            by="agreement",
            metric="agreement",
            start=1.0,
            value=share,
            loss=loss,
            low=100 * (1 - _upper(sum(shares), len(shares))),
            high=high,
            verdict="fails" if part else _verdict(loss, high, self._margin, self._gate),
            items=len(shares),
            part=part,
        )


def _answers(candidate: Candidate, items: Sequence[bytes]) -> Iterator[dict[str, Array]]:
    """All cores at work, an item on each."""
    with opened(candidate) as pipeline:

        def answer(item: bytes) -> dict[str, Array] | ModelportError:
            return pipeline.answer(pipeline.decode(item))

        for found in in_order(answer, items, usable_cores(), raises=True):
            assert isinstance(found, dict)  # what fails is raised
            yield found


def alike(one: dict[str, Array], other: dict[str, Array]) -> float:
    """How much of an answer is the same: 1 the best class, a share of the objects, or all numbers closely."""
    if "boxes" in one and "count" in one:
        return _objects_alike(one, other)
    if "indices" in one:
        return float(one["indices"].ravel()[0] == other["indices"].ravel()[0])
    return float(all(_close(one[name], other[name]) for name in one if name in other))


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


def same_answers(one: Candidate, other: Candidate, items: Sequence[bytes]) -> bool:
    """Whether two candidates answer the same bits for each of these items; False where one does not run."""
    try:
        return all(map(same_bits, _answers(one, items), _answers(other, items)))
    except ModelportError:
        return False


def same(items: int) -> Judgement:
    """Of what computes the same bytes, so that nothing has to be asked."""
    return Judgement(
        by="agreement",
        metric="agreement",
        start=1.0,
        value=1.0,
        loss=0.0,
        low=0.0,
        high=0.0,
        verdict="passes",
        items=items,
    )


def answers_needed(margin: float) -> int | None:
    """The fewest items of which not one may differ for agreement to be within the margin; None: no number.

    Wilson's interval of n hits of n leaves room for z² / (n + z²).
    """
    return int(np.ceil(Z * Z * (100 / margin - 1))) if margin > 0 else None


def needed(judgement: Judgement, margin: float) -> int | None:
    """About how many items would show that a candidate is within the margin; None where none would.

    The interval shrinks with the root of the items; where no answer differs, with the items.
    """
    if judgement.by == "agreement" and judgement.loss == 0:
        return answers_needed(margin)
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
    middle, spread = _wilson(hits, of)
    return middle - spread


def _upper(hits: float, of: int) -> float:
    middle, spread = _wilson(hits, of)
    return middle + spread


def _wilson(hits: float, of: int) -> tuple[float, float]:
    """The middle of a share's interval at two-sided 90 %, and half its width."""
    z, share = Z, hits / of
    middle = share + z * z / (2 * of)
    spread = z * float(np.sqrt(share * (1 - share) / of + z * z / (4 * of * of)))
    return middle / (1 + z * z / of), spread / (1 + z * z / of)
