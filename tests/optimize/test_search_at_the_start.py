"""What a search refuses or says before it makes anything, and which version it writes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
from onnx import helper

import modelport
from modelport.bundle.store import Bundle
from modelport.cli.main import run
from modelport.cli.optimize import Shown
from modelport.cli.render import progress
from modelport.errors import InputError, Unsupported, UsageError
from modelport.evaluate.run import evaluate
from modelport.importers.source import Permission
from modelport.optimize import search as searching
from modelport.optimize.bench.run import bench
from modelport.optimize.candidate import Candidate, network_of
from modelport.optimize.choose import gate_reason
from modelport.optimize.clock import Told
from modelport.optimize.enough import dear, few_answers, few_labels, seen_few
from modelport.optimize.found import Found
from modelport.optimize.judge import Judgement, needed, same
from modelport.optimize.passes.runtime import OnRuntime
from modelport.optimize.passes.unused import Unused
from modelport.optimize.plan import Plan
from modelport.optimize.repeat import repeat
from modelport.optimize.run import _taken, optimize
from modelport.optimize.search import ALIKE, Search
from modelport.optimize.shares import Z_SURE, Z, answers_needed, bounds
from modelport.optimize.ways import computed_alike

from .networks import pictures
from .reports import repeated
from .test_search import entry

INSIDE = """
import sys
from pathlib import Path
from modelport.optimize.found import Found

found = Found(Path(sys.argv[1]))
print(found.folder, flush=True)
sys.stdin.read()
"""


def test_what_was_not_found_bars_no_later_search(
    start: Bundle, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Search, "run", _nothing(Search.run))
    monkeypatch.chdir(tmp_path)
    relative = os.path.relpath(data)
    folders = [optimize(start, relative, out="out", plan=Plan(seconds=0)).folder for _ in range(2)]
    assert folders == ["colours/2.report", "colours/3.report"]
    report = optimize(start, relative, out="out", plan=Plan(seconds=0), new_version="mine")
    assert report.folder == "colours/mine.report"
    assert Path(report.asked.data) == data and str(tmp_path / "out") in report.command
    assert str(tmp_path / "out" / "colours" / "mine.report") in report.entries[0].command
    with pytest.raises(UsageError, match="exists; a bundle is never changed"):
        optimize(start, relative, out="out", new_version="mine")
    with pytest.raises(UsageError, match="nothing was chosen, and no candidate was made"):
        repeat(report)


def test_what_was_looked_at_quickly_can_be_looked_at_again(
    start: Bundle, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every figure has the command that repeats it, also that of a quick look; what was not made has none."""
    monkeypatch.setattr(Search, "bases", lambda self: iter(()))
    monkeypatch.setattr(Search, "passes", lambda self: iter([Unused()]))
    way = OnRuntime("onnxruntime", {"spinning": False})
    monkeypatch.setattr(searching, "ways", lambda candidate: iter([way]))
    monkeypatch.setattr("modelport.optimize.ways.GAIN", 0.0)  # no faster
    report = optimize(start, data, out=tmp_path, plan=Plan(gate="estimate"))
    found = {entry.id: entry for entry in report.entries}
    quick = found["start-on-onnxruntime-spinning-false"]
    assert quick.status == "dominated" and quick.figures is None and " of it" in quick.reason
    assert quick.command.endswith(f"2.report {quick.id}")
    assert found["unused"].status == "skipped" and not found["unused"].command
    again = repeat(report, quick.id)
    assert again.id == quick.id and again.figures.p50_ms > 0


def _nothing(original: object) -> object:
    """A search without candidates: what remains is the START."""

    def run_it(self: Search) -> object:
        self.bases = self.passes = lambda: iter(())  # type: ignore[method-assign]
        return original(self)  # type: ignore[operator]

    return run_it


def test_two_that_write_at_once_take_two_versions(tmp_path: Path) -> None:
    assert [_taken(tmp_path, "1", None).name for _ in range(3)] == ["2", "3", "4"]
    assert [_taken(tmp_path, "a", None).name for _ in range(2)] == ["a.1", "a.2"]
    with pytest.raises(UsageError, match="exists"):
        _taken(tmp_path, "1", "3")


def test_a_work_folder_is_one_process_s(tmp_path: Path) -> None:
    folder = tmp_path / "work"
    words = [sys.executable, "-c", INSIDE, str(folder)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline().strip() == str(folder)
        second = Found(folder)
        assert second.folder == tmp_path / "work-2"
        other.communicate(timeout=60)
    second.forget()
    assert Found(folder).folder == folder and not second.folder.exists()


def test_what_cannot_work_is_refused_before_anything_is_made(
    start: Bundle, data: Path, tmp_path: Path
) -> None:
    file = tmp_path / "afile"
    file.write_text("")
    for out in (file, file / "below"):
        with pytest.raises(UsageError, match="afile is a file; -o takes a folder"):
            optimize(start, data, out=out)
    for labelled, message in ((None, "--column tells of the data of --eval"), (data, "takes pictures")):
        with pytest.raises(UsageError, match=message):
            optimize(start, data, out=tmp_path, labelled=labelled, plan=Plan(evaluation={"target": "x"}))
    loose = tmp_path / "loose"
    loose.mkdir()
    for number, path in enumerate(sorted(data.rglob("*.png"))):
        (loose / f"{number}.png").write_bytes(path.read_bytes())
    said: list[Told] = []
    with pytest.raises(InputError, match="have no class"):
        optimize(start, data, out=tmp_path / "out", labelled=loose, tell=said.append)
    assert not [told for told in said if "making it" in told.text]
    with pytest.raises(InputError, match="2 items could be read, and at least 8 are needed"):
        optimize(start, pictures(tmp_path / "few", 2), out=tmp_path / "out" / "below")
    assert not (tmp_path / "out").exists()  # nor what was made for it
    (tmp_path / "own").mkdir()
    with pytest.raises(InputError, match="at least 8 are needed"):
        optimize(start, tmp_path / "few", out=tmp_path / "own")
    assert not list((tmp_path / "own").iterdir())


def test_a_function_is_measured_and_not_optimized(tmp_path: Path) -> None:
    (tmp_path / "twice.py").write_text('def twice(x: "float32[batch]"):\n    return {"y": 2 * x}\n')
    bundle = modelport.pack(
        f"{tmp_path / 'twice.py'}:twice", out=tmp_path / "repo", permission=Permission(trust=True)
    )
    np.savez(tmp_path / "rows.npz", x=np.arange(20, dtype=np.float32))
    with pytest.raises(Unsupported, match="is the Python function 'twice', and only graphs are optimized"):
        optimize(bundle, tmp_path / "rows.npz", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    found = bench(bundle, tmp_path / "rows.npz", batches=(1,), threads=(1,), seconds=0.1, trust=True)
    assert found.points and found.forms[0].runtime == "python"


def test_what_computes_the_same_is_not_asked_again(start: Bundle, data: Path, tmp_path: Path) -> None:
    dead = network_of(start)
    dead.graph.node.append(helper.make_node("Neg", ["x"], ["nothing"], name="nothing"))
    files = {start.manifest.graphs.net.file: dead.SerializeToString()}
    said: list[Told] = []
    place = start.derive(tmp_path / "dead", files, version="dead")
    search = Search(place, data, data, tmp_path / "work", Plan(), said.append)
    tried = search.tried(Unused(), search.start)
    assert tried.judgement == same(ALIKE) and "without 1 Neg" in tried.notes[0]
    assert not [told for told in said if told.text == "asking the bundle as it was packed"]


def test_other_precision_is_other_arithmetic(start: Bundle) -> None:
    own = Candidate("own", "as it is", start, (), runtime="openvino")

    def alike(**settings: bool | int | str) -> bool:
        return computed_alike(msgspec.structs.replace(own, settings=settings), own)

    assert alike() and alike(threads=1) and alike(spinning=False, arena=False)
    assert not alike(precision="bf16") and not alike(optimization="extended", threads=1)
    assert not computed_alike(msgspec.structs.replace(own, runtime="onnxruntime"), own)


def test_no_time_is_no_budget(capfd: pytest.CaptureFixture[str]) -> None:
    for budget in ("0", "3s"):
        assert run(["optimize", "b", "--data", "d", "--budget", budget, "-o", "o"]) == 2
        assert "nothing is tried in less than 5 seconds" in capfd.readouterr().err


def test_an_interruption_is_said_once(
    start: Bundle,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def interrupted(self: Search) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Search, "run", interrupted)
    assert run(["optimize", str(start.path), "--data", str(data), "-o", str(tmp_path)]) == 130
    assert capfd.readouterr().err.count("interrupted") == 1


def test_without_a_terminal_each_beginning_is_a_line(capfd: pytest.CaptureFixture[str]) -> None:
    with progress("optimize", None) as bar:
        shown = Shown(bar)
        for text in ("fp16: making it", "fp16: comparing its answers", "measuring 2", "measuring 2"):
            shown(Told(text, 0, 1, 61.0))
        shown(Told("few [items]", 0, 1, 61.0, lasting=True))
    err = capfd.readouterr().err
    assert err.splitlines() == [
        "fp16: making it (up to 1:01 more)",
        "measuring 2 (up to 1:01 more)",
        "note: few [items]",
    ]
    assert shown.lasting == {"few [items]"}


def agreeing(differing: float, items: int, **others: object) -> Judgement:
    loss = 100 * (1 - (items - differing) / items)
    values: dict[str, object] = {"low": 0.1, "high": 10.0, "verdict": "fails"} | others
    return Judgement(
        by="agreement",
        metric="agreement",
        start=1.0,
        value=1 - loss / 100,
        loss=loss,
        items=items,
        **values,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("judgement", "text"),
    [
        (
            agreeing(1, 40),
            "1 of 40 answers differs from the START's: 2.5 points (up to 10), beyond 0.5",
        ),
        (
            agreeing(0, 900, high=0.3, verdict="passes"),
            "none of 900 answers differ from the START's: 0 points (up to 0.3), within 0.5",
        ),
        (
            agreeing(12, 40, low=20.0, part=True),
            "12 of 40 answers differ from the START's: 30 points (at least 20), surely beyond 0.5; the other "
            "items were not asked",
        ),
        (
            agreeing(0.25, 100, verdict="undecided"),
            "some of the objects in 100 items differ from the START's: 0.25 points (up to 10); too few items "
            "to show that it is within 0.5",
        ),
    ],
    ids=["one", "none", "part", "objects"],
)
def test_agreement_is_told_in_numbers(judgement: Judgement, text: str) -> None:
    assert gate_reason(judgement, 0.5) == text


@pytest.mark.parametrize("sure", [Z, Z_SURE])
def test_the_share_of_all_is_one_and_of_none_is_nothing(sure: float) -> None:
    """Of 16 or 50 items, and a quarter of all other numbers, rounding had an end that missed them."""
    for count in range(1, 3000):
        assert bounds(count, count, sure)[1] == 1.0 and bounds(0, count, sure)[0] == 0.0
        low, high = bounds(count / 3, count, sure)
        assert 0 <= low < 1 / 3 < high <= 1


def test_how_many_answers_agreement_needs() -> None:
    assert answers_needed(0.5) == 539 and answers_needed(5.0) == 52
    assert answers_needed(0.0) is None
    assert needed(agreeing(0, 40, high=6.3), 0.5) == 539


def test_what_asking_once_takes_is_said_where_it_is_much() -> None:
    assert dear(60.0, 600.0) == ""
    assert dear(130.4, 90.0).startswith(
        "judging on all items once took 130 of the budget's 90 seconds, and each "
    )


def test_few_labels_are_said_before_the_time_is_spent(start: Bundle, data: Path, tmp_path: Path) -> None:
    known = evaluate(start, data, replicates=0)
    few = "24 labelled items cannot show 0.5 points, only 10.1: about 540 can where none changes sides, "
    few += "about 2200 can where 2% change sides, as is usual in 8 bits, or take --gate estimate"
    assert few_labels(known, 0.5).startswith(few) and few_labels(known, 11.0) == ""
    assert "about" not in few_labels(known, 0.0)
    said: list[Told] = []
    search = Search(start, data, data, tmp_path, Plan(), said.append)
    assert search.judge is search.judge
    assert [told.text for told in said if told.lasting] == search.notes == [few_labels(known, 0.5)]
    assert Search(start, data, data, tmp_path, Plan(gate="estimate"), said.append).judge
    assert len([told for told in said if told.lasting]) == 1
    assert few_answers(539, 0.5, 1000) == "" and "about 539 can" in few_answers(24, 0.5, 1000)
    one = msgspec.structs.replace(agreeing(0, 128), by="accuracy", loss=0.1, high=1.3)
    assert seen_few("some", one, 0.5).startswith(
        "some loses 0.1 points, and 128 items show no more than that it is within 1.3, where 0.5 is asked: "
        "going by this one about 1200 can"
    )


def test_what_does_not_hold_is_told() -> None:
    before = entry("half", 0.5, 0.45, 0.55, 50)
    now = entry("half", 0.8, 0.75, 0.85, 50)
    assert before.figures is not None and now.figures is not None and before.judgement is not None
    again = repeated(before)
    assert again.holds and again.changed == ()
    slower = msgspec.structs.replace(again, figures=now.figures)
    assert slower.changed == ("latency",) and not slower.holds
    refused = msgspec.structs.replace(before.judgement, verdict="fails")
    assert msgspec.structs.replace(again, judgement=refused).changed == ("verdict",)
    assert slower.to_dict()["changed"] == ["latency"]
