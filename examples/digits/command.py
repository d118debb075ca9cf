"""What both training scripts share: the command line, and packing what was trained."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

SAMPLES = Path(__file__).parent / "samples"
QUIET = not sys.stdout.isatty()
"""No progress bar in a file or a pipe."""


def arguments(framework: str, out: str) -> argparse.ArgumentParser:
    """The options both scripts have; `out` is the file written unless -o says otherwise."""
    parser = argparse.ArgumentParser(description=f"Train the digits network with {framework}.")
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="folder of the MNIST files (without it: downloaded)"
    )
    parser.add_argument("--epochs", type=int, default=10, help="passes over the data (default 10)")
    parser.add_argument("--seed", type=int, default=1, help="of every random choice (default 1)")
    parser.add_argument("--pack", type=Path, metavar="REPO", help="pack into this repository, verify")
    parser.add_argument("-o", "--out", type=Path, default=Path(out), help=f"default {out}")
    return parser


def pack(source: Any, repository: Path) -> None:
    """Pack `source` (a model or the path of one) as digits version 1 and verify the package.

    The golden cases are one picture of each digit from samples/: what the package answers to them is recorded
    at packing and must come out again wherever it is verified.
    """
    try:
        import modelport
        from modelport.importers.source import Permission
    except ImportError as error:
        raise SystemExit(f"error: --pack needs Modelport ({error})\nhint: pip install modelport") from error

    bundle = modelport.pack(
        source,
        out=repository,
        name="digits",
        version="1",
        recipe="digits",
        labels=[str(digit) for digit in range(10)],
        golden=sorted(SAMPLES.glob("*-a.png")),
        permission=Permission(trust=True),  # the file was made by ourselves a moment ago
    )
    report = modelport.verify(bundle)
    print(report.summary())
    if not report.ok:
        raise SystemExit("error: the packed model does not answer as the trained one did")
