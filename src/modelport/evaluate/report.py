"""An evaluation as one HTML page that needs nothing else: figures, plots, classes, the worst mistakes."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib import resources
from pathlib import Path

import numpy as np

from ..errors import ModelportError
from ..files import read_limited
from . import mistakes, plots
from .classification import ClassificationScorer
from .data.read import read_data
from .matching import hits_of
from .values import Classified, Comparison, Detected, Evaluation, Measured, Metric, write_file

MOST_MISTAKES = {"detection": 12, "classification": 24, "regression": 40}
_MAX_PICTURE = 256 << 20
_TITLES = {
    "map": "mAP 50-95",
    "map50": "mAP 50",
    "map75": "mAP 75",
    "mar100": "mAR 100",
    "ultralytics_map": "mAP 50-95, as Ultralytics",
    "ultralytics_map50": "mAP 50, as Ultralytics",
    "score_threshold": "best threshold",
    "rmse": "RMSE",
    "mae": "MAE",
    "r2": "R²",
    "f1": "F1",
    "auc": "AUC",
    "log_loss": "log loss",
    "top5": "top-5 accuracy",
    "accuracy": "accuracy",
}


def write_report(
    path: str | os.PathLike[str],
    evaluation: Evaluation,
    data: str | os.PathLike[str] | None = None,
    comparison: Comparison | None = None,
    *,
    split: str | None = None,
    images: str | os.PathLike[str] | None = None,
) -> None:
    """Write the page; an existing file is replaced.

    Args:
        data: what was evaluated, for the pictures of the mistakes; None: they are named only.
        split, images: as they were given to `evaluate`.

    Raises:
        Unsupported: matplotlib is not installed. InputError: the page cannot be written there.
    """
    files = _files(evaluation, data, split, images)
    page = report(evaluation, files, comparison)
    write_file(path, page.encode())


def report(
    evaluation: Evaluation, files: Mapping[str, Path] | None = None, comparison: Comparison | None = None
) -> str:
    """The page as text.

    Args:
        files: item -> its picture, for the mistakes that are shown.
    """
    title = f"{evaluation.model} {evaluation.version} on {evaluation.data}"
    style = (resources.files(__package__) / "report.css").read_text(encoding="utf-8")
    parts = [
        f"<h1>{escape(title)}</h1>",
        _about(evaluation),
        _cards(evaluation),
        _failed(evaluation),
        _compared(comparison),
        _section("Plots", f'<div class="plots">{"".join(_plots(evaluation))}</div>'),
        _mistakes(evaluation, files or {}),
        _classes(evaluation),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        + "\n".join(part for part in parts if part)
        + "\n</body>\n</html>\n"
    )


def _files(
    evaluation: Evaluation,
    data: str | os.PathLike[str] | None,
    split: str | None,
    images: str | os.PathLike[str] | None,
) -> dict[str, Path]:
    if data is None or not evaluation.outcomes or isinstance(evaluation.outcomes[0], Measured):
        return {}
    task = "object-detection" if evaluation.task == "detection" else "image-classification"
    try:
        known = read_data(Path(data), task, split=split, images=None if images is None else Path(images))
    except ModelportError:
        return {}  # rows of a table: there are no pictures
    return {item.name: item.source for item in known.items if isinstance(item.source, Path)}


def _about(evaluation: Evaluation) -> str:
    answered = evaluation.items - len(evaluation.failed)
    level, drawn = evaluation.resampling.level, evaluation.resampling
    facts = [
        ("task", evaluation.task),
        ("answered by", evaluation.via),
        ("items", f"{answered} of {evaluation.items} answered"),
        ("digest", evaluation.digest),
        ("options", ", ".join(f"{name} = {value}" for name, value in evaluation.options.items())),
        (
            "intervals",
            f"{level:.0%}, bootstrap over items, {drawn.replicates} draws, seed {drawn.seed}"
            if drawn.replicates
            else "",
        ),
        *(("note", note) for note in evaluation.notes),
    ]
    return f"<dl>{''.join(f'<dt>{escape(n)}</dt><dd>{escape(v)}</dd>' for n, v in facts if v)}</dl>"


def _cards(evaluation: Evaluation) -> str:
    cards = [_card(name, metric) for name, metric in evaluation.metrics.items()]
    return _section("Metrics", f'<div class="cards">{"".join(cards)}</div>')


def _card(name: str, metric: Metric) -> str:
    interval = "" if metric.low is None else f"{_number(metric.low)} to {_number(metric.high)}"
    title = _TITLES.get(name, name)
    return f'<div class="card">{escape(title)}<b>{_number(metric.value)}</b><span>{interval}</span></div>'


def _failed(evaluation: Evaluation) -> str:
    if not evaluation.failed:
        return ""
    rows = [(each.item, each.error) for each in evaluation.failed]
    count = f'<p class="bad">{len(rows)} items have no answer; no metric counts them.</p>'
    return _section("Not answered", count + _table(["item", "why"], rows))


def _compared(comparison: Comparison | None) -> str:
    if comparison is None:
        return ""
    rows = []
    for name, change in comparison.changes.items():
        interval = "" if change.low is None else f"{_number(change.low)} to {_number(change.high)}"
        sure = "differs" if change.significant else ""
        values = [_number(each) for each in (change.first, change.second, change.difference)]
        rows.append((_TITLES.get(name, name), *values, interval, sure))
    text = (
        f"<p>{escape(comparison.second)} beside {escape(comparison.first)}, on the {comparison.items} items"
    )
    text += f" that both answered ({comparison.left_out} left out).</p>"
    head = ["metric", "before", "now", "change", "interval of the change", ""]
    table = _table(head, rows)
    if comparison.mcnemar is not None:
        test = comparison.mcnemar
        table += f"<p>Right only before: {test.only_first}; only now: {test.only_second}. McNemar's test: "
        table += f"p = {test.p_value:.3g}.</p>"
    return _section("Compared", text + table)


def _plots(evaluation: Evaluation) -> Iterable[str]:
    first = evaluation.outcomes[0] if evaluation.outcomes else None
    if isinstance(first, Classified):
        yield from _classification_plots(evaluation)
    elif isinstance(first, Detected):
        yield from _detection_plots(evaluation)
    elif isinstance(first, Measured):
        measured = [each for each in evaluation.outcomes if isinstance(each, Measured)]
        yield _plot(
            plots.answers_and_targets(measured), "Answers over targets", "On the line they are equal."
        )
        yield _plot(plots.errors(measured), "Errors", "answer - target")


def _classification_plots(evaluation: Evaluation) -> Iterable[str]:
    outcomes = [each for each in evaluation.outcomes if isinstance(each, Classified)]
    present, table = ClassificationScorer(outcomes, len(evaluation.labels)).confusion()
    chosen = plots.most_confused(table)
    names = [evaluation.label(int(index)) for index in present[chosen]]
    part = ""
    if len(chosen) < len(present):
        part = f"The {len(chosen)} of {len(present)} classes that are taken for one another most. "
        table = plots.with_others(table, chosen)
        names.append("(others)")
    yield _plot(
        plots.confusion(names, table),
        "Confusion",
        f"{part}Colours are shares of a row.",
    )
    if all(each.scores for each in outcomes):
        right = [each.scores[0] for each in outcomes if each.correct]
        wrong = [each.scores[0] for each in outcomes if not each.correct]
        rare = len(right) > 20 * len(wrong)
        yield _plot(plots.scores(right, wrong, log=rare), "Scores", "Of the best class of each item.")
        if (svg := plots.reliability(outcomes)) is not None:
            yield _plot(
                svg, "Reliability", "On the line a score says how often it is right; numbers are items."
            )


def _detection_plots(evaluation: Evaluation) -> Iterable[str]:
    outcomes = [each for each in evaluation.outcomes if isinstance(each, Detected)]
    hits, threshold = hits_of(outcomes), _threshold(evaluation)
    if not hits:
        return
    yield _plot(plots.precision_recall(hits, evaluation.label), "Precision and recall", "At IoU .5.")
    yield _plot(plots.thresholds(hits), "Score threshold", "All boxes at IoU .5; dashed: the best F1.")
    kept = {index: ~each.ignored[0] for index, each in hits.items()}
    score = np.concatenate([each.score[kept[index]] for index, each in hits.items()])
    hit = np.concatenate([each.hit[0][kept[index]] for index, each in hits.items()])
    yield _plot(plots.scores(score[hit], score[~hit], log=True), "Scores", "Of all boxes; right at IoU .5.")
    present, table = mistakes.confused(outcomes, threshold)
    chosen = plots.most_confused(table[:-1, :-1], plots.MOST_CLASSES - 10)
    names = [evaluation.label(int(index)) for index in present[chosen]]
    part = ""
    if len(chosen) < len(present):
        part = f"{len(chosen)} of {len(present)} classes. "
        # The last two change places, for nothing to stay the last.
        folded = plots.with_others(table, np.append(chosen, len(present)))
        order = [*range(len(chosen)), len(chosen) + 1, len(chosen)]
        table = folded[np.ix_(order, order)]
        names.append("(others)")
    yield _plot(
        plots.confusion([*names, "(nothing)"], table, found="found"),
        "Confusion",
        f"{part}At IoU .5 and scores from {threshold:.2f}; the last row are boxes on nothing, the last "
        "column is what was missed.",
    )


def _threshold(evaluation: Evaluation) -> float:
    metric = evaluation.metrics.get("score_threshold")
    return metric.value if metric is not None and metric.value is not None else 0.25


def _classes(evaluation: Evaluation) -> str:
    if not evaluation.classes:
        return ""
    figures = list(evaluation.classes[0].figures)
    rows = [
        (each.label, str(each.support), *(_number(each.figures[name]) for name in figures))
        for each in sorted(evaluation.classes, key=lambda each: -each.support)
    ]
    return _section("Classes", _table(["class", "items", *figures], rows))


def _mistakes(evaluation: Evaluation, files: Mapping[str, Path]) -> str:
    threshold = _threshold(evaluation)
    most = MOST_MISTAKES[evaluation.task]
    found = mistakes.worst(evaluation.outcomes, evaluation.label, threshold, most)
    if not found:
        return _section("Worst mistakes", '<p class="good">There are none.</p>')
    shown, named = [], []
    for mistake in found:
        drawn = _drawn(mistake, files, evaluation, threshold)
        if not drawn:
            named.append((mistake.outcome.item, mistake.truth, mistake.answer))
            continue
        said = f"true: <b>{escape(mistake.truth)}</b><br>answered: <b>{escape(mistake.answer)}</b>"
        name = f'<span class="name">{escape(mistake.outcome.item)}</span>'
        inside = "".join(f'<img src="{_uri("image/jpeg", data)}" alt="">' for data in drawn)
        pair = f'<div class="pair">{inside}</div>' if len(drawn) > 1 else inside
        shown.append(f"<figure>{pair}<figcaption>{name}<br>{said}</figcaption></figure>")
    kind = "pairs" if evaluation.task == "detection" else "mistakes"
    text = ""
    if evaluation.task == "detection":
        text = f"<p>Left what is true, right what was found with a score from {threshold:.2f}.</p>"
    whole = text + (f'<div class="{kind}">{"".join(shown)}</div>' if shown else "")
    if named:
        whole += _table(["item", "true", "answered"], named)
    return _section("Worst mistakes", whole)


def _drawn(
    mistake: mistakes.Mistake, files: Mapping[str, Path], evaluation: Evaluation, threshold: float
) -> list[bytes]:
    path = files.get(mistake.outcome.item)
    if path is None:
        return []
    try:
        data = read_limited(path, _MAX_PICTURE)
    except ModelportError:
        return []
    return mistakes.pictures(mistake, data, evaluation.label, threshold)


def _plot(svg: str, title: str, text: str) -> str:
    source = _uri("image/svg+xml", svg.encode())
    return (
        f'<figure class="plot"><img src="{source}" alt="{escape(title)}"><figcaption><b>{escape(title)}</b>. '
        f"{escape(text)}</figcaption></figure>"
    )


def _section(title: str, content: str) -> str:
    return f"<h2>{escape(title)}</h2>\n{content}"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.5g}"
