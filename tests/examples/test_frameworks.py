"""Every row of examples/frameworks is made, packed and replayed, in the environment that it names."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import pytest

from modelport import testing
from modelport.bundle.store import Bundle
from modelport.importers.batch import run_session
from modelport.importers.source import SourceOptions, find_importer
from modelport.isolation import environments
from modelport.runtimes.onnxruntime import OnnxRuntime
from modelport.testing import check_importer
from modelport.verify.replay import read_taps

ROOT = Path(__file__).resolve().parents[2]
ROWS = sorted(path.parent.name for path in (ROOT / "examples/frameworks").glob("*/row.toml"))
HEAVY = (
    *("torch", "tensorflow", "keras", "transformers", "paddle", "mxnet", "cv2", "jax", "ultralytics"),
    *("sklearn", "xgboost", "lightgbm", "catboost", "joblib", "skops"),
)
# As sitecustomize.py on PYTHONPATH: what `modelport pack` had imported when it ended.
WATCH = """
import atexit, json, os, sys

@atexit.register
def tell():
    if "pack" in sys.argv:
        with open(os.environ["IMPORTED"], "w") as file:
            json.dump(sorted(sys.modules), file)
"""


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
    """A row that was run: its model, its bundle, and what `pack` measured and imported."""

    row: Any
    source: Path
    bundle: Path
    conversion: dict[str, Any]
    imported: set[str]


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
            out, told = tmp_path_factory.mktemp(name), watch / name
            patch.setenv("IMPORTED", str(told))
            with pytest.MonkeyPatch.context() as paths:
                paths.setenv("PYTHONPATH", str(watch))
                found = script.run(row, out)
            imported = set(json.loads(told.read_text()))
            there[name] = Made(row, out / "model" / row.source, out / "repo" / name, found, imported)
        return there[name]

    watch = tmp_path_factory.mktemp("watch")
    (watch / "sitecustomize.py").write_text(WATCH)
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
    example = recorded(made.bundle)
    assert "modelport" in made.imported
    # `pack` converted it in another process already. (It prepares some rows with OpenCV, and so imports it.)
    converted = example is not None and not made.imported & set(HEAVY)
    if converted:
        monkeypatch.setattr(testing, "_again", lambda *given: ())
    imported = check_importer(
        importer,
        made.source,
        frameworks=HEAVY,
        inputs=[flags["--input"]] if "--input" in flags else [],
        example=example,
        options=options if options != SourceOptions() else None,
        code="--trust" in flags,
        isolate=True,
        renamed=False,
    )
    if converted and example is not None:
        here, packed = imported.onnx, Bundle.open(made.bundle).graph("net")
        got, other = (run_session(OnnxRuntime().open(onnx))(example) for onnx in (here, packed))
        # In their order: a bundle may have names of its own for them.
        for (output, array), again in zip(got.items(), other.values(), strict=True):
            equal_nan = array.dtype.kind == "f"
            assert np.array_equal(again, array, equal_nan=equal_nan), f"two answers ({output!r})"


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
