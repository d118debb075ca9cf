"""Without labels: is a candidate's answer the START's? That says nothing of who is right."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
import numpy as np

from ..client.many import in_order
from ..engine.cores import usable_cores
from ..errors import InputError, ModelFailed, ModelportError
from ..evaluate.matching import overlaps
from ..sampling import evenly
from ..tensors import Array
from ..verify.emulated import same_bits
from .calibration import LEAST, Calibration
from .candidate import Candidate, opened
from .judge import PART, ROUNDING, SCREENED, Gate, Judgement, left_out_note, verdict_of
from .shares import Z_SURE, Z, bounds

IOU = 0.5
SCORE = 0.25
Answer = dict[str, Array]


class ByAgreement:
    """The share of items with the START's answer.

    A part of the items is asked first, as of labelled ones: see `ByLabels`.

    Args:
        start: the START.
        items: encoded; those that the START does not answer are left out.
        margin: the share that may be answered otherwise, in points.

    Raises:
        InputError: the START answers none of the items. ModelportError: it does not run.
    """

    def __init__(self, start: Candidate, items: Sequence[bytes], margin: float, gate: Gate) -> None:
        self._margin, self._gate = margin, gate
        found = list(zip(items, _answers(start, items), strict=True))
        faults = [str(answer) for _, answer in found if not isinstance(answer, dict)]
        asked = [(item, answer) for item, answer in found if isinstance(answer, dict)]
        _check_answered(len(asked), 1, faults)
        first = set(evenly(range(len(asked)), PART))
        # Files come class by class: the part that is asked first is of all of them.
        order = sorted(range(len(asked)), key=lambda place: place not in first)
        self._items, self._answers = zip(*(asked[place] for place in order), strict=True)
        self._left_out = left_out_note(faults, len(found))

    @property
    def notes(self) -> tuple[str, ...]:
        """See `Judge`."""
        return tuple(filter(None, (self._left_out,)))

    def judge(self, candidate: Candidate) -> Judgement:
        """See `Judge`."""
        shares: list[float] = []
        faults: list[ModelportError] = []
        part = False
        for one, other in zip(self._answers, _answers(candidate, self._items), strict=False):
            fault = _fault(one, other)
            if fault is not None:
                faults.append(fault)
            elif isinstance(other, dict):
                shares.append(alike(one, other))
            part = len(shares) + len(faults) == PART and self._surely_wrong(shares, faults)
            if part:
                break
        if not shares:
            raise faults[0]
        lowest, highest = bounds(sum(shares), len(shares), Z_SURE if part else Z)
        share = float(np.mean(shares))
        loss, high = 100 * (1 - share), 100 * (1 - lowest)
        wrong = part or bool(faults)
        return Judgement(
            by="agreement",
            metric="agreement",
            start=1.0,
            value=share,
            loss=loss,
            low=100 * (1 - highest),
            high=high,
            verdict="fails" if wrong else verdict_of(loss, high, self._margin, self._gate),
            items=len(shares),
            part=part,
            failed=len(faults),
            error=str(faults[0]) if faults else "",
        )

    def _surely_wrong(self, shares: Sequence[float], faults: Sequence[ModelportError]) -> bool:
        """Whether these leave no doubt, so that the other items need not be asked."""
        if len(self._items) < SCREENED:
            return False
        if faults:
            return True
        _, highest = bounds(sum(shares), len(shares), Z_SURE)
        return 100 * (1 - highest) > self._margin + ROUNDING


def answered(calibration: Calibration, start: Candidate) -> Calibration:
    """The items that the START answers, with a note of the others: ranges and times are taken of these.

    Raises:
        InputError: it answers too few of them. ModelportError: it does not run.
    """
    found = list(_answers(start, calibration.items))
    faults = [str(answer) for answer in found if not isinstance(answer, dict)]
    if not faults:
        return calibration
    _check_answered(len(found) - len(faults), LEAST, faults)
    places = [place for place, answer in enumerate(found) if isinstance(answer, dict)]
    note = left_out_note(faults, len(found), "ranges and times are taken of")
    return msgspec.structs.replace(
        calibration,
        names=tuple(calibration.names[place] for place in places),
        items=tuple(calibration.items[place] for place in places),
        prepared=tuple(calibration.prepared[place] for place in places),
        notes=(*calibration.notes, note),
    )


def _check_answered(count: int, least: int, faults: Sequence[str]) -> None:
    if count < least:
        raise InputError(
            f"the bundle as it is answers {count or 'none'} of {count + len(faults)} items, and at least "
            f"{least} are needed; the first that it fails on: {faults[0]}",
            hint="give items that `modelport predict` answers",
        )


def _answers(candidate: Candidate, items: Sequence[bytes]) -> Iterator[Answer | ModelportError]:
    """All cores at work, an item on each; an item that fails gives the reason.

    Raises:
        ModelportError: what is no item's fault.
    """
    with opened(candidate) as pipeline:

        def answer(item: bytes) -> Answer | ModelportError:
            try:
                return pipeline.answer(pipeline.decode(item))
            except (InputError, ModelFailed) as problem:
                return problem

        yield from in_order(answer, items, usable_cores(), raises=False)


def _fault(one: Answer, other: Answer | ModelportError) -> ModelportError | None:
    """Why the other is no answer beside the START's; NaN is none where the START has numbers."""
    if not isinstance(other, dict):
        return other
    for name, array in other.items():
        if _has_nan(array) and name in one and not _has_nan(one[name]):
            return InputError(f"the answer holds NaN in {name!r}")
    return None


def _has_nan(array: Array) -> bool:
    return array.dtype.kind == "f" and bool(np.isnan(array).any())


def same_answers(one: Candidate, other: Candidate, items: Sequence[bytes]) -> bool:
    """Whether two candidates answer the same bits for each of these items; False where one does not run."""
    try:
        pairs = zip(_answers(one, items), _answers(other, items), strict=True)
        return all(isinstance(a, dict) and isinstance(b, dict) and same_bits(a, b) for a, b in pairs)
    except ModelportError:
        return False


def alike(one: Answer, other: Answer) -> float:
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


def _objects_alike(one: Answer, other: Answer) -> float:
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


def _objects(answer: Answer) -> tuple[Array, Array]:
    """The classes [n] and the boxes [n, 4] of the objects that somebody would be shown."""
    count = int(np.ravel(answer["count"])[0])
    shown = np.flatnonzero(answer["scores"].ravel()[:count] >= SCORE)
    return answer["classes"].ravel()[shown], answer["boxes"].reshape(-1, 4)[shown]
