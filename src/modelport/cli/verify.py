"""`modelport verify`: replay the golden cases, tap by tap."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from .bundle_options import runtime_of, trust_option
from .render import console, grid, json_option, write_json

if TYPE_CHECKING:
    from ..verify.replay import Report

MACHINES = ("haswell", "aarch64", "aarch64-dotprod", "wasm", "all")
NOT_COUNTED = (
    "(the stages and the exit code are those of the network as it was packed; a variant is another form "
    "of it, which was judged when it was made)"
)
STAGE_NAMES = {
    "decode": "decode",
    "pre": "pre",
    "net": "net",
    "post": "post",
    "end_to_end": "end to end",
}


@click.command()
@click.argument("bundle", type=click.Path())
@click.option(
    "--threads", default=1, show_default=True, type=click.IntRange(1), help="Threads of one network run."
)
@click.option(
    "--on",
    "machines",
    multiple=True,
    type=click.Choice(MACHINES),
    help="Replay on this emulated machine instead, and compare with this one; several times, or `all`.",
)
@click.option(
    "--variant",
    metavar="NAME",
    help="With --on: this form of the network; packed: as it was packed.  [default: the chosen one]",
)
@click.option(
    "--data",
    type=click.Path(exists=True),
    help="With --on: items of this folder or file beside the golden cases.",
)
@click.option(
    "--cases", default=4, show_default=True, type=click.IntRange(1), help="With --on: items in all."
)
@click.option(
    "--seconds",
    default=60.0,
    show_default=True,
    type=click.FloatRange(1),
    help="With --on: time for each machine, after which no item is begun; networks in floats take minutes "
    "on an emulated PC.",
)
@click.option(
    "-o",
    "--out",
    type=click.Path(),
    help="With --on: the new version to write, a folder, whose manifest says where the bits are the same.",
)
@trust_option
@json_option
def command(
    bundle: str,
    threads: int,
    machines: tuple[str, ...],
    variant: str | None,
    data: str | None,
    cases: int,
    seconds: float,
    out: str | None,
    trust: bool,
    as_json: bool,
) -> int:
    """Replay BUNDLE's golden cases and name the first place where the answers diverge.

    The cases were recorded from the source framework at four taps: decoded, pre, raw and answer. Each
    stage is run on what was recorded before it, so the guilty stage is named; then everything is run
    from the encoded file to the answer. Exit code 0: the same model; 1: not the same, or no cases. Where a
    variant answers on this machine, a line says how its answers stand to the recorded ones; it is another
    form of the network, and does not change the exit code.

    With --on the stages are run on an emulated older PC, on arm64 or in WebAssembly and held against what
    they give here: 0 where no answer changes, 1 where one does, 4 where no such machine can be emulated.
    """
    if machines:
        from . import verify_on

        asked = verify_on.Asked(machines, variant, data, cases, seconds, out)
        return verify_on.run(bundle, asked, as_json=as_json)
    if not (variant is data is out is None):
        raise click.UsageError("--variant, --data and --out are for --on MACHINE")
    from ..verify.replay import verify

    report = verify(bundle, threads=threads, runtime=runtime_of(trust))
    if as_json:
        write_json(report.to_dict())
    else:
        _print(report)
    return 0 if report.ok else 1


def _print(report: Report) -> None:
    rows = [
        (
            STAGE_NAMES[stage],
            "same" if parity.ok else "DIFFERS",
            f"{parity.max_abs:.3g}",
            f"{parity.mismatched} of {parity.total}",
        )
        for stage, parity in report.taps.items()
    ]
    out = console()
    if rows:
        out.print(grid(["stage", "", "largest difference", "beyond tolerance"], rows))
    for stage, parity in report.taps.items():
        if parity.ok and parity.reason:
            out.print(f"{STAGE_NAMES[stage]}: {parity.reason}", markup=False, soft_wrap=True)
    out.print(f"{report.name} version {report.version}: {report.summary()}", markup=False, soft_wrap=True)
    if report.answering is not None:
        out.print(report.answering.sentence(), markup=False, soft_wrap=True)
        if report.answering.variant and not report.answering.same_network:
            out.print(NOT_COUNTED, markup=False, soft_wrap=True)
