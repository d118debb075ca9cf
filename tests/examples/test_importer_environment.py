"""A plugin with a converter and a pinned set of its own: the page's code is installed, packs and refuses."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs/how-to/add-an-importer.md"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder of installed packages with the page's second example in it."""
    text = PAGE.read_text().split("## Frameworks that cannot live beside others")[1]
    importer, converter, points = re.findall(r"^```\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    folder = tmp_path / "site"
    info = folder / "modelport_counts-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: modelport-counts\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "".join(
            f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in named.items())
            for group, named in tomllib.loads(points)["project"]["entry-points"].items()
        )
    )
    (folder / "counts_importer.py").write_text(importer)
    (folder / "counts_converter.py").write_text(converter)
    (tmp_path / "model.txt").write_text("counts: 1 2.5 -3")
    return folder


def modelport(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1"}
    env["MODELPORT_ENVIRONMENTS"] = str(site.parent / "environments")
    command = [sys.executable, "-m", "modelport", *arguments]
    return subprocess.run(command, cwd=site.parent, env=env, capture_output=True, text=True, check=False)


def test_its_converter_runs_in_a_process_of_its_own(site: Path) -> None:
    done = modelport(site, "pack", "model.txt", "-o", "repo", "--json")
    assert done.returncode == 0, done.stderr
    packed = json.loads(done.stdout)
    assert packed["conversion"]["format"] == "counts"
    assert packed["conversion"]["own_process"]
    assert packed["conversion"]["max_difference"] == 0


def test_what_its_converter_refuses_is_told_in_a_line(site: Path) -> None:
    (site.parent / "model.txt").write_text("counts: 1 two")
    done = modelport(site, "pack", "model.txt", "-o", "repo")
    assert done.returncode == 3
    assert "error: the file holds something that is no number" in done.stderr


def test_its_environment_is_offered_and_listed(site: Path) -> None:
    module = site / "counts_importer.py"
    module.write_text(module.read_text().replace('"numpy": "1.26"', '"modelport-gone": "1"'))
    done = modelport(site, "pack", "model.txt", "-o", "repo")
    assert done.returncode == 4
    assert "this needs modelport-gone >= 1" in done.stderr
    assert "--isolate makes a private environment" in done.stderr
    known = json.loads(modelport(site, "doctor", "--envs", "--json").stdout)["known"]
    assert "read models of counts" in [one["purpose"] for one in known]
