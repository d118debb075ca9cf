"""Accuracy of a network between a bundle's own pre- and post-processing, item by item. No clock."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from modelport.bundle.store import Bundle
from modelport.evaluate.answers import Answer, subject_of
from modelport.evaluate.bootstrap import Resampled, changes, resampled
from modelport.evaluate.compare import mcnemar
from modelport.evaluate.data.names import Classes
from modelport.evaluate.data.read import read_data
from modelport.evaluate.outcomes import boxes_judge, classes_judge
from modelport.evaluate.run import DETECTION_OPTIONS
from modelport.evaluate.scorers import scorer_of
from modelport.evaluate.values import Classified, Outcome, Resampling
from modelport.runtimes.pipeline import Pipeline

Run = Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]
RESAMPLING = Resampling(2000, 0, 0.90)
"""Two-sided 90 %: its upper end is the one-sided bound at 95 % that non-inferiority asks for."""


class Judge:
    """The labelled items of a case, prepared once."""

    def __init__(self, bundle: Bundle, truth: Path) -> None:
        self._pipeline = Pipeline.open(bundle, variant="")
        subject = subject_of(bundle)
        data = read_data(truth, subject.task, name=subject.name)
        self._labels = subject.labels
        read = boxes_judge if data.kind == "boxes" else classes_judge
        self._judge, self.items = read(data, Classes(subject.labels, {}))
        self._options: dict[str, Any] = {}
        if data.kind == "boxes":
            known = {option.name for option in bundle.manifest.options}
            self._options = {name: value for name, value in DETECTION_OPTIONS.items() if name in known}
        self._taken = [spec.name for spec in bundle.manifest.graphs.net.signature.inputs]
        self._start: tuple[Sequence[Outcome], Resampled] | None = None
        self._sizes, self._prepared = [], []
        for item in self.items:
            decoded = self._pipeline.decode(_encoded(item))
            self._sizes.append(decoded["image"].shape[:2])
            self._prepared.append(self._pipeline.pre(decoded))

    def close(self) -> None:
        """Free it."""
        self._pipeline.close()

    def input(self, place: int) -> dict[str, np.ndarray]:
        """What the network takes of one item, a batch of one."""
        return self._batch(self._prepared[place])

    def outcome(self, place: int, run: Run, around: Pipeline | None = None) -> Outcome:
        """One item's outcome; with `around`, as that decodes and prepares it."""
        prepared = self._prepared[place] if around is None else _prepared_by(around, self.items[place])
        carried = {name: array[None] for name, array in prepared.items() if name not in self._taken}
        raw = run(self._batch(prepared))
        answer = (around or self._pipeline).post(raw | carried, self._options or None)
        height, width = self._sizes[place]
        row = {name: array[0, ...] for name, array in answer.items()}
        return self._judge(self.items[place], Answer(row, width, height))

    def _batch(self, prepared: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {name: prepared[name][None] for name in self._taken}

    def outcomes(
        self, run: Run, places: Sequence[int] | None = None, around: Pipeline | None = None
    ) -> list[Outcome]:
        """Of all items, or of some; `around` surrounds the network where the bundle's own steps do not."""
        asked = places if places is not None else range(len(self.items))
        return [self.outcome(place, run, around) for place in asked]

    def score(self, outcomes: Sequence[Outcome]) -> float:
        """The main metric: mAP 50-95 or top-1."""
        return float(next(iter(scorer_of(outcomes, len(self._labels)).values().values())) or 0.0)

    def compared(self, start: Sequence[Outcome], other: Sequence[Outcome]) -> dict[str, Any]:
        """The main metric of both, and the loss in points with its interval."""
        if self._start is None or self._start[0] is not start:
            self._start = (start, self._resampled(start))
        first, second = self._start[1], self._resampled(other)
        metric = next(iter(first.values))
        change = changes(first, second)[metric]
        before, after = change.first or 0.0, change.second or 0.0
        ends = [after - before if end is None else end for end in (change.low, change.high)]
        low, high = sorted(-100 * end + 0.0 for end in ends)
        told = {"metric": metric, "items": len(start), "start": before, "value": after}
        told |= {"loss": 100 * (before - after) + 0.0, "low": low, "high": high}
        if all(isinstance(each, Classified) for each in (*start, *other)):
            pairs = [(one.correct, two.correct) for one, two in zip(start, other, strict=True)]
            lost, won = pairs.count((True, False)), pairs.count((False, True))
            told |= {"lost": lost, "won": won, "p_value": mcnemar(lost, won)}
        return told

    def _resampled(self, outcomes: Sequence[Outcome]) -> Resampled:
        return resampled(scorer_of(outcomes, len(self._labels)), len(outcomes), RESAMPLING)


def _prepared_by(pipeline: Pipeline, item: Any) -> dict[str, np.ndarray]:
    """What a network is given of one item: a variant may decode a photo smaller, or frame it otherwise."""
    return pipeline.pre(pipeline.decode(_encoded(item)))


def _encoded(item: Any) -> bytes:
    return Path(str(item.source)).read_bytes()
