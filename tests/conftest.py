"""Fixtures that more than one folder of tests uses."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# A process that begins one of these near the end is alone with it, and the others have nothing to do.
LONGEST = (
    *("examples/test_frameworks.py", "docs/test_docs.py", "importers/test_tensorflow.py"),
    *("importers/test_huggingface.py", "importers/test_keras.py", "importers/test_tflite.py"),
    *("importers/test_jax.py", "isolation/test_sklearn_models.py", "browser/detector/test_answers.py"),
    *("serve/attacks/test_fuzz.py", "conformance/test_suite.py", "examples/test_digits.py"),
    *("examples/test_detection.py", "examples/test_compress.py", "emulation/test_portability.py"),
    *("importers/test_torch_files.py", "importers/test_torch_transforms.py", "optimize/test_search.py"),
)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Among several processes the longest files come first, then those with frameworks."""
    if not hasattr(config, "workerinput"):
        return
    places = {ROOT / "tests" / name: place for place, name in enumerate(LONGEST)}

    def place(item: pytest.Item) -> tuple[int, bool]:
        return places.get(item.path, len(places)), item.get_closest_marker("frameworks") is None

    # By file and not by test: the tests of a file keep their order.
    first: dict[Path, tuple[int, bool]] = {}
    for item in items:
        first[item.path] = min(place(item), first.get(item.path, place(item)))
    items.sort(key=lambda item: first[item.path])


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """A folder of real models, photos and datasets, where there is one; the test skips where not."""
    folder = Path(os.environ.get("MODELPORT_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no test data at {folder} (set MODELPORT_TEST_DATA)")
    return folder


@pytest.fixture
def ultralytics_python(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The interpreter of the environment that ./test makes for Ultralytics; the test skips without it."""
    from modelport.isolation import environments

    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    monkeypatch.setenv(environments.VARIABLE, str(cache / "modelport-bench" / "environments"))
    found = environments.python_of(environments.table("ultralytics"))
    if found is None:
        pytest.skip(f"no environment of Ultralytics in {environments.root()}: ./test makes it")
    return found
