"""`modelport repeat`: a figure of a report, measured again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from .optimize import Shown
from .render import console, grid, json_option, progress, write_json

if TYPE_CHECKING:
    from ..optimize.intervals import Interval
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
        again = repeat(found, candidate, tell=Shown(bar))
    if as_json:
        write_json(again.to_dict())
    else:
        _print(again)
    return 0 if again.holds else 1


def _print(again: Repeated) -> None:
    then, now = _column(again.before.figures, again.before.judgement), _column(again.figures, again.judgement)
    rows = [[name, then.get(name, ""), now.get(name, "")] for name in now]
    p50, rate = again.start_p50_ms_before, again.start_throughput_before
    rows += [
        ["p50 of the START, ms", "" if p50 is None else f"{p50:.2f}", f"{again.start_p50_ms:.2f}"],
        ["items/s of the START", "" if rate is None else f"{rate:.1f}", f"{again.start_throughput:.1f}"],
    ]
    console().print(grid([again.id, "in the report", "now"], rows))
    click.echo(f"it does not hold: {'; '.join(_changed(again))}" if again.changed else _held(again))


def _held(again: Repeated) -> str:
    """What was judged, where all of that holds."""
    then, said = again.before, []
    if again.judgement is None:
        return "nothing was judged: it is what the others are compared with"
    if then.judgement is not None:
        said.append(f"the verdict is {again.judgement.verdict!r} again")
    if then.figures is not None:
        said.append("the interval of its latency over the START's meets the one in the report")
    if not said:
        return "nothing was judged: the report has neither a verdict nor a latency of it"
    return f"it holds: {', and '.join(said)}; throughput is shown and not judged"


def _changed(again: Repeated) -> list[str]:
    """What does not hold, each with what it was and what it is."""
    said, then = [], again.before
    if "verdict" in again.changed and then.judgement is not None and again.judgement is not None:
        said.append(f"the verdict was {then.judgement.verdict!r} and is {again.judgement.verdict!r}")
    if "latency" in again.changed and then.figures is not None:
        one, other, before = then.figures.ratio, again.figures.ratio, again.start_p50_ms_before
        ratios = f"the latency was {_interval(one)} of the START's and is {_interval(other)}"
        start = (
            ""
            if before is None
            else f", with the START at {before:.2f} ms then and {again.start_p50_ms:.2f} now"
        )
        said.append(ratios + start)
    return said


def _interval(own: Interval) -> str:
    return f"{own.value:.3f} ({own.low:.3f} to {own.high:.3f})"


def _column(figures: Figures | None, judgement: Judgement | None) -> dict[str, str]:
    found = {}
    if judgement is not None:
        lost = f"{judgement.loss:.2f} ({judgement.low:.2f} to {judgement.high:.2f})"
        found = {"verdict": judgement.verdict, f"loss of {judgement.metric}, points": lost}
    if figures is not None:
        found |= {
            "latency over the START's": _interval(figures.ratio),
            "p50, ms": f"{figures.p50_ms:.2f}",
            "p95, ms": f"{figures.p95_ms:.2f}",
            "items/s": f"{figures.throughput:.1f} ({', '.join(figures.throughput_notes)})",
            "peak memory, MB": f"{figures.peak_bytes / 1e6:.0f}",
            "start-up, s": f"{figures.start_seconds:.2f}",
            "size, MB": f"{figures.size_bytes / 1e6:.2f}",
        }
    return found
