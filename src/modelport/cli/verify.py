"""`modelport verify`: replay the golden cases, tap by tap."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from .bundle_options import runtime_of, trust_option
from .render import console, grid, json_option, write_json

if TYPE_CHECKING:
    from ..verify.replay import Report

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
@trust_option
@json_option
def command(bundle: str, threads: int, trust: bool, as_json: bool) -> int:
    """Replay BUNDLE's golden cases and name the first place where the answers diverge.

    The cases were recorded from the source framework at four taps: decoded, pre, raw and answer. Each
    stage is run on what was recorded before it, so the guilty stage is named; then everything is run
    from the encoded file to the answer. Exit code 0: the same model; 1: not the same, or no cases.
    """
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
    out.print(f"{report.name} version {report.version}: {report.summary()}", markup=False, soft_wrap=True)
