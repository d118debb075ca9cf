"""What wrong variants cost, with a network whose right answers are obvious."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from modelport.cli.main import root
from modelport.errors import InputError, UsageError
from modelport.fitting.cost import FOUND, costs_of
from modelport.fitting.fit import fit_steps

from ..colours import LABELS, pack_colours, picture
from .pictures import write_reference

BODY = """
def func(path):
    image = Image.open(path).resize(({side}, {side}), Image.NEAREST)
    return (np.asarray(image, dtype=np.float32) / np.float32(255)).transpose(2, 0, 1)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("cost")
    pack_colours(where)
    for label in LABELS:
        (where / "labelled" / label).mkdir(parents=True)
        for side in (24, 30):
            (where / "labelled" / label / f"{side}.png").write_bytes(picture(label, (side, 28)))
    return where


def test_blue_for_red_costs_two_of_three(folder: Path, tmp_path: Path) -> None:
    finding = fit_steps(write_reference(tmp_path, BODY.format(side=8)), folder / "labelled")
    assert finding.ok, finding.why
    costs = costs_of(finding, folder / "repo" / "colours", folder / "labelled")
    rows = {row.name: row for row in costs.rows}
    assert costs.rows[0].name == FOUND
    assert costs.rows[0].top1 == 1.0
    turned = rows["BGR for RGB"]
    assert (turned.lost, turned.won, turned.top1) == (4, 0, pytest.approx(1 / 3))
    assert turned.difference == pytest.approx(-2 / 3)
    assert turned.low < turned.difference < turned.high
    assert "values 0 to 255, not normalised" in rows
    assert "kernel opencv-linear" in rows
    other = folder / "labelled" / "other.csv"
    other.write_text(f"file,label\n{LABELS[0]}/24.png,mauve\n")
    with pytest.raises(InputError, match="no class for 1 of the data's 1 classes: mauve") as refused:
        costs_of(finding, folder / "repo" / "colours", other)
    other.unlink()
    assert "the names of its labels" in (refused.value.hint or "")


def test_steps_of_another_size_are_told(folder: Path, tmp_path: Path) -> None:
    finding = fit_steps(write_reference(tmp_path, BODY.format(side=9)), folder / "labelled")
    with pytest.raises(UsageError, match="does not take what the steps make"):
        costs_of(finding, folder / "repo" / "colours", folder / "labelled")


def test_the_verb_prints_both(folder: Path, tmp_path: Path) -> None:
    reference = write_reference(tmp_path, BODY.format(side=8))
    words = ["fit-steps", "--reference", reference, "--samples", str(folder / "labelled")]
    words += ["--bundle", str(folder / "repo" / "colours")]
    shown = CliRunner().invoke(root, words, standalone_mode=False)
    assert shown.exception is None, shown.exception
    assert "equal to the last bit on 6 of 6 samples" in shown.output
    assert "BGR for RGB" in shown.output
    told = CliRunner().invoke(root, [*words, "--json"], standalone_mode=False)
    whole = json.loads(told.stdout)
    assert whole["costs"]["rows"][0]["name"] == FOUND
    assert whole["recipe"].startswith("# Written by")
