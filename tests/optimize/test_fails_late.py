"""A candidate that loads and answers, and fails when it is measured: refused, and the search goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelport.bundle.store import Bundle
from modelport.errors import ModelFailed
from modelport.optimize import measure, ways
from modelport.optimize import search as searching
from modelport.optimize.candidate import START, Candidate
from modelport.optimize.clock import silent
from modelport.optimize.passes.half import Half
from modelport.optimize.passes.int8 import StaticInt8
from modelport.optimize.passes.runtime import OnRuntime
from modelport.optimize.plan import Plan
from modelport.optimize.run import optimize
from modelport.optimize.search import Search

PLAN = Plan(gate="estimate", margin=2.0, seconds=20.0)
SAID = "it failed while it was measured: the graph failed: no such shape"


def failing(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    """The function, which raises for this candidate."""

    def called(candidate: Candidate, *given: Any, **how: Any) -> Any:
        if candidate.id == name:
            raise ModelFailed("the graph failed: no such shape")
        return function(candidate, *given, **how)

    return called


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two networks, in no other way."""
    monkeypatch.setattr(Search, "bases", lambda self: iter(()))
    monkeypatch.setattr(Search, "passes", lambda self: iter([StaticInt8(), Half()]))
    monkeypatch.setattr(searching, "ways", lambda candidate: iter(()))


@pytest.mark.parametrize("late", ["opened", "start_up"])
def test_it_is_refused_with_the_reason_and_the_others_go_on(
    late: str, start: Bundle, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, late, failing(getattr(measure, late), "fp16"))
    report = optimize(start, data, out=tmp_path, labelled=data, plan=PLAN)
    by_id = {entry.id: entry for entry in report.entries}
    bad, good = by_id["fp16"], by_id[StaticInt8().id]
    assert (bad.status, bad.reason, bad.figures) == ("refused", SAID, None) and bad.judgement is not None
    assert good.figures is not None and good.status != "refused"
    assert (tmp_path / "colours" / "2.report" / "report.html").is_file()


@pytest.mark.parametrize("late", ["opened", "start_up"])
def test_where_the_bundle_as_it_is_fails_there_is_nothing_to_compare_with(
    late: str, start: Bundle, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, late, failing(getattr(measure, late), START))
    with pytest.raises(ModelFailed, match="the bundle as it is, which all is compared with, failed while"):
        optimize(start, data, out=tmp_path, labelled=data, plan=PLAN)


def test_at_a_quick_look_it_is_refused_as_well(
    start: Bundle, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = [OnRuntime("onnxruntime", {"arena": False}), OnRuntime("onnxruntime", {"spinning": False})]
    bad, good = (f"start-on-onnxruntime-{name}-false" for name in ("arena", "spinning"))
    monkeypatch.setattr(measure, "opened", failing(measure.opened, bad))
    monkeypatch.setattr("modelport.optimize.ways.GAIN", 0.0)
    search = Search(start, data, data, tmp_path, PLAN, silent)
    search._looked_at(search.start, steps)
    by_id = {entry.id: entry for entry in search.entries}
    assert (by_id[bad].status, by_id[bad].reason) == ("refused", SAID)
    assert by_id[good].status == "dominated"
    assert by_id[good].reason.startswith("at a quick look, by latency alone, no faster than start: ")


def test_what_fails_at_a_quick_look_is_run_in_no_other_way(
    start: Bundle, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = Search(start, data, data, tmp_path, PLAN, silent)
    own, other = search.start, Candidate("bad", "bad", start, ())
    monkeypatch.setattr(measure, "opened", failing(measure.opened, "bad"))
    assert ways.fastest([other, own], search.calibration.items) == [own]
    said = ways.shares(other, [own], search.calibration.items)
    assert said == {START: f"not compared with bad: {SAID}"}
