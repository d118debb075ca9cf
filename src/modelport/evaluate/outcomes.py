"""One item's answer beside its truth: what a model's tensors say, as a class, a number or boxes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import msgspec
import numpy as np

from ..errors import InputError, UsageError
from ..tensors import Array, Tensors
from .answers import Answer
from .classification import TOP
from .data.item import Boxes, Data, Item
from .data.names import Classes
from .values import Classified, Detected, Measured, Outcome

Kind = Literal["classification", "regression", "detection"]
Judge = Callable[[Item, Answer], Outcome]
"""Raises InputError for an answer of another kind."""


def classes_judge(data: Data, classes: Classes) -> tuple[Judge, list[Item]]:
    """A judge of classified pictures, and the items that it judges: those of classes that are left out go.

    Raises:
        InputError: classes that the model does not have; they are named.
    """
    meant = classes.find_all(item.truth for item in data.items)

    def judge(item: Item, answer: Answer) -> Outcome:
        return classified(item.name, meant[item.truth], answer.tensors)

    return judge, [item for item in data.items if meant[item.truth]]


def classified(name: str, truth: tuple[int, ...], answer: Tensors) -> Classified:
    """An answer of `scores` and `indices`, best first, or of one vector of scores.

    Raises:
        InputError: another answer, NaN among its scores.
    """
    scores, order = _ranked(answer)
    if np.isnan(scores).any():
        raise InputError(f"the answer holds NaN: {scores[:TOP]}")
    places = np.flatnonzero(np.isin(order, truth))
    best = order[:TOP]
    return Classified(
        name,
        truth,
        tuple(int(index) for index in best),
        tuple(float(score) for score in scores[:TOP]),
        int(places[0]) if len(places) else -1,
    )


def _ranked(answer: Tensors) -> tuple[Array, Array]:
    """Scores and class indices, best first."""
    scores, indices = answer.get("scores"), answer.get("indices")
    if scores is not None and indices is not None and scores.shape == indices.shape and scores.size:
        return scores.reshape(-1), indices.reshape(-1)
    floats = [array.reshape(-1) for array in answer.values() if array.dtype.kind == "f" and array.size > 1]
    if len(floats) != 1:
        known = ", ".join(f"{name} {array.dtype.name}{list(array.shape)}" for name, array in answer.items())
        raise InputError(f"expected scores of classes, got {known}", hint="--output NAME says which they are")
    order = np.argsort(-floats[0], kind="stable")
    return floats[0][order], order


def boxes_judge(data: Data, classes: Classes) -> tuple[Judge, list[Item]]:
    """A judge of pictures with boxes; classes without labels on either side are matched by index.

    Raises:
        InputError: classes of the data that the model does not have, where they have boxes.
    """
    used = sorted({int(index) for item in data.items for index in item.truth.classes})
    words = {index: data.names[index] if index < len(data.names) else index for index in used}
    if not classes.labels:
        words = {index: index for index in used}
    found = classes.find_all(words.values())
    several = [str(word) for word, indices in found.items() if len(indices) > 1]
    if several:
        raise InputError(f"{several[0]!r} means several of the model's classes")
    table = np.full(max(used, default=0) + 1, -1, np.int64)
    for index, word in words.items():
        if found[word]:
            table[index] = found[word][0]

    def judge(item: Item, answer: Answer) -> Outcome:
        return detected(item, answer, table)

    return judge, list(data.items)


def detected(item: Item, answer: Answer, table: Array) -> Detected:
    """An answer of `boxes`, `scores`, `classes` and `count`, beside the picture's boxes.

    Args:
        table: int64: the data's class -> the model's, -1 for those that are left out.

    Raises:
        InputError: another answer.
    """
    tensors = answer.tensors
    missing = [name for name in ("boxes", "scores", "classes", "count") if name not in tensors]
    if missing:
        raise InputError(f"expected boxes, scores, classes and count; there is no {', '.join(missing)}")
    truth: Boxes = item.truth.in_pixels(answer.width, answer.height)
    true_classes = table[truth.classes] if len(truth.classes) else truth.classes
    kept = true_classes >= 0
    count = int(tensors["count"])
    boxes = np.asarray(tensors["boxes"][:count], np.float32)
    scores = np.asarray(tensors["scores"][:count], np.float32)
    if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
        raise InputError("the answer holds NaN or infinity")
    return Detected(
        item.name,
        answer.width,
        answer.height,
        truth.boxes[kept],
        true_classes[kept],
        truth.crowd[kept],
        boxes,
        scores,
        np.asarray(tensors["classes"][:count], np.int64),
    )


class TargetPlan(msgspec.Struct, frozen=True):
    """How the answers of a bundle of tensors are read: which output, and as what."""

    kind: Literal["classification", "regression"]
    output: str
    said: str = ""
    """The output with the answered class, where the bundle has one."""
    threshold: float | None = None
    """A lone probability from here on is class 1."""


def plan_targets(
    answers: Sequence[Answer], items: Sequence[Item], kind: str | None, output: str | None
) -> TargetPlan:
    """How to read the answers, from the first of them and from all targets.

    Args:
        kind: `classification` or `regression`; None: found out.
        output: the output to read; None: the only one that fits.

    Raises:
        UsageError: it cannot be told.
    """
    tensors = answers[0].tensors
    if output is not None and output not in tensors:
        raise UsageError(f"there is no output {output!r}; there are {', '.join(tensors)}")
    sized = {name: array for name, array in tensors.items() if output in (None, name)}
    floats = [name for name, array in sized.items() if array.dtype.kind == "f"]
    wide = [name for name in floats if sized[name].size > 1]
    said = [name for name, array in sized.items() if array.dtype.kind in "iuOUSb" and array.size == 1]
    if kind != "regression" and ("scores" in sized and "indices" in sized):
        return TargetPlan("classification", "scores")
    if kind != "regression" and (wide or said):
        if len(wide) > 1:
            raise UsageError(f"which output holds the scores: {', '.join(wide)}?", hint="--output NAME")
        return TargetPlan("classification", wide[0] if wide else "", said[0] if said else "")
    lone = [name for name, array in sized.items() if array.dtype.kind in "fiu" and array.size == 1]
    if len(lone) != 1:
        known = ", ".join(f"{name} {array.dtype.name}{list(array.shape)}" for name, array in tensors.items())
        raise UsageError(f"which output is the answer: {known}?", hint="--output NAME")
    targets = {item.truth for item in items}
    values = [float(answer.tensors[lone[0]].reshape(-1)[0]) for answer in answers]
    shares = all(0 <= value <= 1 for value in values)
    if kind == "classification" and not shares:
        raise UsageError(f"the answer {lone[0]!r} is a number and not a probability: {values[0]:g}")
    if kind == "classification" or (kind is None and shares and targets <= {0, 1}):
        return TargetPlan("classification", lone[0], threshold=0.5)
    return TargetPlan("regression", lone[0])


def targets_judge(plan: TargetPlan, items: Sequence[Item], classes: Classes) -> Judge:
    """A judge of rows with a target.

    Raises:
        InputError: text as the target of a regression, classes that the model does not have.
    """
    if plan.kind == "regression":
        texts = [str(item.truth) for item in items if isinstance(item.truth, str)]
        if texts:
            raise InputError(f"expected numbers as targets of a regression, got {texts[0]!r}")
        return lambda item, answer: measured(item, answer, plan.output)
    meant = classes.find_all((item.truth for item in items), "targets")

    def judge(item: Item, answer: Answer) -> Outcome:
        return _target_class(item, answer.tensors, plan, meant, classes)

    return judge


def measured(item: Item, answer: Answer, output: str) -> Measured:
    """An answer that is one number.

    Raises:
        InputError: NaN or infinity.
    """
    value = float(answer.tensors[output].reshape(-1)[0])
    if not np.isfinite(value):
        raise InputError(f"the answer is {value}")
    return Measured(item.name, float(item.truth), value)


def _target_class(
    item: Item,
    tensors: Tensors,
    plan: TargetPlan,
    meant: Mapping[str | int | float, tuple[int, ...]],
    classes: Classes,
) -> Outcome:
    truth = meant[item.truth]
    if plan.threshold is not None:
        score = float(tensors[plan.output].reshape(-1)[0])
        pair = np.array([1 - score, score])
        best = 1 if score >= plan.threshold else 0
        ranked = {"scores": pair[[best, 1 - best]], "indices": np.array([best, 1 - best])}
        return classified(item.name, truth, ranked)
    outcome = None
    if plan.output:
        kept = ("scores", "indices") if plan.output == "scores" and "indices" in tensors else (plan.output,)
        outcome = classified(item.name, truth, {name: tensors[name] for name in kept})
    if not plan.said:
        return outcome if outcome is not None else classified(item.name, truth, {})
    # What the model says it answers counts, also where it does not follow its scores.
    word = tensors[plan.said].reshape(-1)[0]
    found = classes.find(word if isinstance(word, str) else int(word))
    if not found:
        raise InputError(f"the answer {word!r} is none of the model's classes")
    if outcome is None or outcome.best[0] not in found:
        return Classified(item.name, truth, (found[0],), (), 0 if set(found) & set(truth) else -1)
    return outcome
