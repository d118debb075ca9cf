"""`modelport evaluate`: a bundle, or a server's model, on data with known answers."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ..errors import InputError, UsageError, did_you_mean
from .bundle_options import SHARE, named, pairs_of, runtime_option, variant_option
from .render import console, facts, grid, json_option, tracked, write_json

if TYPE_CHECKING:
    from ..evaluate.values import Comparison, Evaluation, Metric

F = TypeVar("F", bound=Callable[..., Any])
Bound = tuple[str, float]

_FILE = click.Path(dir_okay=False, path_type=Path)
_CLASSES_SHOWN = 20
_FAILED_SHOWN = 10
_LARGER_IS_WORSE = frozenset(("rmse", "mae", "log_loss"))


def _data_options(function: F) -> F:
    """The options that say what the data is."""
    for option in (
        click.option("--limit", type=click.IntRange(1), help="At most N items, evenly picked."),
        click.option(
            "--map", "renamed", multiple=True, metavar="DATA=MODEL", help="A class's name on both sides."
        ),
        click.option("--as", "kind", type=click.Choice(["classification", "regression"]), help="Of tensors."),
        click.option("--output", metavar="NAME", help="The output tensor to judge."),
        click.option("--images", type=click.Path(file_okay=False), help="The pictures of a COCO file."),
        click.option("--target", metavar="COLUMN", help="Where a table has the right answers."),
        click.option("--split", metavar="NAME", help="A part of the data: val, test, train."),
        click.option("--data", required=True, type=click.Path(), help="A folder or a file."),
    ):
        function = option(function)
    return function


def _answer_options(function: F) -> F:
    """The options that say who answers, and how."""
    for option in (
        click.option("--threads", type=click.IntRange(1), help="Items under way at a time. [default: cores]"),
        click.option("--iou", type=SHARE, help="--option iou_threshold=… [default: 0.7 for detection]"),
        click.option("--conf", type=SHARE, help="--option score_threshold=… [default: 0.001 for detection]"),
        click.option(
            "--option", "options", multiple=True, metavar="NAME=VALUE", help="An option of the bundle."
        ),
        click.option("--key", help="The server's key.", envvar="MODELPORT_KEY"),
        click.option("--url", help="Ask the server at this address in place of running the bundle here."),
        variant_option,
        runtime_option,
    ):
        function = option(function)
    return function


def _judging_options(function: F) -> F:
    """The options that say what becomes of the figures."""
    for option in (
        click.option(
            "--allow-failed", type=click.IntRange(0), default=0, help="Items that may have no answer."
        ),
        click.option("--at-most", multiple=True, metavar="METRIC=X", help="Exit with 1 above this: rmse=4."),
        click.option(
            "--at-least", multiple=True, metavar="METRIC=X", help="Exit with 1 below this: map=0.5."
        ),
        click.option("--seed", default=0, show_default=True, help="Of the bootstrap."),
        click.option(
            "--bootstrap",
            default=1000,
            show_default=True,
            type=click.IntRange(0),
            help="Draws for the 95 % intervals; 0 for none.",
        ),
        click.option("--save", type=_FILE, help="Keep everything, each item's outcome too, as JSON."),
        click.option("--report", type=_FILE, help="Write a page with plots and the worst mistakes."),
        click.option("--against", type=click.Path(), help="Compare: another bundle, or what --save kept."),
    ):
        function = option(function)
    return function


@click.command()
@click.argument("bundle", type=click.Path())
@_data_options
@_answer_options
@_judging_options
@json_option
def command(bundle: str, data: str, as_json: bool, **given: Any) -> int:
    """Answer all of --data with BUNDLE and say how good the answers are.

    Pictures with classes: a folder for each class, or a .csv or .jsonl of file,label. Boxes: YOLO's
    folders or YAML file, or COCO's .json. Rows or texts with a target: a .csv, .json or .jsonl; tensors
    with one: a .csv, .jsonl or .npz.

    With --url, BUNDLE may be the name of a model at the server.

    The exit code is 1 when --at-least or --at-most is not kept, 3 when more items than --allow-failed have
    no answer.
    """
    from ..evaluate.compare import compare

    bounds = {name: _bounds(given[name], f"--{name.replace('_', '-')}") for name in ("at_least", "at_most")}
    for name in ("save", "report"):
        _check_place(f"--{name}", given[name])
    evaluation = _evaluate(bundle, data, given)
    _check_metrics(evaluation, [name for each in bounds.values() for name, _ in each])
    comparison = None
    if given["against"]:
        other = _other(given["against"], data, given, evaluation)
        comparison = compare(other, evaluation, evaluation.resampling)
    if given["save"]:
        from ..evaluate.values import write

        write(evaluation, given["save"])
    if given["report"]:
        from ..evaluate.report import write_report

        places = {"split": given["split"], "images": given["images"]}
        write_report(given["report"], evaluation, data, comparison, **places)
    broken = _broken(evaluation, bounds["at_least"], bounds["at_most"])
    if as_json:
        _print_json(evaluation, comparison, broken)
    else:
        _print(evaluation, comparison, broken)
    failed = len(evaluation.failed)
    if broken or failed <= given["allow_failed"]:
        return 1 if broken else 0
    click.echo(
        f"exit code {InputError.exit_code}: {failed} of {evaluation.items} items have no answer; "
        f"--allow-failed {failed} lets them pass",
        err=True,
    )
    return InputError.exit_code


def _check_place(option: str, file: Path | None) -> None:
    """That a file can be written, before anything is asked.

    Raises:
        UsageError: its folder is not there, or may not be written to.
    """
    if file is None:
        return
    reason = "it may not be written to" if file.parent.is_dir() else "no such folder"
    if not os.access(file.parent, os.W_OK):
        raise UsageError(f"cannot write {option} {file}: {reason}: {file.parent}")


def _evaluate(bundle: str, data: str, given: Mapping[str, Any], **other: Any) -> Evaluation:
    from ..evaluate.run import evaluate

    def track(items: Iterable[Any], total: int) -> Iterable[Any]:
        return tracked(items, total, "evaluate")

    names = ["runtime", "variant", "url", "key", "split", "target", "images", "output", "kind"]
    names += ["limit", "seed"]
    settings: dict[str, Any] = {name: given[name] for name in names}
    settings |= {
        "concurrency": given["threads"],
        "options": _options(given),
        "renamed": named(given["renamed"], "--map DATA=MODEL"),
        "replicates": given["bootstrap"],
    }
    return evaluate(bundle, data, track=track, **(settings | other))


def _other(against: str, data: str, given: Mapping[str, Any], evaluation: Evaluation) -> Evaluation:
    """What `evaluation` is compared with: a file of --save, or another bundle on the same data."""
    if Path(against).is_file() and Path(against).suffix.lower() == ".json":
        from ..evaluate.values import read

        return read(against)
    return _evaluate(against, data, given, url=None, variant=None, replicates=0)


def _options(given: Mapping[str, Any]) -> dict[str, float | int | bool]:
    found: dict[str, float | int | bool] = {}
    for name, text in named(given["options"], "--option NAME=VALUE").items():
        if text.lower() in ("true", "false"):
            found[name] = text.lower() == "true"
            continue
        try:
            found[name] = int(text) if text.lstrip("+-").isdecimal() else float(text)
        except ValueError:
            raise UsageError(f"--option {name}={text}: expected a number, true or false") from None
    short = pairs_of(given["options"], conf=given["conf"], iou=given["iou"])
    return found | {name: value for name, value in short.items() if name not in found}


def _bounds(texts: Iterable[str], flag: str) -> list[Bound]:
    found = []
    for name, text in named(texts, f"{flag} METRIC=NUMBER").items():
        try:
            bound = float(text)
        except ValueError:
            bound = math.nan
        if not math.isfinite(bound):
            raise UsageError(f"{flag} {name}={text}: expected a number")
        found.append((name, bound))
    return found


def _check_metrics(evaluation: Evaluation, names: Iterable[str]) -> None:
    for name in names:
        if name not in evaluation.metrics:
            raise UsageError(
                f"there is no metric {name!r}; there are {', '.join(evaluation.metrics)}",
                hint=did_you_mean(name, evaluation.metrics, otherwise=""),
            )


def _broken(evaluation: Evaluation, least: list[Bound], most: list[Bound]) -> list[str]:
    """The bounds that are not kept, as sentences; a metric that is not defined keeps none."""
    found = []
    for name, bound in least:
        value = evaluation[name]
        if value is None or value < bound:
            found.append(f"{name} is {_number(value)}, below {bound:g}")
    for name, bound in most:
        value = evaluation[name]
        if value is None or value > bound:
            found.append(f"{name} is {_number(value)}, above {bound:g}")
    return found


def _print_json(evaluation: Evaluation, comparison: Comparison | None, broken: list[str]) -> None:
    whole: dict[str, Any] = {**evaluation.to_dict(), "ok": not broken, "broken": broken}
    if comparison is not None:
        whole["comparison"] = comparison.to_dict()
    write_json(whole)


def _print(evaluation: Evaluation, comparison: Comparison | None, broken: list[str]) -> None:
    out = console()
    answered = evaluation.items - len(evaluation.failed)
    rows = [
        ("model", f"{evaluation.model} {evaluation.version}, {evaluation.task}, by {evaluation.via}"),
        ("data", f"{evaluation.data}: {answered} of {evaluation.items} items answered"),
        *(("note", note) for note in evaluation.notes),
    ]
    if evaluation.options:
        said = ", ".join(f"{name} {value}" for name, value in evaluation.options.items())
        rows.append(("options", said))
    out.print(facts("", rows))
    level = f"{evaluation.resampling.level:.0%} interval"
    cells = [_metric_cells(name, metric) for name, metric in evaluation.metrics.items()]
    out.print(grid(["metric", "value", level], cells))
    _print_classes(evaluation)
    if comparison is not None:
        _print_comparison(comparison)
    for failure in evaluation.failed[:_FAILED_SHOWN]:
        click.echo(f"no answer: {failure.item}: {failure.error}", err=True)
    if len(evaluation.failed) > _FAILED_SHOWN:
        click.echo(f"… {len(evaluation.failed)} items in all have no answer", err=True)
    for sentence in broken:
        click.echo(f"{click.style('no:', fg='red', bold=True)} {sentence}", err=True)


def _metric_cells(name: str, metric: Metric) -> tuple[str, str, str]:
    interval = "" if metric.low is None else f"{_number(metric.low)} to {_number(metric.high)}"
    return name, _number(metric.value), interval


def _print_classes(evaluation: Evaluation) -> None:
    classes = sorted(evaluation.classes, key=lambda each: -each.support)
    if not classes:
        return
    names = list(classes[0].figures)
    rows = [
        [each.label, str(each.support), *(_number(each.figures[name]) for name in names)]
        for each in classes[:_CLASSES_SHOWN]
    ]
    console().print()
    console().print(grid(["class", "items", *names], rows))
    if len(classes) > _CLASSES_SHOWN:
        console().print(f"… and {len(classes) - _CLASSES_SHOWN} more classes (--json, --report)")


def _print_comparison(comparison: Comparison) -> None:
    out = console()
    out.print()
    out.print(f"{comparison.second} beside {comparison.first}, {comparison.items} items that both answered")
    rows = []
    for name, change in comparison.changes.items():
        interval = "" if change.low is None else f"{_number(change.low)} to {_number(change.high)}"
        rows.append(
            [
                name,
                _number(change.first),
                _number(change.second),
                _number(change.difference, sign=True),
                interval,
                _said(name, change.difference) if change.significant else "",
            ]
        )
    out.print(grid(["metric", "before", "now", "change", "interval", ""], rows))
    if comparison.mcnemar is not None:
        test = comparison.mcnemar
        out.print(
            f"right only before: {test.only_first}, only now: {test.only_second}; "
            f"McNemar's test: p = {test.p_value:.3g}"
        )
    if comparison.left_out:
        out.print(f"{comparison.left_out} items that only one of the two answered are left out")


def _said(name: str, difference: float | None) -> str:
    return "better" if ((difference or 0) > 0) != (name in _LARGER_IS_WORSE) else "worse"


def _number(value: float | None, *, sign: bool = False) -> str:
    if value is None:
        return "-"
    text = f"{value:.4f}" if abs(value) < 10 else f"{value:.6g}"
    return f"+{text}" if sign and value > 0 else text
