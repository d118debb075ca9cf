"""Every row of examples/frameworks is made, packed and replayed, in the environment that it names."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from modelport.isolation import environments

ROOT = Path(__file__).resolve().parents[2]
ROWS = sorted(path.parent.name for path in (ROOT / "examples/frameworks").glob("*/row.toml"))


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """examples/frameworks/run.py as a module."""
    spec = importlib.util.spec_from_file_location("run_frameworks", ROOT / "examples/frameworks/run.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["run_frameworks"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.frameworks
@pytest.mark.parametrize("name", ROWS)
def test_a_row(name: str, script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    monkeypatch.setenv(environments.VARIABLE, str(cache / "modelport-bench" / "environments"))
    row = next(row for row in script.examples() if row.name == name)
    if row.environment:
        table = environments.table(row.environment)
        if environments.lacks(table) and environments.python_of(table) is None:
            pytest.skip(f"no environment {row.environment} in {environments.root()}: ./test makes it")
    found = script.run(row, tmp_path)
    assert found["cases"] > 0
    assert found["labels_agreeing"] == found["labels_compared"]
    assert found["seconds"] > 0 and found["peak_bytes"] > 1 << 20
    # The environment of the framework is named with its version.
    assert re.search(r"\d+\.\d+", found["source"])


def test_every_row_is_in_the_table(script: ModuleType) -> None:
    page = script.PAGE.read_text()
    for row in script.examples():
        assert f"| {row.title} |" in page, f"run examples/frameworks/run.py: {row.name} is missing"
