"""Which metrics belong to which outcomes."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import InputError
from .bootstrap import Scorer
from .classification import ClassificationScorer
from .detection import DetectionScorer
from .regression import RegressionScorer
from .values import ClassFigures, Classified, Detected, Measured, Outcome


def scorer_of(outcomes: Sequence[Outcome], classes: int) -> Scorer:
    """The metrics of outcomes, which are all of one kind.

    Args:
        classes: how many the model has; 0 where that is not known.

    Raises:
        InputError: none, or of several kinds. Unsupported: a library is missing.
    """
    classified = [each for each in outcomes if isinstance(each, Classified)]
    detected = [each for each in outcomes if isinstance(each, Detected)]
    measured = [each for each in outcomes if isinstance(each, Measured)]
    if not outcomes or len(outcomes) not in (len(classified), len(detected), len(measured)):
        raise InputError(f"expected outcomes of one kind, got {len(outcomes)}")
    if classified:
        return ClassificationScorer(classified, classes)
    return DetectionScorer(detected) if detected else RegressionScorer(measured)


def figures_of(scorer: Scorer, labels: Sequence[str]) -> tuple[ClassFigures, ...]:
    """The figures of each class, where there are classes."""
    if isinstance(scorer, ClassificationScorer | DetectionScorer):
        return scorer.of_classes(labels)
    return ()
