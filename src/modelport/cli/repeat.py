"""`modelport repeat`: a figure of a report, measured again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from .optimize import show
from .render import console, grid, json_option, progress, write_json

if TYPE_CHECKING:
    from ..optimize.judge import Judgement
    from ..optimize.measure import Figures
    from ..optimize.repeat import Repeated


@click.command()
@click.argument("report", type=click.Path())
@click.argument("candidate", metavar="[ID]", required=False)
@json_option
def command(report: str, candidate: str | None, as_json: bool) -> int:
    """Make, judge and measure candidate ID of REPORT again, beside the bundle as it was.

    REPORT is a report.json of optimize, or its folder; without ID the chosen candidate is meant. The exit
    code is 0 where the verdict is the same and the intervals of the latency meet, else 1.
    """
    from ..optimize.repeat import read_report, repeat

    found = read_report(report)
    with progress(f"repeat {candidate or found.chosen}", None) as bar:
        again = repeat(found, candidate, tell=lambda told: show(bar, told))
    if as_json:
        write_json(again.to_dict())
    else:
        _print(again)
    return 0 if again.holds else 1


def _print(again: Repeated) -> None:
    then, now = _column(again.before.figures, again.before.judgement), _column(again.figures, again.judgement)
    rows = [[name, then.get(name, ""), now.get(name, "")] for name in now]
    console().print(grid([again.id, "in the report", "now"], rows))
    click.echo("it holds" if again.holds else "it does not hold: another verdict, or another latency")


def _column(figures: Figures | None, judgement: Judgement | None) -> dict[str, str]:
    found = {}
    if judgement is not None:
        lost = f"{judgement.loss:.2f} ({judgement.low:.2f} to {judgement.high:.2f})"
        found = {"verdict": judgement.verdict, f"loss of {judgement.metric}, points": lost}
    if figures is not None:
        own = figures.ratio
        found |= {
            "latency over the START's": f"{own.value:.3f} ({own.low:.3f} to {own.high:.3f})",
            "p50, ms": f"{figures.p50_ms:.2f}",
            "p95, ms": f"{figures.p95_ms:.2f}",
            "items/s": f"{figures.throughput:.1f} (batch {figures.batch})",
            "peak memory, MB": f"{figures.peak_bytes / 1e6:.0f}",
            "start-up, s": f"{figures.start_seconds:.2f}",
            "size, MB": f"{figures.size_bytes / 1e6:.2f}",
        }
    return found
