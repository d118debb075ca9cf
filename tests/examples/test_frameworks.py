"""Every row of examples/frameworks is made, packed and replayed, in the environment that it names."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest

from modelport.bundle.store import Bundle
from modelport.importers.source import SourceOptions, find_importer
from modelport.isolation import environments
from modelport.testing import check_importer
from modelport.verify.replay import read_taps

ROOT = Path(__file__).resolve().parents[2]
ROWS = sorted(path.parent.name for path in (ROOT / "examples/frameworks").glob("*/row.toml"))
HEAVY = (
    *("torch", "tensorflow", "keras", "transformers", "paddle", "mxnet", "cv2", "jax", "ultralytics"),
    *("sklearn", "xgboost", "lightgbm", "catboost", "joblib", "skops"),
)


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """examples/frameworks/run.py as a module."""
    spec = importlib.util.spec_from_file_location("run_frameworks", ROOT / "examples/frameworks/run.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["run_frameworks"] = module
    spec.loader.exec_module(module)
    return module


class Made(NamedTuple):
    """A row that was run: its model, its bundle, and what `pack` measured."""

    row: Any
    source: Path
    bundle: Path
    conversion: dict[str, Any]


@pytest.fixture(scope="module")
def make(script: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Made]]:
    """Makes, packs and replays a row once; skips where its environment is not there."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    there: dict[str, Made] = {}

    def made(name: str) -> Made:
        row = next(row for row in script.examples() if row.name == name)
        if row.environment:
            table = environments.table(row.environment)
            if environments.lacks(table) and environments.python_of(table) is None:
                pytest.skip(f"no environment {row.environment} in {environments.root()}: ./test makes it")
        if name not in there:
            out = tmp_path_factory.mktemp(name)
            found = script.run(row, out)
            there[name] = Made(row, out / "model" / row.source, out / "repo" / name, found)
        return there[name]

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(environments.VARIABLE, str(cache / "modelport-bench" / "environments"))
        yield made


@pytest.mark.frameworks
@pytest.mark.parametrize("name", ROWS)
def test_a_row(name: str, make: Callable[[str], Made]) -> None:
    found = make(name).conversion
    assert found["cases"] > 0
    assert found["labels_agreeing"] == found["labels_compared"]
    assert found["seconds"] > 0 and found["peak_bytes"] > 1 << 20
    # The framework is named with its version.
    assert re.search(r"\d+\.\d+", found["source"])


@pytest.mark.frameworks
@pytest.mark.parametrize("name", ROWS)
def test_its_importer_keeps_the_contract(
    name: str, make: Callable[[str], Made], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make(name)
    # What a row's flags name lies beside its model.
    monkeypatch.chdir(made.source.parent)
    if made.conversion["format"] == "python":
        pytest.skip("it stays Python: nothing is converted")
    flags = dict(zip(made.row.pack, [*made.row.pack[1:], ""], strict=False))
    weights = flags.get("--weights")
    options = SourceOptions(
        Path(weights) if weights else None, flags.get("--signature", ""), flags.get("--class", "")
    )
    importer = type(find_importer(made.source, None, options))
    check_importer(
        importer,
        made.source,
        frameworks=HEAVY,
        inputs=[flags["--input"]] if "--input" in flags else [],
        example=recorded(made.bundle),
        options=options if options != SourceOptions() else None,
        code="--trust" in flags,
        isolate=True,
        renamed=False,
    )


def recorded(bundle: Path) -> dict[str, np.ndarray] | None:
    """What the network was given in the first golden case; None where the bundle renamed its inputs."""
    opened = Bundle.open(bundle)
    case = opened.manifest.golden.cases[0] if opened.manifest.golden else None
    assert case is not None
    prepared = read_taps(opened.read(case.taps), case.taps)["pre"]
    names = [spec.name for spec in opened.manifest.graphs.net.signature.inputs]
    if any(name.startswith("net_") for name in names):
        return None  # a name that the steps have for themselves
    return {name: prepared[name][None] for name in names}


def test_every_row_is_in_the_table(script: ModuleType) -> None:
    page = script.PAGE.read_text()
    for row in script.examples():
        assert f"| {row.title} |" in page, f"run examples/frameworks/run.py: {row.name} is missing"
