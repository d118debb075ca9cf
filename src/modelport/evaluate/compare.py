"""Two models on the same items: is one better, or is it chance? Paired bootstrap and McNemar's test."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..errors import InputError
from .bootstrap import Resampled, changes, check, resampled
from .scorers import scorer_of
from .values import Classified, Comparison, Evaluation, McNemar, Outcome, Resampling

_SHOWN = 100


class Paired:
    """One evaluation that others are compared with; what the comparisons share is computed once.

    Args:
        first: what the others are held against.
        resampling: how intervals are made; None: as in `first`.
    """

    def __init__(self, first: Evaluation, resampling: Resampling | None = None) -> None:
        self.first = first
        self.resampling = resampling or first.resampling
        check(self.resampling)
        self._known: tuple[tuple[str, ...], int, Resampled] | None = None

    def compare(self, second: Evaluation) -> Comparison:
        """What changes from the first to the second, from the items that both answered.

        Raises:
            InputError: of different tasks, no item in common, or the same item with two truths.
        """
        first = self.first
        if first.task != second.task:
            raise InputError(f"a {first.task} cannot be compared with a {second.task}")
        theirs = {outcome.item: outcome for outcome in second.outcomes}
        pairs = [(outcome, theirs[outcome.item]) for outcome in first.outcomes if outcome.item in theirs]
        if not pairs:
            raise InputError(
                "the two evaluations have no item in common", hint="use the same --data for both"
            )
        labels = first.labels if len(first.labels) >= len(second.labels) else second.labels
        before, after = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        test, differing = _mcnemar(before, after)
        names = [f"{each.model} {each.version}" for each in (first, second)]
        return Comparison(
            first=names[0],
            second=names[1],
            items=len(pairs),
            left_out=len(first.outcomes) + len(second.outcomes) - 2 * len(pairs),
            changes=changes(self._before(before, len(labels)), self._drawn(after, len(labels))),
            resampling=self.resampling,
            mcnemar=test,
            differing=differing,
        )

    def _before(self, outcomes: Sequence[Outcome], classes: int) -> Resampled:
        key = tuple(outcome.item for outcome in outcomes)
        if self._known is None or self._known[:2] != (key, classes):
            self._known = (key, classes, self._drawn(outcomes, classes))
        return self._known[2]

    def _drawn(self, outcomes: Sequence[Outcome], classes: int) -> Resampled:
        return resampled(scorer_of(outcomes, classes), len(outcomes), self.resampling)


def compare(first: Evaluation, second: Evaluation, resampling: Resampling | None = None) -> Comparison:
    """What changes from `first` to `second`: see `Paired`, which compares several with one."""
    return Paired(first, resampling).compare(second)


def mcnemar(only_first: int, only_second: int) -> float:
    """The exact two-sided p-value: how often a fair coin falls so far apart, or farther.

    Args:
        only_first, only_second: items that one of the two alone has right.
    """
    thrown, less = only_first + only_second, min(only_first, only_second)
    if thrown == 0:
        return 1.0
    logs = [
        math.lgamma(thrown + 1) - math.lgamma(k + 1) - math.lgamma(thrown - k + 1) - thrown * math.log(2)
        for k in range(less + 1)
    ]
    return min(1.0, 2 * math.fsum(math.exp(each) for each in logs))


def _mcnemar(before: Sequence[Outcome], after: Sequence[Outcome]) -> tuple[McNemar | None, tuple[str, ...]]:
    lost, won = [], []
    for one, two in zip(before, after, strict=True):
        if not isinstance(one, Classified) or not isinstance(two, Classified):
            return None, ()
        if one.truth != two.truth:
            raise InputError(f"{one.item} is {one.truth} in one evaluation and {two.truth} in the other")
        if one.correct and not two.correct:
            lost.append(one.item)
        elif two.correct and not one.correct:
            won.append(one.item)
    return McNemar(len(lost), len(won), mcnemar(len(lost), len(won))), tuple((lost + won)[:_SHOWN])
