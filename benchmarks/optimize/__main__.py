"""`make` makes the networks (slow, kept), `measure` times them (minutes), `report` writes ../OPTIMIZE.md."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from .cases import CASES
from .report import write_report


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser("python -m benchmarks.optimize", description=__doc__)
    parser.add_argument("what", choices=["make", "measure", "report"])
    parser.add_argument("--data", type=Path, help="the folder with squeezenet/, imagenet200/, yolov5n/, …")
    parser.add_argument("--case", action="append", choices=list(CASES), help="[all]")
    parser.add_argument("--only", default="", metavar="REGEX", help="contestants to look at, by their id")
    parser.add_argument("--again", default="", metavar="REGEX", help="contestants to make anew")
    parser.add_argument(
        "--seconds", type=float, default=300.0, help="that measuring may take altogether [300]"
    )
    given = parser.parse_args()
    cases = [CASES[name] for name in given.case or CASES]
    if given.what == "report":
        print(write_report())
        return
    if given.data is None:
        parser.error("--data is needed")

    def tell(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    for case in cases:
        if given.what == "make":
            from .making import make

            make(case, given.data.resolve(), only=given.only, again=given.again, tell=tell)
        else:
            from .timing import measure

            measure(
                case, given.data.resolve(), seconds=given.seconds / len(cases), only=given.only, tell=tell
            )
        write_report()  # so the page is never behind the results


if __name__ == "__main__":
    main()
