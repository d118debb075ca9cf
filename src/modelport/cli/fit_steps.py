"""`modelport fit-steps`: which steps a preprocessing function is."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from .groups import Grouped
from .render import console, facts, grid, json_option, tracked, write_json

if TYPE_CHECKING:
    from ..fitting.cost import Costs
    from ..fitting.finding import Finding

_TAKES = ("auto", "path", "bytes", "pil", "rgb", "bgr")
_GROUPS = {
    "The function": ("reference", "samples", "takes", "python", "limit", "timeout", "probes"),
    "The recipe": ("output", "post_of"),
    "What a wrong variant costs": ("bundle", "labels", "pictures"),
}


@click.command(cls=Grouped, groups=_GROUPS)
@click.option("--reference", required=True, metavar="FILE.py:FUNCTION", help="One picture in, one array out.")
@click.option("--samples", required=True, type=click.Path(path_type=Path), help="A folder of pictures.")
@click.option(
    "--takes",
    type=click.Choice(_TAKES),
    default="auto",
    show_default=True,
    help="What it is given.",
)
@click.option("--python", metavar="PYTHON", help="The interpreter to run it. [default: this one]")
@click.option(
    "--limit", type=click.IntRange(1, 1000), default=32, show_default=True, help="At most N samples."
)
@click.option("--timeout", type=click.FloatRange(1), default=600.0, show_default=True, help="Seconds.")
@click.option("--probes/--no-probes", default=True, help="Ask about made pictures too. [default: yes]")
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Write the recipe, a .toml."
)
@click.option(
    "--post-of",
    default="imagenet",
    show_default=True,
    metavar="RECIPE",
    help="Whose post-processing.",
)
@click.option("--bundle", type=click.Path(path_type=Path), help="The network, packed with any recipe.")
@click.option(
    "--labels",
    type=click.Path(path_type=Path),
    help="Folders of classes, or a CSV. [default: --samples]",
)
@click.option("--pictures", type=click.IntRange(2), help="At most N labelled pictures. [default: all]")
@json_option
def command(
    reference: str, samples: Path, output: Path | None, post_of: str, as_json: bool, **given: Any
) -> int:
    """Find the steps that the preprocessing function of your training code is, by equality of bytes.

    The function runs in a process of its own; it is called with each of the samples, and with some pictures
    made to tell kernels apart. The steps are proven on the samples and written as a recipe for `pack`.

    With --bundle and labelled pictures it is told what each of the usual mistakes would cost.

    The exit code is 1 when no steps give what the function gives; the nearest are written.
    """
    from ..errors import UsageError
    from ..fitting.fit import fit_steps
    from ..fitting.recipe_file import recipe_text, write_recipe
    from ..steps.recipe import load_recipe

    if given["labels"] and not given["bundle"]:
        raise UsageError("--labels are judged by a network", hint="--bundle repo/NAME")
    if output is not None and output.suffix != ".toml":
        raise UsageError(f"a recipe's name ends in .toml, got {output.name!r}", at="--output")
    load_recipe(post_of)
    finding = fit_steps(
        reference,
        samples,
        takes=given["takes"],
        python=given["python"],
        limit=given["limit"],
        probes=given["probes"],
        seconds=given["timeout"],
        progress=lambda note: click.echo(note, err=True),
    )
    if output is not None and finding.steps:
        write_recipe(finding, output, post_of)
    costs = _costs(finding, samples, given) if given["bundle"] and finding.steps else None
    if as_json:
        whole = finding.to_dict()
        if finding.steps:
            whole["recipe"] = recipe_text(finding, post_of)
        write_json(whole | ({"costs": costs} if costs else {}))
    else:
        _print(finding)
        if costs:
            _print_costs(costs)
    for reason in finding.why:
        click.echo(f"{click.style('no:', fg='red', bold=True)} {reason}", err=True)
    if output is not None and finding.steps:
        click.echo(f"wrote {output}: {_what_for(finding, output)}", err=True)
    return 0 if finding.ok else 1


def _what_for(finding: Finding, output: Path) -> str:
    """What the written recipe is good for."""
    if finding.ok:
        return f"modelport pack MODEL --recipe {output}"
    return (
        "only the nearest recipe, not equal to the function: a network packed with it is given other "
        "values than in training"
    )


def _costs(finding: Finding, samples: Path, given: dict[str, Any]) -> Costs:
    from ..fitting.cost import costs_of

    def track(items: Iterable[Any], total: int) -> Iterable[Any]:
        return tracked(items, total, "answering")

    labels = given["labels"] or samples
    return costs_of(finding, given["bundle"], labels, limit=given["pictures"], track=track)


def _print(finding: Finding) -> None:
    from ..fitting.recipe_file import proof_text, steps_text
    from ..fitting.reference import WORDS

    rows = [
        ("reference", f"{finding.reference}, given {WORDS[finding.takes]}"),
        ("gives", f"{finding.output}, {finding.layout}"),
    ]
    if finding.steps:
        rows += [
            ("picture", finding.geometry),
            ("kernel", finding.kernel or "none: nothing is resized"),
            ("colours", finding.colours),
            ("values", finding.values),
            ("proof", proof_text(finding)),
        ]
    rows += [("just as well", other) for other in finding.also]
    rows += [("note", note) for note in finding.notes]
    out = console()
    out.print(facts("", rows))
    if not finding.steps:
        return
    out.print()
    out.print("pre = [\n" + "".join(f"  {step},\n" for step in steps_text(finding)) + "]", markup=False)


def _print_costs(costs: Costs) -> None:
    out = console()
    out.print()
    out.print(f"{costs.bundle} on {costs.pictures} labelled pictures", markup=False)
    rows = [
        [
            row.name,
            f"{row.top1:.1%}",
            *(
                [f"{100 * row.difference:+.1f}", f"{100 * row.low:+.1f} to {100 * row.high:+.1f}",
                 f"{row.lost} / {row.won}", f"{row.p_value:.2g}"]
                if index
                else [""] * 4
            ),
        ]
        for index, row in enumerate(costs.rows)
    ]  # fmt: skip
    out.print(grid(["prepared", "top-1", "points", "95 % interval", "lost / won", "p"], rows))
    for reason in costs.skipped:
        click.echo(f"left out: {reason}", err=True)
