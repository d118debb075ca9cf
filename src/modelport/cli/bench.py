"""`modelport bench`: what a bundle costs here, by runtime, variant, threads and batch size."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec
from rich.markup import escape

from ..errors import Unsupported, UsageError
from .bundle_options import known_runtime, trust_option
from .render import console, grid, json_option, progress, write_json
from .stopping import Stop

if TYPE_CHECKING:
    from ..optimize.bench.outcome import Bench, Operator, Point, Profile
    from ..optimize.intervals import Interval

TYPES, NODES = 8, 12
"""Operators and nodes of a stage that are shown; --json and --out have all of them."""


@click.command()
@click.argument("bundle", type=click.Path())
@click.option(
    "--runtime",
    "runtimes",
    multiple=True,
    metavar="NAME",
    callback=known_runtime,
    help="What runs it. [default: all installed]",
)
@click.option(
    "--variant",
    "variants",
    multiple=True,
    metavar="NAME",
    help="A variant, or 'packed' for the network as it was packed. [default: all]",
)
@click.option("--data", type=click.Path(), help="A folder or file of items. [default: the golden cases]")
@click.option("--batch", metavar="N,…", help="Items of a call. [default: 1,4,16, or what is fixed]")
@click.option("--threads", metavar="N,…", help="Threads of a network run. [default: 1 and all cores]")
@click.option(
    "--seconds",
    type=click.FloatRange(0, min_open=True),
    help="Time to measure. [default: 20, or 1 for each configuration]",
)
@click.option("--profile", is_flag=True, help="Name the operators that take the time, stage by stage.")
@click.option("--seed", default=0, show_default=True, help="Of the order of turns.")
@click.option("-o", "--out", type=click.Path(file_okay=False), help="Write bench.json and bench.png here.")
@trust_option
@json_option
def command(bundle: str, data: str | None, out: str | None, as_json: bool, **given: Any) -> int:
    """Measure BUNDLE on this machine: latency, throughput, and where the time goes.

    Every runtime, variant, batch size and number of threads is timed end to end and stage by stage (decode,
    pre, net, post), all by turns in an order drawn anew each round. Latency is that of one call with nothing
    else running; throughput is that of as many calls at a time as fill the cores. Intervals are 95 %; ratios
    are to the first runtime and variant, round by round. Ctrl-C ends it with what was measured (exit code
    130).
    """
    from ..optimize.bench.run import bench

    if out is not None:
        _prepare(Path(out))
    plan: dict[str, Any] = {name: given[name] for name in ("seconds", "profile", "seed", "trust")}
    plan |= {"runtimes": given["runtimes"], "variants": given["variants"]}
    plan |= {"batches": _counts("--batch", given["batch"]), "threads": _counts("--threads", given["threads"])}
    stop = Stop()
    with stop.listening(), progress(f"bench {Path(bundle).name}", None, steady=True) as bar:

        def tick(what: str, done: int, whole: int) -> None:
            if what not in bar.tasks[0].description:
                bar.reset(bar.task_ids[0], description=escape(f"{Path(bundle).name}: {what}"))
            bar.update(bar.task_ids[0], completed=done, total=whole, refresh=True)

        found = bench(bundle, data, tick=tick, stopped=lambda: stop.wanted, **plan)
    if as_json:
        write_json(found.to_dict())
    else:
        _print(found)
    if out is not None:
        _write(found, Path(out))
    if found.interrupted:
        click.echo("interrupted", err=True)
        return 130
    return 0


def _counts(flag: str, text: str | None) -> tuple[int, ...]:
    """`1,4,16` as numbers.

    Raises:
        UsageError: something else.
    """
    if not text:
        return ()
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) for part in parts):
        raise UsageError(f"{flag} {text}: expected whole numbers of at least 1, as in {flag} 1,4,16")
    return tuple(int(part) for part in parts)


def _prepare(folder: Path) -> None:
    """See to it that the results can be written, before anything is measured.

    Raises:
        UsageError: the folder cannot be written to. Unsupported: matplotlib is not installed.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise UsageError(f"cannot write to --out {folder}: {problem.strerror}") from problem
    if not os.access(folder, os.W_OK):
        raise UsageError(f"cannot write to --out {folder}: it may not be written to")
    if find_spec("matplotlib") is None:
        raise Unsupported("plots need matplotlib", hint="pip install 'modelport[optimize]'")


def _write(found: Bench, folder: Path) -> None:
    from ..media.outputs import write_whole
    from ..optimize.bench.plot import plot

    report = msgspec.json.format(msgspec.json.encode(found.to_dict()), indent=2) + b"\n"
    write_whole(folder / "bench.json", report)
    write_whole(folder / "bench.png", plot(found))
    click.echo(f"written: {folder / 'bench.json'}, {folder / 'bench.png'}", err=True)


def _print(found: Bench) -> None:
    out = console()
    head = f"{found.bundle} {found.version} on {found.machine}, {found.cores} cores, {found.rounds} rounds"
    out.print(head, markup=False, soft_wrap=True)
    several = len({point.form for point in found.points}) > 1
    columns = ["runtime", "variant", "threads", "batch", "p50 ms", "p95 ms", "items/s"]
    columns += ["latency, × first"] if several else []
    out.print(grid(columns, [_row(found, point, several=several) for point in found.points]))
    out.print()
    columns = ["runtime", "variant", "threads", "batch", "decode", "pre", "net", "post", "ms of a call"]
    out.print(grid(columns, [_stages(found, point) for point in found.points]))
    for profile in found.profiles:
        _print_profile(found, profile)
    out.print()
    for line in _best(found):
        out.print(line, markup=False, soft_wrap=True)
    for left in found.left:
        click.echo(f"not measured: {left.what}: {left.reason}", err=True)
    for note in found.notes:
        click.echo(f"note: {note}", err=True)


def _row(found: Bench, point: Point, *, several: bool) -> list[str]:
    cells = [*_names(found, point), _shown(point.p50_ms), _shown(point.p95_ms), _shown(point.throughput)]
    if several:
        cells.append(_shown(point.latency_ratio) if point.latency_ratio is not None else "")
    return cells


def _stages(found: Bench, point: Point) -> list[str]:
    whole = sum(point.stages_ms.values()) or 1.0
    parts = [f"{_number(ms)} ({ms / whole:.0%})" for ms in point.stages_ms.values()]
    return [*_names(found, point), *parts, _number(whole)]


def _names(found: Bench, point: Point) -> list[str]:
    form = found.forms[point.form]
    return [form.runtime, form.variant, str(point.threads), str(point.batch)]


def _best(found: Bench) -> list[str]:
    """The shortest latency and the highest throughput, as sentences."""
    soonest, fastest = found.soonest(), found.fastest()
    return [
        f"shortest: {_number(soonest.p50_ms.value)} ms with {_titled(found, soonest)}",
        f"most: {_number(fastest.throughput.value)} items/s with {_titled(found, fastest)}, "
        f"{fastest.callers} at a time{_to_the_first(found, fastest)}",
    ]


def _to_the_first(found: Bench, point: Point) -> str:
    """A point's throughput over that of the first line, round by round; nothing of the first line itself."""
    if point is found.points[0]:
        return ""
    ratio = point.throughput_ratio
    if ratio.low <= 1 <= ratio.high:  # the median of ratios may be below 1 where that of the rates is above
        return f": round by round {_shown(ratio)} of the first line, which it cannot be told apart from"
    return f": {_shown(ratio)} times the first line"


def _titled(found: Bench, point: Point) -> str:
    threads = f"{point.threads} thread{'s' if point.threads > 1 else ''}"
    return f"{found.forms[point.form].title}, {threads}, batch {point.batch}"


def _print_profile(found: Bench, profile: Profile) -> None:
    out = console()
    out.print()
    threads = f"{profile.threads} thread{'s' if profile.threads > 1 else ''}"
    out.print(
        f"operators of {found.forms[profile.form].title}, {threads}, batch {profile.batch}, "
        f"{profile.calls} calls",
        markup=False,
        style="bold",
    )
    for stage in profile.stages:
        said = stage.note or f"{_number(stage.operators_ms)} ms in {len(stage.nodes)} nodes"
        out.print(f"{stage.stage}: {_number(stage.ms)} ms; {said}", markup=False, soft_wrap=True)
        if stage.types:
            out.print(grid(["  operator", "calls", "ms", "share"], _operators(stage.types, TYPES, _type)))
            columns = ["  node", "operator", "calls", "ms", "share", "in the graph"]
            out.print(grid(columns, _operators(stage.nodes, NODES, _node)))


def _operators(
    found: tuple[Operator, ...], most: int, row: Callable[[Operator], list[str]]
) -> list[list[str]]:
    """The first rows, and one for what is left of them."""
    rows = [row(each) for each in found[:most]]
    if rest := found[most:]:
        width = len(rows[0])
        more = [f"  … {len(rest)} more", "", *[""] * (width - 2)]
        share = width - 1 if width == 4 else width - 2
        more[share - 1], more[share] = _number(sum(e.ms for e in rest)), f"{sum(e.share for e in rest):.1%}"
        rows.append(more)
    return rows


def _type(each: Operator) -> list[str]:
    return [f"  {_kind(each)}", f"{each.calls:.3g}", _number(each.ms), f"{each.share:.1%}"]


def _node(each: Operator) -> list[str]:
    origin = " + ".join(each.nodes)
    return [
        f"  {each.name}",
        _kind(each),
        f"{each.calls:.3g}",
        _number(each.ms),
        f"{each.share:.1%}",
        origin if origin != each.name else "",
    ]


def _kind(each: Operator) -> str:
    return f"{each.type} ({each.implementation})" if each.implementation else each.type


def _shown(each: Interval) -> str:
    return f"{_number(each.value)} ({_number(each.low)}-{_number(each.high)})"


def _number(value: float) -> str:
    """Three digits that count, without an exponent."""
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 1 else f"{value:.3f}"
