"""Measure one scenario, or `all`; `report` writes benchmarks/RESULTS.md, `peers` says who is installed."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
from pathlib import Path

from .contestants import PEER_SERVERS
from .context import Context
from .limit import Limit
from .measure import Settings
from .places import HERE, RESULTS, python_of
from .report import write_report
from .scenarios import conv, digits, overload, predict, scale, swap, synthetic, tiny

SCENARIOS = {
    module.NAME: module for module in (digits, conv, synthetic, tiny, predict, overload, swap, scale)
}
MEASURED = ("rounds", "seconds", "only", "noise", "patience")


def main() -> int:
    """Do what the command line says."""
    known = parser()
    arguments = known.parse_args()
    if arguments.what == "report":
        print(write_report(arguments.out))
        return 0
    if arguments.what == "peers":
        for name in PEER_SERVERS:
            print(f"{name:10} {python_of(name) if python_of(name).exists() else 'not installed'}")
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that servers are stopped on the way out
    names = list(SCENARIOS) if arguments.what == "all" else [arguments.what]
    settings = Settings(
        arguments.rounds, arguments.seconds, noise=arguments.noise, patience=arguments.patience
    )
    rounds = f"medians of {settings.rounds} rounds" if settings.rounds > 1 else "one round"
    with Limit() as limit:
        context = Context(
            limit, settings, arguments.only, lambda line: print(line, file=sys.stderr, flush=True)
        )
        for name in names:
            context.failures.clear()
            result = SCENARIOS[name].run(context)
            result.notes += context.failures
            result.command = f"python -m benchmarks.serving {name}{options(known, arguments)}"
            result.settings = result.settings or f"{rounds} of {settings.seconds:g} s"
            path = result.save(arguments.out)
            print(result.markdown())
            print(path, file=sys.stderr)
    return 0


def options(known: argparse.ArgumentParser, arguments: argparse.Namespace) -> str:
    """The options that change what is measured, where they are not the defaults."""
    names = [each for each in MEASURED if getattr(arguments, each) != known.get_default(each)]
    return "".join(f" --{each} {shlex.quote(str(getattr(arguments, each)))}" for each in names)


def parser() -> argparse.ArgumentParser:
    """What may be said."""
    made = argparse.ArgumentParser("python -m benchmarks.serving", description=__doc__)
    add = made.add_argument
    add("what", choices=[*SCENARIOS, "all", "report", "peers"])
    add("--rounds", type=int, default=3, help="of each measurement; medians are reported [3]")
    add("--seconds", type=float, default=5.0, help="of load in one round [5]")
    add("--only", default="", metavar="REGEX", help="servers to measure, by their name in the tables")
    add(
        "--noise",
        type=float,
        default=0.15,
        help="cores that others may use before a round is repeated [0.15]",
    )
    add("--patience", type=float, default=8.0, help="seconds to wait for a quiet machine before a round [8]")
    add(
        "--out",
        type=Path,
        default=RESULTS,
        help=f"folder of the results [{RESULTS.relative_to(HERE.parents[1])}]",
    )
    return made


if __name__ == "__main__":
    sys.exit(main())
