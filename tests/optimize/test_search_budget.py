"""What a search does with its time: what is kept for measuring, what comes first, and what is said of it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from modelport.bundle.manifest import Variant
from modelport.bundle.store import Bundle
from modelport.optimize import measure
from modelport.optimize import search as searching
from modelport.optimize.bases import bases_of
from modelport.optimize.candidate import START, Candidate, Pass
from modelport.optimize.clock import SPENT, Clock, Told, silent
from modelport.optimize.judge import ByLabels, Judgement
from modelport.optimize.measuring import OPEN, STARTING, chosen, seconds_needed
from modelport.optimize.passes.half import Half
from modelport.optimize.passes.int8 import StaticInt8
from modelport.optimize.passes.runtime import OnRuntime
from modelport.optimize.plan import Plan
from modelport.optimize.search import Search
from modelport.optimize.ways import slow

from .networks import pictures
from .test_reduced import photos
from .test_search import entry


def after(seconds: float, budget: float, kept: float = 0.0) -> Clock:
    """A clock of which so much is spent."""
    clock = Clock(budget, silent, kept)
    clock._begun -= seconds
    return clock


def test_time_is_kept_for_what_is_measured_and_no_more() -> None:
    clock = after(80, 100, kept=20)
    assert clock.over and clock.late == "the last 40 s of the time budget are kept for measuring"
    clock.keep(2, 5, passed=False)  # the bundle as it is alone
    assert not clock.over
    clock.keep(2, 500, passed=True)
    assert clock.over and "the last 40 s" in clock.late
    clock.keep(70, 500, passed=False)  # a slow network: less would go beyond the budget
    assert clock.over and "the last 70 s" in clock.late
    assert after(101, 100).late == SPENT


@pytest.mark.parametrize(
    ("budget", "needed", "trying"), [(10, 12, 5), (30, 20, 15), (60, 50, 30), (600, 590, 30), (600, 200, 400)]
)
def test_until_something_passes_there_is_time_to_try(budget: float, needed: float, trying: float) -> None:
    clock = after(trying - 1, budget)
    clock.keep(needed, 2 * needed, passed=False)
    assert not clock.over
    clock._begun -= 2
    assert clock.over and f"the last {budget - trying:.0f} s" in clock.late
    clock.keep(needed, 2 * needed, passed=True)  # it has to be measured, and nothing goes beyond the budget
    assert f"the last {min(needed, budget):.0f} s of the time budget are kept" in clock.late


def test_starts_are_as_long_as_they_take_here(
    start: Bundle, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where seconds were assumed for each, a budget of ten of them was too small to try anything."""
    asked: list[str] = []

    def start_up(candidate: Candidate, item: bytes) -> tuple[float, int]:
        asked.append(candidate.id)
        return 0.1, 1

    monkeypatch.setattr(measure, "start_up", start_up)
    search = Search(start, data, None, tmp_path, Plan(seconds=10, gate="estimate"), silent)
    assert not search.over and not asked  # nothing is known yet
    assert search.judge is not None
    search._an_item = 1e-4
    assert not search.over and not asked  # there is nothing to be measured
    search.entries += [entry(f"kept-{number}", 1, 1, 1, 10) for number in range(3)]
    assert not search.over and not search.over and asked == ["start"]
    search._starts = 2.0
    assert search.over


def test_what_the_others_work_on_is_not_what_is_looked_for(start: Bundle, data: Path, tmp_path: Path) -> None:
    """A graph that was made simpler passes nearly always: half of a small budget is for trying then too."""
    search = Search(start, data, None, tmp_path, Plan(seconds=10, gate="estimate"), silent)
    assert search.judge is not None
    search._starts, search._an_item = 5.0, 1e-4
    search.entries.append(entry("simplify", 1, 1, 1, 10))
    search._bases.add("simplify")
    search.clock._begun = time.monotonic() - 4
    assert not search.over
    search.entries.append(entry("static-int8", 1, 1, 1, 10))
    assert search.over


def test_what_measuring_takes_hangs_on_what_is_measured() -> None:
    slow = msgspec.structs.replace(entry("slow", 2, 2, 2, 10), status="refused")
    open_ones = [
        msgspec.structs.replace(entry(f"open-{loss}", 1, 1, 1, 10, loss), status="undecided")
        for loss in range(OPEN + 2)
    ]
    fast = entry("fast", 0.5, 0.4, 0.6, 10)
    assert chosen([slow, *reversed(open_ones), fast]) == ["fast", *(each.id for each in open_ones[:OPEN])]
    alone, both = seconds_needed([slow], 0.1, 0.5), seconds_needed([slow, fast], 0.1, 0.5)
    assert alone[0] < alone[1] < both[1] and alone[0] < both[0]
    assert seconds_needed([slow, fast], 0.1, 2.0)[0] - both[0] == pytest.approx(2 * STARTING * 1.5)


def test_where_nothing_passes_the_time_for_measuring_is_used(
    start: Bundle, data: Path, tmp_path: Path
) -> None:
    search = Search(start, data, None, tmp_path, Plan(seconds=100, gate="estimate"), silent)
    assert search.judge is not None
    search._starts, search._an_item = 0.5, 0.005
    search.clock._begun -= 80
    assert not search.over
    many = [entry(f"kept-{number}", 1, 1, 1, 10) for number in range(100)]
    search.entries += many
    assert search.over


def test_what_costs_little_is_tried_before_the_other_numbers(
    start: Bundle, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[Pass] = [StaticInt8(), StaticInt8(calibrator="percentile"), Half()]
    order: list[str] = []

    def looked_at(self: Search, source: Candidate, ways: list[Any]) -> None:
        order.extend(step.of(source).id for step in ways)

    monkeypatch.setattr(
        searching, "ways", lambda candidate: iter([OnRuntime("onnxruntime", {"arena": False})])
    )
    monkeypatch.setattr(Search, "_looked_at", looked_at)
    monkeypatch.setattr(Search, "bases", lambda self: iter(()))
    monkeypatch.setattr(Search, "passes", lambda self: iter(steps))
    monkeypatch.setattr(Search, "tried", lambda self, step, base: order.append(step.id))
    monkeypatch.setattr(Search, "_measured", lambda self: [])
    Search(start, data, None, tmp_path, Plan(gate="estimate"), silent).run()
    first, other = (step.id for step in steps[:2])
    way = "start-on-onnxruntime-arena-false"
    assert order == [first, "fp16", way, other]  # and its ways are not looked at again


def test_boxes_that_packing_left_to_post_come_before_what_gains_little(start: Bundle) -> None:
    manifest = msgspec.structs.replace(start.manifest, task="object-detection")
    assert [step.name for step in bases_of(manifest)][2:] == ["simplify", "heads", "heads", "frame"]
    heads = Variant("heads", manifest.graphs.net.file, {}, chosen=True)
    packed_so = msgspec.structs.replace(manifest, variants=(heads,))
    assert [step.name for step in bases_of(packed_so)][2:] == ["heads", "heads", "simplify", "frame"]


def test_judging_a_candidate_that_takes_much_of_the_budget_is_said_once(
    start: Bundle, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Comparing takes time as well: the bundle as it was packed alone may be asked soon enough."""
    judge = ByLabels.judge

    def judged(self: ByLabels, candidate: Candidate) -> Judgement:
        time.sleep(1.6)
        return judge(self, candidate)

    monkeypatch.setattr(ByLabels, "judge", judged)
    said: list[Told] = []
    search = Search(start, data, data, tmp_path, Plan(seconds=10, gate="estimate", margin=90), said.append)
    search.clock._seconds = 100  # time for both
    for step in (Half(), StaticInt8()):
        search.tried(step, search.start)
    assert len([note for note in search.notes if note.startswith("judging on all items once took")]) == 1
    texts = [told.text for told in said]
    asking = texts.index("asking the bundle as it was packed")
    assert texts[asking + 1].endswith("comparing its answers")


def test_photos_that_gain_nothing_are_not_combined(
    start: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = photos(tmp_path / "large", 96)
    monkeypatch.setattr("modelport.optimize.ways.GAIN", 0.0)  # whatever is looked at is no faster
    search = Search(start, large, None, tmp_path / "work", Plan(gate="estimate"), silent)
    assert search._smaller_photos() == []
    assert {each.status for each in search.entries} == {"dominated"} and len(search.entries) == 2
    said = [note for note in search.notes if "not tried with other networks" in note]
    assert len(said) == 2 and said[0].startswith("photos decoded at 1/2, 1/4 or 1/8, at least 32 x 32: ")


def test_ways_that_there_is_no_time_to_judge_are_not_judged(
    start: Bundle, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each may take as long as evaluating once: what was not begun in time is not begun."""
    monkeypatch.setattr("modelport.optimize.ways.GAIN", float("inf"))
    search = Search(start, data, data, tmp_path, Plan(seconds=1000, gate="estimate", margin=90), silent)
    steps = [OnRuntime("onnxruntime", {"optimization": level}) for level in ("basic", "extended")]
    judge = ByLabels.judge

    def judged(self: ByLabels, candidate: Candidate) -> Judgement:
        search.clock._begun -= 2000
        return judge(self, candidate)

    monkeypatch.setattr(ByLabels, "judge", judged)
    search._looked_at(search.start, steps)
    first, second = search.entries
    assert first.judgement is not None
    assert second.status == "skipped" and second.reason.startswith("not tried: ")


def test_a_way_that_is_there_for_its_memory_need_not_be_faster(start: Bundle) -> None:
    own = Candidate(START, "as it is", start, ())
    without, other = (OnRuntime("onnxruntime", {name: False}).of(own) for name in ("arena", "spinning"))
    assert not slow(without, own, 1.0) and not slow(other, own, 0.9)
    assert slow(without, own, 1.1).endswith("1.10 of it") and slow(other, own, 1.0).endswith("1.00 of it")


def test_photos_of_which_few_are_large_are_not_tried(start: Bundle, tmp_path: Path) -> None:
    folder = pictures(tmp_path / "mixed", 39)
    large = next(photos(tmp_path / "large", 96).rglob("*.jpg"))
    (folder / "red" / "large.jpg").write_bytes(large.read_bytes())
    search = Search(start, folder, None, tmp_path / "work", Plan(gate="estimate"), silent)
    assert search._smaller_photos() == []
    reasons = {each.reason for each in search.entries if each.status == "skipped"}
    assert "not tried: of 40 items 1 would be decoded smaller, too few to gain from" in reasons


def test_the_time_that_is_said_to_be_left_does_not_grow() -> None:
    told: list[Told] = []
    clock = Clock(600.0, told.append)
    clock.expect(9)
    for took in (0.2, 1.0, 30.0, 30.0):  # the first are passes with nothing to do
        clock._begun -= took
        clock.step()
        clock.expect(3)
        clock.say("next")
    left = [each.left for each in told]
    assert left == sorted(left, reverse=True) and 530 < left[-1] < 600 - 61
