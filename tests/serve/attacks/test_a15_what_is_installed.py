"""A14, A15: nothing that is generated or advised carries somebody else's words or somebody else's package."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[3]
SOURCES = [path for path in (ROOT / "src").rglob("*") if path.suffix in (".py", ".js", ".html")]
TEXTS = [*SOURCES, *(ROOT / "docs").rglob("*.md"), ROOT / "README.md"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

INSTALL = re.compile(r"pip install +(?P<what>[^\n`;|&]*)")
QUOTED = re.compile(r"[\"']?([A-Za-z0-9][A-Za-z0-9._-]*(?:\[[a-z,]+\])?)[\"',)]*")


def test_extras_that_hints_name_are_declared() -> None:
    declared = set(PROJECT["project"]["optional-dependencies"]) | {"all"}
    named = 0
    for path in TEXTS:
        for found in re.finditer(r"modelport\[([a-z0-9, -]+)\]", path.read_text()):
            for extra in found[1].split(","):
                assert extra.strip() in declared, f"{path.name} advises modelport[{extra}]"
                named += 1
    assert named > 5


def test_packages_that_are_advised_are_ones_we_depend_on() -> None:
    """A name that nobody has registered yet is registered by somebody one day (perf-analyzer 0.1.0)."""
    ours = {"modelport", "pip", "build", "venv"}
    groups = [*PROJECT["project"]["optional-dependencies"].values(), *PROJECT["dependency-groups"].values()]
    for line in [*PROJECT["project"]["dependencies"], *(entry for group in groups for entry in group)]:
        ours.add(canonicalize_name(Requirement(line).name))
    ours |= {canonicalize_name(Requirement(line).name) for line in requires("modelport") or ()}
    checked = 0
    for path in TEXTS:
        for found in INSTALL.finditer(path.read_text()):
            for word in found["what"].split():
                named = QUOTED.fullmatch(word)
                if named is None:  # a place, a variable, or the end of the sentence
                    break
                assert canonicalize_name(Requirement(named[1]).name) in ours, f"{path.name}: {found[0]}"
                checked += 1
                if word.endswith(('"', ")", ",")):
                    break
    assert checked > 5


def test_no_shell_and_no_template_is_filled_with_a_model_s_words() -> None:
    """Names from bundles and requests reach no shell; files for deployment do not exist yet."""
    shell = re.compile(
        r"shell=True|os\.system\(|os\.popen\(|subprocess\.getoutput|commands\.|Template\(|\.format_map\("
    )
    for path in SOURCES:
        assert not shell.search(path.read_text()), path
