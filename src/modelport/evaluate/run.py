"""An evaluation from beginning to end: data in, answers by whoever gives them, outcomes, figures."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from ..bundle.store import Bundle
from ..client.many import in_order
from ..engine.cores import usable_cores
from ..errors import InputError, ModelFailed, ModelportError, NotFound, UsageError
from ..runtimes.form import check_runtime, overruled
from ..runtimes.pipeline import Pipeline
from ..runtimes.session import Settings as SettingsOfRuntime
from ..sampling import evenly
from .answers import Answer, Answerer, Subject, at_server, here, subject_at, subject_of
from .bootstrap import Scorer, check, with_intervals
from .data.item import Data, Item, some
from .data.names import Classes
from .data.read import read_data
from .outcomes import Judge, boxes_judge, classes_judge, plan_targets, targets_judge
from .scorers import figures_of, scorer_of
from .values import Evaluation, Failure, Outcome, Resampling

T = TypeVar("T")
Track = Callable[[Iterable[T], int], Iterable[T]]
"""Shows how far the items are: (items, how many) -> the same items."""

DETECTION_OPTIONS: dict[str, float | int | bool] = {
    "score_threshold": 0.001,
    "iou_threshold": 0.7,
    "multi_label": True,
}
"""As Ultralytics' `val` sets them: mean average precision wants every box, and its score."""
CONNECTIONS = 8
_KINDS_OF_TASKS = {
    "tabular-classification": "classification",
    "tabular-regression": "regression",
    "text-classification": "classification",
}
KINDS = {"boxes": "detection", "classes": "classification"}


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How an evaluation is made: what `evaluate` takes by name."""

    url: str | None = None
    """A running server, which answers in place of this process."""
    key: str | None = None
    """Of the server."""
    runtime: str | None = None
    """What runs the network here; None for the runtime of the variant that is chosen, or ONNX Runtime."""
    settings: SettingsOfRuntime | None = None
    """Of that runtime; None for the variant's own."""
    variant: str | None = None
    """The form of the network; "" for the one that was packed, None for the one chosen for such machines."""
    concurrency: int | None = None
    """Items under way at a time; the machine's cores (8 for a server) unless said."""
    options: Mapping[str, float | int | bool] = {}
    """Of the bundle (`score_threshold`, …), on top of `DETECTION_OPTIONS` for a detector."""
    split: str | None = None
    """A part of the data set: val, test or train."""
    target: str | None = None
    """The column or array of a table with the right answers."""
    images: str | os.PathLike[str] | None = None
    """The folder of the pictures of a COCO file."""
    output: str | None = None
    """The tensor with the scores, or the number, where a bundle gives several."""
    kind: str | None = None
    """`classification` or `regression`, for a bundle of tensors where it cannot be told."""
    renamed: Mapping[str, str] = {}
    """The data's class -> the model's; "" leaves a class out."""
    limit: int | None = None
    """At most so many items, evenly picked."""
    replicates: int = 1000
    """Draws of the bootstrap that makes the intervals; 0 for none."""
    seed: int = 0
    level: float = 0.95


def evaluate(
    bundle: Bundle | str | os.PathLike[str],
    data: str | os.PathLike[str],
    *,
    track: Track[Any] | None = None,
    **settings: Any,
) -> Evaluation:
    """Answer every item of `data` with the whole bundle, and compare with what is known of it.

    Args:
        bundle: a bundle, or where it is; with `url` it may be the name of a model (or NAME/VERSION) there.
        data: a folder or a file; `docs/how-to/evaluate.md` lists the forms.
        track: shows progress.
        settings: those of `Settings`, by name.

    Raises:
        NotFound: no such bundle or data. InputError: data that makes no sense, with its place; or no item
        that could be answered. UsageError: what to do has to be said. Unsupported: something is not
        installed. Unavailable and its kin: the server.
    """
    try:
        how = Settings(**settings)
    except TypeError as problem:
        raise UsageError(f"evaluate: {problem}") from None
    resampling = Resampling(how.replicates, how.seed, how.level)
    check(resampling)
    start = time.monotonic()
    with contextlib.ExitStack() as opened:
        subject, answerer, options, notes, via = _answerer(bundle, how, opened)
        known = _data(subject, Path(data), how)
        outcomes, failed, task = _outcomes(subject, known, answerer, how, track)
    labels = _labels(subject, known)
    scorer: Scorer = scorer_of(outcomes, len(labels))
    metrics = with_intervals(scorer, len(outcomes), resampling)
    return Evaluation(
        model=subject.name,
        version=subject.version,
        digest=subject.digest,
        task=task,
        data=known.name,
        via=via,
        items=len(outcomes) + len(failed),
        metrics=metrics,
        resampling=resampling,
        labels=labels,
        classes=figures_of(scorer, labels),
        failed=tuple(failed),
        notes=(*notes, *known.notes),
        options=options,
        outcomes=tuple(outcomes),
        seconds=round(time.monotonic() - start, 3),
    )


def _answerer(
    bundle: Bundle | str | os.PathLike[str], how: Settings, opened: contextlib.ExitStack
) -> tuple[Subject, Answerer, dict[str, float | int | bool], tuple[str, ...], str]:
    """Who is evaluated, what answers for it, the options that it is asked with, what is to be noted, and the
    runtime or the server's address."""
    if isinstance(bundle, Bundle):
        local: Bundle | None = bundle
    elif how.url is None or os.path.lexists(bundle):
        local = Bundle.open(bundle)
    else:
        local = None
    if local is not None:
        subject = subject_of(local)
    else:
        name, _, version = str(bundle).partition("/")
        subject = subject_at(how.url or "", name, version or None, how.key)
    options: dict[str, float | int | bool] = {}
    if subject.task == "object-detection":
        options = {name: value for name, value in DETECTION_OPTIONS.items() if name in subject.options}
    options |= how.options
    if how.url is not None:
        connections = how.concurrency or CONNECTIONS
        served = at_server(subject, how.url, key=how.key, connections=connections, options=options)
        notes = () if local is None else _other_bundle(subject, how.url, how.key)
        return subject, opened.enter_context(served), options, notes, how.url
    if local is None:
        raise NotFound(f"no bundle at {bundle!r}")
    check_runtime(local, how.runtime)
    pipeline = opened.enter_context(
        Pipeline.open(local, variant=how.variant, runtime=how.runtime, settings=how.settings)
    )
    form = pipeline.form
    notes = (f"answered by its variant {form.variant}",) if form.variant else ()
    if note := overruled(local, form):
        notes += (note,)
    return subject, here(pipeline, options), options, notes, form.runtime


def _other_bundle(subject: Subject, url: str, key: str | None) -> tuple[str, ...]:
    """A note where the server's model is not the bundle that was given; nothing where it does not say."""
    try:
        there = subject_at(url, subject.name, subject.version, key)
    except (ModelportError, OSError):
        return ()  # of another make, or over gRPC; what is wrong with it the first item will say
    if there.digest in ("", subject.digest):
        return ()
    digests = f"{there.digest[:12]} there, {subject.digest[:12]} here"
    return (f"the server's {subject.name} {subject.version} is another bundle: {digests}",)


def _data(subject: Subject, path: Path, how: Settings) -> Data:
    data = read_data(
        path,
        subject.task,
        inputs=() if subject.pictures else subject.inputs,
        split=how.split,
        target=how.target,
        name=subject.name,
        images=None if how.images is None else Path(how.images),
        decode=subject.decode,
        columns=subject.columns,
    )
    if data.kind == "targets":  # of all items, not of those that a limit leaves
        words = {item.truth for item in data.items if isinstance(item.truth, str)}
        data = msgspec.structs.replace(data, names=tuple(sorted(words)))
    if how.limit is None or how.limit >= len(data.items):
        return data
    if how.limit < 1:
        raise UsageError(f"limit={how.limit}: expected 1 or more")
    note = f"{how.limit} of {len(data.items)} items, evenly picked"
    return msgspec.structs.replace(data, items=evenly(data.items, how.limit), notes=(*data.notes, note))


def _outcomes(
    subject: Subject, data: Data, answerer: Answerer, how: Settings, track: Track[Any] | None
) -> tuple[list[Outcome], list[Failure], str]:
    """Every item's outcome or failure, and the kind of task."""
    classes = Classes(_labels(subject, data), how.renamed)
    concurrency = how.concurrency or (usable_cores() if how.url is None else CONNECTIONS)
    failed: list[Failure] = []
    if data.kind == "targets":
        answered = list(_answers(data.items, answerer, concurrency, track, failed))
        _check_any([answer for _, answer in answered], failed)
        kind = how.kind or _KINDS_OF_TASKS.get(subject.task)
        plan = plan_targets([answer for _, answer in answered], data.items, kind, how.output)
        judge = targets_judge(plan, data.items, classes)
        return list(_judged(answered, judge, failed)), failed, plan.kind
    judge, items = (boxes_judge if data.kind == "boxes" else classes_judge)(data, classes)
    if not items:
        raise InputError("no item is left: every class of the data is left out")
    pairs = _answers(items, answerer, concurrency, track, failed)
    outcomes = list(_judged(pairs, judge, failed))
    _check_any(outcomes, failed)
    return outcomes, failed, KINDS[data.kind]


def _answers(
    items: Sequence[Item],
    answerer: Answerer,
    concurrency: int,
    track: Track[Any] | None,
    failed: list[Failure],
) -> Iterator[tuple[Item, Answer]]:
    """Items with their answers, in order; those that fail go to `failed`.

    Raises:
        ModelportError: what is no item's fault: no server, no right to ask it, no such model.
    """

    def one(item: Item) -> Answer | ModelportError:
        try:
            return answerer(item)
        except (InputError, ModelFailed, NotFound) as problem:
            return problem

    answers = in_order(one, items, concurrency, raises=False)
    shown = track(answers, len(items)) if track else answers
    for item, answer in zip(items, shown, strict=True):
        if not isinstance(answer, ModelportError):
            yield item, answer
        elif isinstance(answer, NotFound) and not _is_lost(item):
            raise answer  # the server has no such model
        else:
            failed.append(Failure(item.name, str(answer)))


def _is_lost(item: Item) -> bool:
    return isinstance(item.source, Path) and not item.source.is_file()


def _judged(
    answered: Iterable[tuple[Item, Answer]], judge: Judge, failed: list[Failure]
) -> Iterator[Outcome]:
    for item, answer in answered:
        try:
            yield judge(item, answer)
        except InputError as problem:
            failed.append(Failure(item.name, str(problem)))


def _check_any(outcomes: Sequence[object], failed: Sequence[Failure]) -> None:
    if outcomes:
        return
    if not failed:
        raise InputError("the data has no items")
    raise InputError(
        f"none of {len(failed)} items could be answered ({some([each.item for each in failed], 3)}); the "
        f"first: {failed[0].error}"
    )


def _labels(subject: Subject, data: Data) -> tuple[str, ...]:
    """The model's labels; for a model without any, those of the data where its indices are the model's."""
    if subject.labels:
        return subject.labels
    return data.names if data.kind in ("boxes", "targets") else ()
