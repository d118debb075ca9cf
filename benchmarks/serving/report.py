"""benchmarks/RESULTS.md, made of the results that were saved and of nothing else."""

from __future__ import annotations

from pathlib import Path

from .places import HERE
from .result import Result

ORDER = ("digits", "conv", "synthetic", "tiny", "predict", "overload", "swap", "scale")
TARGET = HERE.parent / "RESULTS.md"
HEAD = """# Results

Made by `python -m benchmarks.serving report`; do not edit. `serving/README.md` says how it is measured and
what has to be installed.

Figures of one section were measured by turns on one machine, so ratios hold; compare figures of two sections
or two machines with care. `of one core` and `of two cores` are the share of what onnxruntime does in-process
in one and in two processes, one thread each, at its best batch size. `CPU us` is the server's processor time
for one request, `beyond the network` the same without what the network itself takes. `MiB` counts shared
pages once (PSS); `start s` is from the start of the command to the first right answer. Every server's answer
was checked before it was timed.
"""


def report(folder: Path) -> str:
    """The whole page, of the results in a folder."""
    found = {path.stem: path for path in folder.glob("*.json")}
    names = [name for name in ORDER if name in found] + sorted(set(found) - set(ORDER))
    sections = [Result.load(found[name]).markdown() for name in names]
    return "\n".join([HEAD, *sections]).rstrip() + "\n"


def write_report(folder: Path) -> Path:
    """Write it, and say where."""
    TARGET.write_text(report(folder))
    return TARGET
