"""Private environments that ./test makes, and what the examples train in them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from modelport.isolation import environments

EXAMPLES = Path(__file__).parents[2] / "examples" / "frameworks"


@contextmanager
def private(name: str) -> Iterator[Path]:
    """The environment's interpreter, with the environment found by what runs inside; a skip without it."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(environments.VARIABLE, str(cache / "modelport-bench" / "environments"))
        python = environments.python_of(environments.table(name))
        if python is None:
            pytest.skip(f"no environment {name} in {environments.root()}: ./test makes it")
        yield python


def example(python: Path, name: str, out: Path) -> Path:
    """What an example's make.py writes, in `out`."""
    return _run(python, EXAMPLES / name / "make.py", out)


def script(python: Path, text: str, out: Path) -> Path:
    """Run a script that writes into `out`, its only argument."""
    place = out / "script.py"  # frameworks that trace Python read its source
    place.write_text(text)
    return _run(python, place, out)


def _run(python: Path, place: Path, out: Path) -> Path:
    made = subprocess.run(
        [python, "-I", str(place), str(out)],
        env={"PATH": "/usr/bin:/bin", "HOME": str(out)},
        cwd=out,
        timeout=200,
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr[-2000:]
    return out
