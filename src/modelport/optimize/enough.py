"""Are there enough items to show that a candidate is within the margin? Said before the time is spent."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, sqrt

from ..evaluate.values import Evaluation
from .judge import LESS_IS_BETTER, Judgement, needed
from .shares import Z, answers_needed, unseen

CHANGED = 0.02
"""The share of items that a good candidate in 8 bits has right and the START wrong, or the other way round:
SqueezeNet's have 1.5 to 2.5 % of ImageNet's photos (benchmarks/optimize), easier tasks fewer."""
DEAR = 0.15
"""Of the time budget."""
MOST = 1_000_000
"""Items that anybody may have labelled: a larger number is no advice."""
ESTIMATE = "or take --gate estimate, which goes by the loss that is seen"


def few_answers(count: int, margin: float, most: int) -> str:
    """That even answers that are all alike would not show that a candidate is within the margin; or nothing.

    Args:
        most: items whose answers are ever compared.
    """
    least = answers_needed(margin)
    if least is not None and count >= least:
        return ""
    more = f"about {least} can" if least is not None and least <= most else "labelled data (--eval) may"
    return f"{count} items cannot show {margin:g} points by agreement: {more}, or take --gate estimate"


def few_labels(start: Evaluation, margin: float) -> str:
    """What margin so many items can be expected to show; empty where that is enough, and of errors.

    Of n items of which none changes sides the loss may be `unseen`. Of a classifier's of which a share d
    does, as many for the better as for the worse, it has the standard error sqrt(d / n).
    """
    count = len(start.outcomes)
    if start.main in LESS_IS_BETTER or not count:
        return ""
    hidden, least = 100 * unseen(count), answers_needed(margin)
    spread = 100 * Z * sqrt(CHANGED / count) if start.main == "accuracy" else 0.0
    if max(hidden, spread) <= margin:
        return ""
    enough = {}
    if least is not None and count < least:
        enough["none changes sides"] = number_of(least)
    if least is not None and spread > 0:
        changing = CHANGED * (100 * Z / margin) ** 2
        enough[f"{CHANGED:.0%} change sides, as is usual in 8 bits"] = number_of(max(least, changing))
    cannot = "can hardly" if hidden <= margin else "cannot"
    said = f"{count} labelled items {cannot} show {margin:g} points, only {max(hidden, spread):.1f}"
    more = ", ".join(f"{number} can where {case}" for case, number in enough.items() if number)
    return f"{said}: {more or 'no data set that can be had shows so little'}, {ESTIMATE}"


def dear(seconds: float, budget: float) -> str:
    """That asking once takes much of the time budget; empty where it does not."""
    if seconds <= DEAR * budget:
        return ""
    return (
        f"judging on all items once took {seconds:.0f} of the budget's {budget:.0f} seconds, and each "
        "candidate that is not hopeless takes as many: give fewer items (--split), or a longer --budget"
    )


def seen_few(name: str, judgement: Judgement, margin: float) -> str:
    """The same of a candidate that was asked, whatever the metric."""
    least = number_of(needed(judgement, margin))
    more = f"going by this one {least} can, " if least else ""
    return (
        f"{name} loses {judgement.loss:.2g} points, and {judgement.items} items show no more than that it is "
        f"within {max(judgement.high, 0.0):.2g}, where {margin:g} is asked: {more}{ESTIMATE}"
    )


def number_of(items: float | None) -> str:
    """So many items in words, of two digits, since nobody knows more; empty where nobody has so many."""
    if items is None or items > MOST:
        return ""
    digits: int = 10 ** max(0, len(str(ceil(items))) - 2)
    return f"about {int(ceil(items / digits) * digits)}"


def nearest(judged: Mapping[str, Judgement], margin: float, kind: str) -> str:
    """How many items would show that the nearest of the undecided candidates is within the margin.

    Args:
        judged: by id.
        kind: what the items are called.
    """
    least = {name: needed(each, margin) for name, each in judged.items()}
    known = {name: count for name, count in least.items() if count is not None}
    name = min(known, key=lambda each: known[each], default="")
    number = number_of(known.get(name))
    if not number:
        return "only far more items would"
    return f"{number} {kind} would for {name}, going by the loss and the interval that it has here"
