"""Is a candidate still right? Paired with the START on the same items, and held against a margin.

Non-inferiority: a candidate passes where the interval of its change leaves no room for a loss beyond the
margin; it fails where even the figure itself is beyond it; in between the items are too few to tell, and it
is not taken. The interval is two-sided at 90 %, so that its lower end is the usual one-sided bound at 95 %,
and no narrower than what so few items can show. One that fails on items that the START answers is not right.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec

from ..errors import InputError
from ..evaluate.compare import Paired
from ..evaluate.run import evaluate
from ..evaluate.values import Change, Comparison, Evaluation, Resampling, read, write
from .candidate import Candidate
from .shares import answers_needed, unseen

LEVEL = 0.90
REPLICATES = 1000
PART = 40
"""Items that are asked first."""
SCREENED = 3 * PART
"""Of fewer items all are asked at once."""
SURE = 0.98
"""The interval's level there: one good candidate of a hundred is dropped too early."""
LABELLED = 8
"""Items with known answers: fewer tell nothing."""
MOSTLY = 0.25
"""The accuracy below which a bundle is mostly wrong."""
ROUNDING = 1e-9
"""Points: one item of 200 is half a point, whatever binary fractions make of it."""
LESS_IS_BETTER = frozenset({"rmse", "mae", "log_loss"})
"""Errors. The other metrics are shares of the items, or of what is in them."""
ANYTHING = 100.0
"""Points that may be lost, or gained, where nothing is known: all."""

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
    failed: int = 0
    """Items that the START answers and the candidate does not; the figures are of those that both answer."""
    error: str = ""
    """Why it does not answer the first of them."""

    @property
    def harmless(self) -> bool:
        """Whether nothing is lost by a change that should change nothing."""
        return self.verdict == "passes" or (self.verdict == "undecided" and self.loss <= 0)


class Judge(Protocol):
    """Holds candidates against the START."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What is to be known: items that are left out since the START does not answer them, odd labels."""
        ...

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

    Raises:
        ModelportError: the START answers nothing, or nothing that a loss could be told from.
    """

    def __init__(
        self, start: Candidate, data: Path, kept: Path, settings: dict[str, Any], margin: float, gate: Gate
    ) -> None:
        self._data, self._settings = data, settings
        self._margin, self._gate = margin, gate
        evaluation = _read(kept)
        if evaluation is None:
            evaluation = evaluated(start, data, settings)
            write(evaluation, kept)
        check_defined(evaluation)
        self._whole = Paired(evaluation, Resampling(REPLICATES, 0, LEVEL))
        self._part = Paired(evaluation, Resampling(REPLICATES, 0, SURE))
        self._screened = len(evaluation.outcomes) >= SCREENED

    @property
    def start(self) -> Evaluation:
        """The START's own."""
        return self._whole.first

    @property
    def notes(self) -> tuple[str, ...]:
        """See `Judge`."""
        left_out = left_out_note([each.error for each in self.start.failed], self.start.items)
        return tuple(filter(None, (left_out, _mostly_wrong(self.start))))

    def judge(self, candidate: Candidate) -> Judgement:
        """See `Judge`."""
        if self._screened:
            found = held(self._part, self._evaluated(candidate, PART), self._margin, self._gate)
            if found.failed or found.low > self._margin + ROUNDING:
                return msgspec.structs.replace(found, verdict="fails", part=True)
        return held(self._whole, self._evaluated(candidate), self._margin, self._gate)

    def _evaluated(self, candidate: Candidate, limit: int | None = None) -> Evaluation:
        # The targets of a part may look like classes where all of them do not.
        settings = self._settings | {"kind": self.start.task}
        return evaluated(candidate, self._data, settings, limit)


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


def _mostly_wrong(start: Evaluation) -> str:
    """That a classifier is nearly always wrong on these labels; empty where it is not."""
    value = start[start.main]
    if start.main != "accuracy" or value is None or value >= MOSTLY:
        return ""
    return (
        f"the bundle as it is has accuracy {value:.3g} on these labels, and what is mostly wrong has little "
        "to lose: candidates pass that change its answers; are these the model's labels?"
    )


def check_defined(start: Evaluation) -> None:
    """That there is a metric to lose.

    Raises:
        InputError: there are too few items, or it is not defined on these: no picture has a true box.
    """
    if len(start.outcomes) < LABELLED:
        raise InputError(
            f"{start.data}: {len(start.outcomes)} items with a known answer are left, and at least "
            f"{LABELLED} are needed",
            hint="give more labelled items, or leave --eval out: agreement is judged then",
        )
    if start[start.main] is None:
        raise InputError(
            f"{start.data}: none of {len(start.outcomes)} items has a true box of the model's classes, so "
            f"that there is no {start.main} to compare",
            hint="give labelled pictures with objects in them, or leave --eval out: agreement is judged then",
        )


def judged(start: Evaluation, candidate: Evaluation, margin: float, gate: Gate = "interval") -> Judgement:
    """A candidate against the START on the same labelled items; see `judgement_of`."""
    return held(Paired(start, Resampling(REPLICATES, 0, LEVEL)), candidate, margin, gate)


def held(start: Paired, candidate: Evaluation, margin: float, gate: Gate) -> Judgement:
    """A candidate against the START; one that fails on what the START answers is not right.

    Args:
        margin, gate: see `judgement_of`.
    """
    found = judgement_of(start.compare(candidate), start.first.main, margin, gate)
    answered = {outcome.item for outcome in start.first.outcomes}
    failed = [each for each in candidate.failed if each.item in answered]
    if not failed:
        return found
    return msgspec.structs.replace(found, verdict="fails", failed=len(failed), error=failed[0].error)


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
    loss = scale * (after - before) + 0.0  # no minus before a zero
    least = 0.0 if metric in LESS_IS_BETTER else 100 * unseen(compared.items)
    low, high = _ends(change, scale, loss, least)
    test = compared.mcnemar
    return Judgement(
        by="accuracy",
        metric=metric,
        start=before,
        value=after,
        loss=loss,
        low=low,
        high=high,
        verdict=verdict_of(loss, high, margin, gate),
        items=compared.items,
        only_start=test.only_first if test else None,
        only_candidate=test.only_second if test else None,
        p_value=test.p_value if test else None,
    )


def _ends(change: Change, scale: float, loss: float, least: float) -> tuple[float, float]:
    """The interval of a loss, in points: the bootstrap's, whose upper end is never less than `least`.

    Where no item changes sides every draw is alike, and the bootstrap's interval is a point, of 8 items as of
    8000; `unseen` says what they may hide. Errors need no such bound: a class hides what happens to its
    scores, while other arithmetic moves the numbers of all items, so that numbers of which none moved show
    that it is the same. Where there is no interval at all (one item), anything may be lost.
    """
    if change.low is None or change.high is None:
        return -ANYTHING, max(ANYTHING, loss)
    low, high = sorted(scale * end + 0.0 for end in (change.low, change.high))
    return low, max(high, least)


def left_out_note(faults: Sequence[str], items: int, use: str = "candidates are judged on") -> str:
    """That the START itself does not answer some items, and why; empty where it answers all.

    Args:
        faults: of each that it does not answer.
        items: all of them.
        use: what they are for.
    """
    if not faults:
        return ""
    are = "which is" if len(faults) == 1 else "which are"
    some = f"{len(faults)} of {items} items that {use}"
    return f"the bundle as it is fails on {some}, {are} left out: {faults[0]}"


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


def needed(judgement: Judgement, margin: float) -> int | None:
    """About how many items would show that a candidate is within the margin; None where none would.

    The interval shrinks with the root of the items; where nothing changes sides, with the items.
    """
    room, width = margin - judgement.loss, judgement.high - judgement.loss
    share = judgement.metric not in LESS_IS_BETTER
    least = answers_needed(margin) if share else 1
    if room <= 0 or width <= 0 or least is None:
        return None
    if share and _unchanged(judgement):
        return least
    return max(least, math.ceil(judgement.items * (width / room) ** 2))


def _unchanged(judgement: Judgement) -> bool:
    """Whether nothing changes sides, so that the interval is what so few items may hide."""
    hidden = 100 * unseen(judgement.items) + ROUNDING
    return judgement.loss == 0 and judgement.high <= hidden and not judgement.only_start


def verdict_of(loss: float, worst: float, margin: float, gate: Gate) -> Verdict:
    """What the gate says of a loss and of the upper end of its interval."""
    margin += ROUNDING
    if worst <= margin or (gate == "estimate" and loss <= margin):
        return "passes"
    return "undecided" if loss <= margin else "fails"
