"""What an evaluation found, as frozen values that JSON holds: metrics, classes, and each item's outcome.

Nothing here computes; `read` and `write` keep an evaluation in a file, so that a later one can be compared
with it item by item.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from ..errors import InputError, NotFound
from ..files import write_whole
from ..tensors import Array

SCHEMA = "modelport.evaluate/1"
MAX_FILE_BYTES = 4 << 30


class Metric(msgspec.Struct, frozen=True):
    """A figure, and the interval that it would fall in on other data of the same kind.

    None: it is not defined on this data (no class has two sides, nothing was detected at all, …).
    """

    value: float | None
    low: float | None = None
    high: float | None = None


class Failure(msgspec.Struct, frozen=True):
    """An item that has no answer, and why."""

    item: str
    error: str


class ClassFigures(msgspec.Struct, frozen=True):
    """One class: how many true ones there are, and its figures (precision, recall, f1; or ap, ap50, …)."""

    index: int
    label: str
    support: int
    figures: dict[str, float | None]


class Classified(msgspec.Struct, frozen=True, tag="classified", tag_field="kind"):
    """One item of a classification."""

    item: str
    truth: tuple[int, ...]
    """The right class. Several where the data's word means several of the model's classes."""
    best: tuple[int, ...]
    """The best classes that were answered, best first; at most five."""
    scores: tuple[float, ...]
    """Their scores, where the model gives any."""
    rank: int
    """Place of the right class in the answer, from 0; -1 where the answer does not hold it."""

    @property
    def correct(self) -> bool:
        """Whether the best class is the right one."""
        return self.rank == 0


class Measured(msgspec.Struct, frozen=True, tag="measured", tag_field="kind"):
    """One item of a regression."""

    item: str
    truth: float
    answer: float


class Detected(msgspec.Struct, frozen=True, tag="detected", tag_field="kind", eq=False):
    """One picture of a detection: n true and m found objects; boxes are x1 y1 x2 y2 in pixels."""

    item: str
    width: int
    height: int
    true_boxes: Array
    """float64[n, 4]"""
    true_classes: Array
    """int64[n]"""
    crowd: Array
    """bool[n]: marks a group of objects; what is found on it counts neither way."""
    boxes: Array
    """float32[m, 4]"""
    scores: Array
    """float32[m], best first"""
    classes: Array
    """int64[m]"""


Outcome = Classified | Measured | Detected


class Resampling(msgspec.Struct, frozen=True):
    """How intervals were made: percentiles of the metric on `replicates` draws of items with repetition."""

    replicates: int
    seed: int
    level: float = 0.95


class Evaluation(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What one model did on one set of data."""

    model: str
    version: str
    digest: str
    """Of the bundle; empty where only a server was asked that does not say it."""
    task: str
    """classification, regression or detection."""
    data: str
    """The data's name; no path of this machine."""
    via: str
    """The runtime, or the server's address."""
    items: int
    """All of them, those that failed too."""
    metrics: dict[str, Metric]
    """By name, the main one first. All are computed from the items that have an answer."""
    resampling: Resampling
    labels: tuple[str, ...] = ()
    classes: tuple[ClassFigures, ...] = ()
    failed: tuple[Failure, ...] = ()
    notes: tuple[str, ...] = ()
    options: dict[str, float | int | bool] = {}
    """What the bundle's options were set to."""
    outcomes: tuple[Outcome, ...] = ()
    """One for each item with an answer, in the order of the data."""
    seconds: float = 0.0

    def __getitem__(self, metric: str) -> float | None:
        """The value of a metric.

        Raises:
            KeyError: there is no such metric here.
        """
        return self.metrics[metric].value

    @property
    def main(self) -> str:
        """The name of the first metric."""
        return next(iter(self.metrics))

    def label(self, index: int) -> str:
        """The name of a class, or its number."""
        return self.labels[index] if 0 <= index < len(self.labels) else str(index)

    def to_dict(self, *, outcomes: bool = False) -> dict[str, Any]:
        """Plain values for JSON, with the schema's name; each item's outcome only if asked for."""
        whole = self if outcomes else msgspec.structs.replace(self, outcomes=())
        plain: dict[str, Any] = msgspec.to_builtins(whole, enc_hook=_plain)
        if not outcomes:
            del plain["outcomes"]
        return {"schema": SCHEMA, **plain}


class Change(msgspec.Struct, frozen=True):
    """One metric of two models on the same items; the interval is that of the difference."""

    first: float | None
    second: float | None
    difference: float | None
    """second - first"""
    low: float | None = None
    high: float | None = None

    @property
    def significant(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


class McNemar(msgspec.Struct, frozen=True):
    """Items that only one of the two models has right, and how probable such a split is by chance alone."""

    only_first: int
    only_second: int
    p_value: float


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Two models, item by item."""

    first: str
    second: str
    items: int
    """Answered by both: all figures are computed from these."""
    left_out: int
    """Answered by one of the two only."""
    changes: dict[str, Change]
    resampling: Resampling
    mcnemar: McNemar | None = None
    differing: tuple[str, ...] = ()
    """Items that exactly one of the two has right (classification), the second's mistakes first."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        return {"schema": "modelport.comparison/1", **plain}


def write(evaluation: Evaluation, path: str | os.PathLike[str]) -> None:
    """Keep an evaluation with all its outcomes as JSON; an existing file is replaced, whole or not at all.

    Raises:
        InputError: it cannot be written there.
    """
    write_file(path, msgspec.json.encode(evaluation.to_dict(outcomes=True)) + b"\n")


def write_file(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file whole or not at all; an existing one is replaced.

    Raises:
        InputError: it cannot be written there.
    """
    target = Path(path)
    try:
        write_whole(target, data)
    except OSError as problem:
        said = problem.strerror or problem
        raise InputError(
            f"cannot write {str(target)!r}: {said}", hint="name a file in a folder that can be written"
        ) from problem


def read(path: str | os.PathLike[str]) -> Evaluation:
    """An evaluation that `write` kept.

    Raises:
        NotFound: no such file. InputError: it holds something else.
    """
    place = Path(path)
    try:
        if place.stat().st_size > MAX_FILE_BYTES:
            raise InputError(f"{path} has over {MAX_FILE_BYTES} bytes")
        data = place.read_bytes()
    except OSError as problem:
        raise NotFound(f"cannot read {str(path)!r}: {problem.strerror or problem}") from problem
    try:
        plain = msgspec.json.decode(data)
        if not isinstance(plain, dict) or plain.pop("schema", None) != SCHEMA:
            raise InputError(f"{path} is no evaluation; expected the schema {SCHEMA!r}")
        evaluation: Evaluation = msgspec.convert(plain, Evaluation, dec_hook=_array)
        outcomes = evaluation.outcomes
        settled = tuple(_settled(each) if isinstance(each, Detected) else each for each in outcomes)
        return msgspec.structs.replace(evaluation, outcomes=settled)
    except (msgspec.DecodeError, msgspec.ValidationError, RecursionError, ValueError) as problem:
        raise InputError(f"{path} is no evaluation: {problem}") from problem


def _plain(value: Any) -> Any:
    """Arrays as lists; float32 by its shortest text, which reads back as the same float32."""
    if isinstance(value, np.ndarray):
        if value.dtype == np.float32:
            return np.array([float(str(number)) for number in value.flat]).reshape(value.shape).tolist()
        return value.tolist()
    raise TypeError(f"{type(value).__name__} has no JSON")


def _array(kind: Any, value: Any) -> Any:
    """A list as an array; `_settled` gives it its datatype and shape."""
    return np.array(value)


def _settled(outcome: Detected) -> Detected:
    """Arrays with the datatypes and shapes that JSON does not say.

    Raises:
        ValueError: they have other sizes.
    """
    found, true = len(outcome.scores), len(outcome.true_classes)
    return msgspec.structs.replace(
        outcome,
        true_boxes=outcome.true_boxes.astype(np.float64).reshape(true, 4),
        true_classes=outcome.true_classes.astype(np.int64).reshape(true),
        crowd=outcome.crowd.astype(bool).reshape(true),
        boxes=outcome.boxes.astype(np.float32).reshape(found, 4),
        scores=outcome.scores.astype(np.float32).reshape(found),
        classes=outcome.classes.astype(np.int64).reshape(found),
    )
