"""`modelport optimize`: a smaller and faster form of a bundle, measured and judged."""

from __future__ import annotations

import re
from collections.abc import Mapping, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.markup import escape

from ..errors import UsageError
from .bundle_options import named
from .render import console, json_option, progress, write_json

if TYPE_CHECKING:
    from rich.progress import Progress

    from ..optimize.clock import Told
    from ..optimize.outcome import Report

LEAST_SECONDS = 5.0


@click.command()
@click.argument("bundle", type=click.Path())
@click.option("--data", required=True, type=click.Path(), help="Items like those that it will see.")
@click.option("--eval", "labelled", type=click.Path(), help="Data with known answers, as evaluate reads it.")
@click.option(
    "--max-drop", default=0.5, show_default=True, type=click.FloatRange(0), help="Points that may be lost."
)
@click.option(
    "--gate",
    type=click.Choice(["interval", "estimate"]),
    default="interval",
    show_default=True,
    help="What has to be within --max-drop: the whole interval of the loss, or the loss that was seen.",
)
@click.option("--portable", is_flag=True, help="Only 8 bits that no processor overflows on.")
@click.option("--target", type=click.Choice(["cpu"]), default="cpu", show_default=True, help="Where it runs.")
@click.option("--budget", default="10m", show_default=True, help="Time for the search: 90s, 10m, 1h.")
@click.option("--split", metavar="NAME", help="A part of --eval: val, test, train.")
@click.option(
    "--column", metavar="NAME", help="The column of --eval with the right answers (evaluate: --target)."
)
@click.option(
    "--map",
    "renamed",
    multiple=True,
    metavar="DATA=MODEL",
    help="A class of --eval, and the model's name for it.",
)
@click.option("--model-version", help="The version to write. [default: the next number]")
@click.option("-o", "--out", required=True, type=click.Path(), help="Model repository to write into.")
@json_option
def command(bundle: str, data: str, as_json: bool, **given: Any) -> int:
    """Search for a smaller and faster form of BUNDLE that is still right.

    Candidates (simplified, float16, 8 bits with several calibrations, layers put back to float) are judged
    on the same items as BUNDLE, measured by turns end to end, and dropped where they lose accuracy or time.
    The best becomes a variant of a new version, which serve takes on machines of this class; the report lies
    beside it. The exit code is 1 where nothing better was found. An interrupted search goes on where it was.
    """
    from ..optimize.plan import Plan
    from ..optimize.run import optimize

    plan = Plan(
        margin=given["max_drop"],
        gate=given["gate"],
        seconds=_seconds(given["budget"]),
        portable=given["portable"],
        evaluation=_evaluation(given),
    )
    try:
        with progress(f"optimize {Path(bundle).name}", None) as bar:
            shown = Shown(bar)
            report = optimize(
                bundle,
                data,
                out=given["out"],
                labelled=given["labelled"],
                plan=plan,
                new_version=given["model_version"],
                tell=shown,
            )
    except KeyboardInterrupt:
        click.echo("interrupted; the same command goes on where it was", err=True)
        return 130
    if as_json:
        write_json(report.to_dict())
    else:
        _print(report, given["out"], shown.lasting)
    return 0 if report.written else 1


class Shown:
    """What is being done: on the bar, or where nobody looks at one, a line where something begins.

    Args:
        bar: of `progress`.
    """

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._begun = ""
        self.lasting: set[str] = set()
        """What is not to be said again at the end."""

    def __call__(self, told: Told) -> None:
        if told.lasting:
            self.lasting.add(told.text)
            self._bar.console.print(f"note: {told.text}", markup=False, highlight=False, soft_wrap=True)
            return
        minutes, seconds = divmod(int(told.left), 60)
        left = f"(up to {minutes}:{seconds:02d} more)"
        text = f"{told.text} {left}"
        of_what = told.text.rpartition(": ")[0] or told.text
        if not self._bar.disable:
            room = self._bar.console.width // 2  # the rest is the bar's
            if len(text) > room:
                text = f"{of_what[: max(0, room - len(left) - 2)]}… {left}"
            self._bar.update(
                self._bar.task_ids[0], description=escape(text), completed=told.done, total=told.of
            )
        elif of_what != self._begun:
            self._begun = of_what
            click.echo(text, err=True)


def _print(report: Report, out: str, said: Set[str]) -> None:
    from ..optimize.outcome import gained, judged_by
    from .optimize_table import print_entries

    place = f"{report.bundle} {report.version} on {report.machine}, {report.cores} cores"
    console().print(f"{place}, judged by {judged_by(report)}", markup=False, soft_wrap=True)
    print_entries(report.entries)
    for note in report.notes:
        if note not in said:
            click.echo(f"note: {note}", err=True)
    if report.written:
        click.echo(f"{report.chosen} is best: {gained(report)}; written: {Path(out) / report.written}")
    else:
        click.echo("nothing better was found; nothing was written but the report", err=True)
    click.echo(f"report: {Path(out) / report.folder}")


def _evaluation(given: Mapping[str, Any]) -> dict[str, Any]:
    """What was said of the labelled data, as `evaluate` calls it.

    Raises:
        UsageError: a class's name on one side alone.
    """
    renamed = named(given["renamed"], "--map DATA=MODEL")
    said = (("split", given["split"]), ("target", given["column"]), ("renamed", renamed))
    return {name: value for name, value in said if value}


def _seconds(text: str) -> float:
    """A duration: 90s, 10m, 1h.

    Raises:
        UsageError: another form, or too little time for anything.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text.strip())
    if match is None:
        raise UsageError(f"--budget {text!r}: expected 90s, 10m or 1h")
    seconds = float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]
    if seconds < LEAST_SECONDS:
        raise UsageError(
            f"--budget {text!r}: nothing is tried in less than {LEAST_SECONDS:g} seconds",
            hint="minutes are usual: 10m",
        )
    return seconds
