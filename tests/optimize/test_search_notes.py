"""What a search says of its data, its numbers and what it goes on from; classes that are named otherwise."""

from __future__ import annotations

import os
import shlex
import shutil
from pathlib import Path

import msgspec
import pytest

from modelport.bundle.store import Bundle
from modelport.cli.main import run
from modelport.errors import InputError
from modelport.evaluate.run import evaluate
from modelport.optimize import repeat as repeating
from modelport.optimize.candidate import START, Candidate
from modelport.optimize.clock import silent
from modelport.optimize.enough import few_labels, nearest, number_of, seen_few
from modelport.optimize.outcome import Entry, Recipe, Report
from modelport.optimize.plan import Plan
from modelport.optimize.repeat import repeat
from modelport.optimize.run import _by_agreement, optimize
from modelport.optimize.search import Search
from modelport.optimize.start import same_items
from modelport.optimize.variants import beside, write_version

from .networks import pictures
from .test_search import Broken, entry
from .test_search_at_the_start import _nothing, agreeing


def test_a_class_of_another_name_is_mapped(
    start: Bundle, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = pictures(tmp_path / "named", 24)
    (named / "red").rename(named / "rouge")
    with pytest.raises(InputError, match="rouge") as raised:
        optimize(start, data, out=tmp_path / "out", labelled=named)
    assert "--map DATA=MODEL" in (raised.value.hint or "")
    monkeypatch.setattr(Search, "run", _nothing(Search.run))
    monkeypatch.setattr("modelport.optimize.search.ways", lambda candidate: iter(()))
    words = [
        "optimize",
        str(start.path),
        "--data",
        str(data),
        "--eval",
        str(named),
        "-o",
        str(tmp_path / "out"),
    ]
    assert run([*words, "--map", "rouge"]) == 2
    assert run([*words, "--map", "rouge=red", "--budget", "5s"]) == 1
    report = repeating.read_report(tmp_path / "out" / "colours" / "2.report")
    assert report.asked.evaluation == {"renamed": {"rouge": "red"}}
    again = shlex.split(report.command)
    assert again[again.index("--map") + 1] == "rouge=red"
    assert repeat(report, START).holds  # it reads the labels as well


def test_a_map_without_labelled_data_says_nothing(start: Bundle, data: Path, tmp_path: Path) -> None:
    words = ["optimize", str(start.path), "--data", str(data), "--map", "rouge=red", "-o", str(tmp_path)]
    assert run(words) == 2


def test_ranges_of_what_is_judged_are_said(tmp_path: Path, start: Bundle, data: Path) -> None:
    listed = tmp_path / "list.csv"
    listed.write_text(f"file,label\n{next(data.rglob('*.png')).resolve()},red\n")
    assert same_items(start, data, None) == "" == same_items(start, tmp_path / "other", listed)
    for one, other in ((data, data), (data / "red", data), (data, data / "red"), (data, listed)):
        assert "which flatters them" in same_items(start, one, Path(os.path.relpath(other)))
    search = Search(start, data, data, tmp_path, Plan(seconds=0), silent)
    search.run()
    assert same_items(start, data, data) in search.notes


def test_what_is_gone_on_from_is_said_also_where_it_is_nothing(
    start: Bundle, data: Path, tmp_path: Path
) -> None:
    plan = Plan(seconds=0, gate="estimate")
    first = Search(start, data, None, tmp_path, plan, silent)
    first.run()
    assert not any("gone on" in note or "going on" in note for note in first.notes)
    first.found._left()
    second = Search(start, data, None, tmp_path, plan, silent)
    second.run()
    assert "an earlier search of the same had judged no candidate yet; what it made is used" in second.notes
    second.found.judgement("some", "of", lambda: agreeing(0, 24))
    second.found._left()
    third = Search(start, data, None, tmp_path, plan, silent)
    third.run()
    assert "going on from 1 candidate found before, with the whole budget again" in third.notes


def test_numbers_of_items_say_what_they_are_of_and_nobody_has_too_many(start: Bundle, data: Path) -> None:
    known = evaluate(start, data, replicates=0)
    assert "about 2200 can where 2% change sides" in few_labels(known, 0.5)
    assert "no data set that can be had shows so little" in few_labels(known, 0.0001)
    assert number_of(451.2) == "about 460" and number_of(5.5e10) == "" == number_of(None)
    one = msgspec.structs.replace(agreeing(0, 200), by="accuracy", loss=0.0, high=1.5)
    other = msgspec.structs.replace(one, high=2.0)
    said = nearest({"far": other, "near": one}, 0.5, "labelled items")
    assert said == (
        "about 1800 labelled items would for near, going by the loss and the interval that it has here"
    )
    assert nearest({"near": one}, 1e-4, "items") == "only far more items would"
    assert "can" not in seen_few("near", one, 1e-4).partition("asked: ")[2]


def test_labels_are_asked_for_where_answers_that_differ_are_all_there_is_to_say(
    start: Bundle, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Search, "bases", lambda self: iter(()))
    monkeypatch.setattr(Search, "passes", lambda self: iter([Broken()]))
    monkeypatch.setattr("modelport.optimize.search.ways", lambda candidate: iter(()))
    for labelled, there in ((None, True), (data, False)):
        report = optimize(start, data, out=tmp_path, labelled=labelled, plan=Plan(gate="estimate"))
        assert report.chosen == START
        assert any("labelled data (--eval) judge accuracy itself" in note for note in report.notes) is there
    assert _by_agreement([entry("start", 1, 1, 1, 10)]) == ""


def test_few_labelled_items_are_refused_before_anything_is_made(
    start: Bundle, data: Path, tmp_path: Path
) -> None:
    few = pictures(tmp_path / "few", 7)
    with pytest.raises(InputError, match="7 items with a known answer are left, and at least 8 are needed"):
        optimize(start, data, out=tmp_path / "out", labelled=few)
    assert not (tmp_path / "out").exists()


def test_labels_of_another_model_are_asked_about(start: Bundle, data: Path, tmp_path: Path) -> None:
    """Who is always wrong has nothing to lose."""
    turned = {"red": "green", "green": "blue", "blue": "red"}
    for folder in data.iterdir():
        shutil.copytree(folder, tmp_path / "turned" / turned[folder.name])
    for labelled, said in ((tmp_path / "turned", 1), (data, 0)):
        search = Search(start, data, labelled, tmp_path / "work", Plan(gate="estimate"), silent)
        assert search.judge is not None
        odd = [note for note in search.notes if "are these the model's labels?" in note]
        assert len(odd) == said
        if odd:
            assert odd[0].startswith("the bundle as it is has accuracy 0 on these labels, and what is mostly")


def test_forms_beside_the_best_are_told(start: Bundle, tmp_path: Path) -> None:
    names = {"fast": "openvino", "sure": "onnxruntime", "right": "onnxruntime"}
    made = {
        name: Candidate(name, name, start, (), runtime=runtime, machine_bound=name == "fast")
        for name, runtime in names.items()
    }
    entries = [
        msgspec.structs.replace(entry(name, *ratio, 25), status=status)
        for name, ratio, status in (
            ("fast", (0.4, 0.3, 0.5), "chosen"),
            ("sure", (0.5, 0.4, 0.6), "tie"),
            ("right", (0.9, 0.8, 1.1), "kept"),
        )
    ]
    new = write_version(start, tmp_path / "2", entries, made, "fast")
    assert beside(new, set(made), "fast") == (
        "the version has more forms than fast: sure (where that one cannot run, or does not hold); "
        "right (with --variant alone)"
    )
    alone = write_version(start, tmp_path / "3", entries[:1], made, "fast")
    assert beside(alone, set(made), "fast") == ""


def test_a_longer_budget_is_advised_where_nothing_was_found_in_this_one(
    start: Bundle, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Search, "bases", lambda self: iter(()))
    monkeypatch.setattr(Search, "passes", lambda self: iter([Broken()]))
    monkeypatch.setattr("modelport.optimize.search.ways", lambda candidate: iter(()))
    advice = "1 candidate was not tried for want of time: a longer --budget tries more"
    for seconds, there in ((0, True), (600, False)):
        report = optimize(start, data, out=tmp_path, plan=Plan(gate="estimate", seconds=seconds))
        assert report.chosen == START and (advice in report.notes) is there


def test_what_was_never_made_is_said_before_anything_is_read(
    start: Bundle, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Search, "run", _nothing(Search.run))
    report: Report = optimize(start, data, out=tmp_path, plan=Plan(seconds=0))
    late = Entry(
        id="late", title="late", status="skipped", reason="not tried", recipe=Recipe("fp16", {}, START)
    )
    report = msgspec.structs.replace(report, entries=(*report.entries, late))
    monkeypatch.setattr(repeating, "Search", lambda *given: pytest.fail("nothing is to be read"))
    with pytest.raises(InputError, match="late was never made: not tried"):
        repeat(report, "late")
