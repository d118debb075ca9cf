"""The example of an importer: it keeps the contract, and is found by its entry point once it is installed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest

from modelport.errors import InputError, Unsupported
from modelport.importers.choose import choose_recipe
from modelport.importers.onnx import OnnxImporter
from modelport.importers.source import Imported, file_head
from modelport.tensors import Array, Signature, Tensors, TensorSpec
from modelport.testing import ContractBroken, check_importer

from ..importers.networks import convnet

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples/importer"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder of installed packages with the example in it, its entry points as a wheel has them."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    folder = tmp_path / "site"
    info = folder / "modelport_linear-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    lines = [
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in points.items())
        for group, points in project["entry-points"].items()
    ]
    (info / "entry_points.txt").write_text("".join(lines))
    (folder / "linear_importer.py").write_text((EXAMPLE / "linear_importer.py").read_text())
    return folder


def run(site: Path, folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"PYTHONPATH": f"{site}:{EXAMPLE}", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, *command], cwd=folder, env=env, capture_output=True, text=True, check=False
    )


def test_an_installed_importer_is_found_by_its_entry_point(site: Path, tmp_path: Path) -> None:
    said = {"format": "linear-classifier", "version": 3, "labels": ["no", "yes"]}
    said |= {"weights": [[0.5, -0.5], [1.5, 0.25]], "bias": [0.0, 0.1]}
    (tmp_path / "rules.json").write_text(json.dumps(said))
    done = run(site, tmp_path, "-m", "modelport", "pack", "rules.json", "-o", "repo", "--json")
    assert done.returncode == 0, done.stderr
    packed = json.loads(done.stdout)
    assert packed["conversion"]["source"] == "linear 3"
    assert packed["conversion"]["labels_agreeing"] == packed["conversion"]["labels_compared"] == 4
    said["bias"] = [0.0]
    (tmp_path / "rules.json").write_text(json.dumps(said))
    refused = run(site, tmp_path, "-m", "modelport", "pack", "rules.json", "-o", "repo2")
    assert refused.returncode == 3 and "a bias and a label are needed" in refused.stderr


def test_its_own_test_passes(site: Path, tmp_path: Path) -> None:
    arguments = ("-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path))
    done = run(site, tmp_path, "-m", "pytest", *arguments, str(EXAMPLE / "test_linear_importer.py"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_page_shows_the_example_as_it_is() -> None:
    page = (ROOT / "docs/how-to/add-an-importer.md").read_text()
    for name in ("linear_importer.py", "pyproject.toml", "test_linear_importer.py"):
        assert (EXAMPLE / name).read_text().strip() in page, f"{name} is not in the page as it is"
    assert re.search(r"check_importer", page)


class Broken(OnnxImporter):
    """Takes everything, answers wrongly, and raises what nobody can read."""

    def recognises(self, source: Any) -> bool:
        return True

    def load(
        self, source: Any, *, example: Mapping[str, Array] | None = None, inputs: Sequence[TensorSpec] = ()
    ) -> Imported:
        try:
            found = super().load(source, example=example, inputs=inputs)
        except InputError as problem:
            raise KeyError("graph") from problem

        def wrong(batch: Tensors) -> dict[str, Array]:
            return {name: np.asarray(array + 1) for name, array in found.reference(batch).items()}

        return msgspec.structs.replace(found, reference=wrong, framework="onnx", notes=("one\ntwo",))


def test_an_importer_that_breaks_the_contract_is_told_every_point(tmp_path: Path) -> None:
    onnx.save(convnet(), tmp_path / "net.onnx")
    with pytest.raises(ContractBroken) as broken:
        check_importer(Broken, tmp_path / "net.onnx")
    said = str(broken.value)
    for point in (
        "a file of text with the ending '.onnx' is recognised",
        "'logits' of the graph is not what the framework gives",
        "framework is 'onnx': its version is missing",
        "a note of several lines",
        "raises KeyError",
    ):
        assert point in said, said


def test_onnx_itself_keeps_it(tmp_path: Path) -> None:
    onnx.save(convnet(batch=1, opset=9, ir=4), tmp_path / "net.onnx")
    check_importer("modelport.importers.onnx:OnnxImporter", tmp_path / "net.onnx", frameworks=["torch"])


class Failing:
    """An importer that reads a file as if it were never damaged."""

    def recognises(self, source: Any) -> bool:
        return file_head(source, 4) == b"RULE"

    def signature(self, source: Any, inputs: Sequence[TensorSpec]) -> Signature | None:
        raise KeyError("weights")

    load = signature


def test_an_importer_that_lets_an_error_out_is_named(tmp_path: Path) -> None:
    source = tmp_path / "rules.txt"
    source.write_text("RULE")
    with pytest.raises(Unsupported, match=r":Failing failed on .*rules\.txt: KeyError: 'weights'") as told:
        choose_recipe(None, Failing(), source, (), print)  # type: ignore[arg-type]  # its load is no load
    assert "check_importer" in (told.value.hint or "")
    with pytest.raises(ContractBroken, match="lets an error out: KeyError"):
        check_importer(Failing, source)  # type: ignore[arg-type]
