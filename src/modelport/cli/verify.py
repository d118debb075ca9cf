"""`modelport verify`: replay the golden cases, tap by tap."""

from __future__ import annotations

import click

from .render import console, grid, json_option, write_json


@click.command()
@click.argument("bundle", type=click.Path())
@click.option("--threads", default=1, show_default=True, help="Threads of one network run.")
@json_option
def command(bundle: str, threads: int, as_json: bool) -> int:
    """Replay BUNDLE's golden cases and name the first place where the answers diverge.

    The cases were recorded from the source framework at four taps: decoded, pre, raw and answer. Each
    stage is run on what was recorded before it, so the guilty stage is named; then everything is run
    from the encoded file to the answer. Exit code 0: the same model; 1: not the same, or no cases.
    """
    from ..verify.replay import verify

    report = verify(bundle, threads=threads)
    if as_json:
        write_json(report.to_dict())
    else:
        out = console()
        out.print(report_table(report))
        out.print(report.summary(), markup=False)
    return 0 if report.ok else 1


def report_table(report: object) -> object:
    """The worst parity at each tap."""
    from ..verify.replay import Report

    if not isinstance(report, Report):
        raise TypeError(type(report).__name__)
    return grid([], [])
