"""`modelport rollout` on the files of a repository."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from modelport.bundle.store import Bundle
from modelport.cli import main
from modelport.rollout import change as changes
from modelport.rollout.figures import Observed
from modelport.rollout.judge import Action, Decision
from modelport.rollout.plan import Canary, Plan, Policy, Shadow
from modelport.rollout.state import DAMAGED, FILE, change, load

from ..colours import pack_colours


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed")
    for version in ("1", "2", "10"):
        pack_colours(folder, version=version)
    return folder / "repo"


@pytest.fixture
def folder(packed: Path, tmp_path: Path) -> Path:
    shutil.copytree(packed, tmp_path / "repo")
    return tmp_path / "repo" / "colours"


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path) -> Any:
    monkeypatch.setitem(main.VERBS, "rollout", "…")
    monkeypatch.chdir(folder.parent.parent)
    monkeypatch.setenv("NO_COLOR", "1")

    def call(*words: str, at: str = "repo/colours") -> tuple[int, str, str]:
        code = main.run(["rollout", at, *words])
        out, err = capsys.readouterr()
        return code, out, err

    return call


def test_nothing_yet(cli: Any, folder: Path) -> None:
    code, out, err = cli()
    assert (code, err) == (0, "") and "1, 2, 10" in out and "none: the newest version answers" in out
    assert not (folder / FILE).exists()
    shown = json.loads(cli("--json")[1])
    assert shown["schema"] == "modelport.rollout/1" and shown["plan"] is None and shown["model"] == "colours"
    assert shown["versions"] == ["1", "2", "10"] and shown["seen"] is None


def test_a_canary_from_the_shell(cli: Any, folder: Path) -> None:
    flags = ("--canary", "10", "--weight", "0.1", "--sticky", "X-User", "--header", "X-Canary: yes")
    code, out, _ = cli(*flags, "--reason", "new labels")
    assert code == 0 and "stable 2, canary 10 at 0.1 by x-user and for x-canary: yes" in out
    assert "new labels" in out
    state = load(folder)
    assert state is not None and state.plan == Plan(
        model="colours",
        stable="2",
        canary=Canary(version="10", weight=0.1, sticky="x-user", header="x-canary", value="yes"),
    )
    assert cli("--shadow", "1", "--sample", "0.5")[0] == 0
    state = load(folder)
    assert (
        state is not None and state.plan is not None and state.plan.shadow == Shadow(version="1", sample=0.5)
    )
    assert cli("--promote", "--reason", "fine")[0] == 0
    assert cli("--rollback")[0] == 0
    assert cli("--stable", "1")[0] == 0
    assert cli("--clear")[0] == 0
    code, out, _ = cli("--json")
    history = json.loads(out)["history"]
    assert [line["did"] for line in history] == ["set", "set", "promote", "rollback", "set", "clear"]
    assert {line["by"] for line in history} == {"cli"}
    # As a server with this repository sees it, the versions are what they were.
    assert Bundle.open(folder).manifest.version == "10"


def test_a_policy_from_the_shell(cli: Any, folder: Path) -> None:
    flags = ["--canary", "10", "--shadow", "10", "--auto", "--steps", "0.02,0.5,1", "--min-requests", "50"]
    flags += ["--min-duration", "10m", "--window", "2h", "--max-error-difference", "0.02"]
    flags += ["--max-p99-ratio", "0", "--min-agreement", "0.99", "--max-difference", "0.1"]
    code, out, _ = cli(*flags, "--confidence", "0.9")
    assert code == 0 and "steps 0.02, 0.5, 1; each 50 requests and 600 s" in out
    assert "agreement at least 99.00%; no number off by more than 0.1; confidence 0.9" in out
    state = load(folder)
    assert (
        state is not None
        and state.plan is not None
        and state.plan.canary == Canary(version="10", weight=0.02)
    )
    assert state.plan.policy == Policy(
        steps=(0.02, 0.5, 1.0),
        min_requests=50,
        min_seconds=600.0,
        window=7200.0,
        max_error_difference=0.02,
        max_p99_ratio=None,
        min_agreement=0.99,
        max_difference=0.1,
        confidence=0.9,
    )
    assert cli("--max-difference", "-1", "--min-agreement", "0", "--max-p99-ratio", "3")[0] == 0
    state = load(folder)
    assert state is not None and state.plan is not None and state.plan.policy is not None
    assert (state.plan.policy.max_difference, state.plan.policy.min_agreement) == (None, None)
    assert "p99 at most 3 times" in cli()[1]
    assert cli("--no-auto")[0] == 0
    state = load(folder)
    assert state is not None and state.plan is not None and state.plan.policy is None


def test_the_exit_code_says_that_the_policy_rolled_back(cli: Any, folder: Path) -> None:
    cli("--canary", "10", "--auto")
    decision = Decision(Action.ROLLBACK, "errors 50.00% of 100 against 0.00% of 900")
    change(folder, lambda state: changes.decided(state, decision, Observed(), now=1.0))
    code, out, _ = cli()
    assert code == 1 and "errors 50.00% of 100" in out and "10 is dropped, 2 answers" in out
    assert cli("--json")[0] == 1
    assert cli("--stable", "2")[0] == 0  # a change that was made is done
    assert cli("--canary", "10", "--weight", "0.5")[0] == cli()[0] == 0


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--promote"], 2, "nothing to promote"),
        (["--rollback"], 2, "nothing to roll back"),
        (["--promote", "--rollback"], 2, "one thing at a time: --promote or --rollback"),
        (["--clear", "--weight", "0.5"], 2, "--clear or a change of the plan"),
        (["--weight", "0.5"], 2, "there is no canary"),
        (["--canary", "10"], 2, "--weight 0.05"),
        (["--canary", "11", "--weight", "0.5"], 3, "did you mean '1"),
        (["--canary", "10", "--weight", "1.5"], 2, "$.canary.weight"),
        (["--canary", "10", "--weight", "much"], 2, "much"),
        (["--canary", "10", "--auto", "--steps", "1,a"], 2, "0.05,0.25,1"),
        (["--canary", "10", "--auto", "--window", "soon"], 2, "30s, 10m or 1h"),
        (["--canary", "10", "--auto", "--min-agreement", "0.9"], 2, "--shadow 10"),
        (["--canary", "10", "--weight", "0.1", "--header", "X-Canary"], 2, "'Name: value'"),
    ],
)
def test_what_makes_no_sense(cli: Any, folder: Path, words: list[str], code: int, said: str) -> None:
    got, out, err = cli(*words)
    assert (got, out) == (code, "") and said in err
    assert not (folder / FILE).exists()


def test_which_folder_is_meant(cli: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Rollout of colours" in cli(at="repo")[1]
    assert "Rollout of colours" in cli(at="repo/colours/")[1]
    for one in ("repo/colours/1", "repo/colours/1/modelport.json"):
        code, _, err = cli(at=one)
        assert code == 2 and "is one version" in err and "modelport rollout repo/colours" in err
    assert cli(at="elsewhere")[0] == 3
    monkeypatch.chdir(folder)
    assert cli("--canary", "10", "--weight", "0.5", at=".")[0] == 0
    assert (folder / FILE).exists()


def test_archives_are_versions_and_what_does_not_open_is_none(cli: Any, folder: Path) -> None:
    Bundle.open(folder / "10").save_as(folder / "eleven.zip")
    shutil.rmtree(folder / "10")
    (folder / "2" / "modelport.json").write_text("{")
    (folder / "notes.txt").write_text("no version")
    shown = json.loads(cli("--json")[1])
    assert shown["versions"] == ["1", "10"]
    for version in ("1", "2"):
        (folder / version / "modelport.json").write_text("{")
    (folder / "eleven.zip").write_bytes(b"no archive")
    code, _, err = cli()
    assert code == 3 and "no version" in err


def test_a_damaged_file(cli: Any, folder: Path) -> None:
    (folder / FILE).write_text("{")
    code, out, _ = cli()
    assert code == 0 and "PROBLEM" in out and "damaged" in out
    code, _, err = cli("--canary", "10", "--weight", "0.5")
    assert code == 3 and "--clear" in err
    assert cli("--clear")[0] == 0
    assert (folder / DAMAGED).read_text() == "{" and not (folder / FILE).exists()
    assert cli("--canary", "10", "--weight", "0.5")[0] == 0


def test_a_project_file_may_hold_a_policy(cli: Any, folder: Path) -> None:
    (folder.parent.parent / "modelport.toml").write_text(
        '[rollout]\nauto = true\nsteps = [0.5, 1]\nmin_duration = "1m"\nwindow = 60\n'
    )
    assert cli()[0] == 0 and not (folder / FILE).exists()  # settings alone change nothing
    assert cli("--canary", "10")[0] == 0
    state = load(folder)
    assert state is not None and state.plan is not None
    assert cli("--promote")[0] == cli("--rollback")[0] == 0
    assert state.plan.policy == Policy(steps=(0.5, 1.0), min_seconds=60.0, window=60.0)
