"""What cannot be asked, and what the user is told."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from modelport.errors import InputError, ModelportError, NotFound, Unsupported, UsageError
from modelport.fitting.fit import fit_steps

from .pictures import write_pictures, write_reference

SMALL = {"one": (40, 60), "two": (50, 40)}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("pictures"), SMALL)


@pytest.mark.parametrize(
    ("body", "kind", "said"),
    [
        (
            "def other(path):\n    return 1\n",
            UsageError,
            "no 'func' in it at `--reference` — hint: it has other",
        ),
        ("import nothing_such\n", InputError, "No module named 'nothing_such'"),
        ("def func(path):\n    return\n    (\n", InputError, "SyntaxError"),
        ("def func(x):\n    raise ValueError('no luck')\n", InputError, "ValueError: no luck (prep.py:6:"),
        ("def func(x):\n    return 'text'\n", InputError, "it returns a str"),
        ("def func(x):\n    pass\n", InputError, "is there a `return`?"),
        ("def func(x):\n    return np.zeros((5, 8, 8, 3))\n", InputError, "[5, 8, 8, 3]"),
        ("def func(x):\n    return np.full((8, 8, 3), np.nan)\n", InputError, "NaN"),
        ("def func(x):\n    return np.random.rand(8, 8, 3)\n", InputError, "random"),
        (
            "def func(x):\n    return np.zeros((8, 8, 3 if 'one' in x else 1))\n",
            InputError,
            "3 channels for one.png and float64 with 1 for two.png",
        ),
        ("import os\nos._exit(7)\n", InputError, "status 7"),
    ],
)
def test_a_function_that_cannot_be_used(
    body: str, kind: type[ModelportError], said: str, pictures: Path, tmp_path: Path
) -> None:
    with pytest.raises(kind) as caught:
        fit_steps(write_reference(tmp_path, body), pictures, probes=False, takes="path")
    assert said in str(caught.value)


def test_what_is_there_to_begin_with(pictures: Path, tmp_path: Path) -> None:
    reference = write_reference(tmp_path, "def func(path):\n    return np.zeros((4, 4, 3))\n")
    with pytest.raises(UsageError, match=r"FILE.py:FUNCTION"):
        fit_steps("prep.py", pictures)
    with pytest.raises(NotFound, match="no file"):
        fit_steps(f"{tmp_path}/none.py:func", pictures)
    with pytest.raises(NotFound, match="no samples"):
        fit_steps(reference, tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no pictures"):
        fit_steps(reference, tmp_path / "empty")
    with pytest.raises(Unsupported, match="does not start"):
        fit_steps(reference, pictures, python=str(tmp_path / "python"))


def test_a_function_that_hangs_is_ended(pictures: Path, tmp_path: Path) -> None:
    reference = write_reference(tmp_path, "import time\n\ndef func(path):\n    time.sleep(60)\n")
    with pytest.raises(Unsupported, match="longer than 1 seconds"):
        fit_steps(reference, pictures, seconds=1, probes=False, python=sys.executable)


def test_an_output_of_one_value_has_no_steps(pictures: Path, tmp_path: Path) -> None:
    reference = write_reference(tmp_path, "def func(path):\n    return np.zeros((8, 8, 3), np.float32)\n")
    finding = fit_steps(reference, pictures)
    assert not finding.ok
