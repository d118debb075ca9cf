"""The best candidate is asked on other machines; where it must answer alike, what does not is refused."""

from __future__ import annotations

import msgspec
import pytest

from modelport.bundle.store import Bundle
from modelport.optimize import elsewhere
from modelport.optimize.candidate import Candidate
from modelport.optimize.clock import Clock, silent
from modelport.optimize.elsewhere import asked, note_of, seconds_kept, settled_everywhere
from modelport.optimize.outcome import Elsewhere

from .networks import packed
from .test_search import entry


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return packed(tmp_path_factory.mktemp("elsewhere"))


def test_what_changes_elsewhere_is_refused_where_it_must_not(
    start: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def changing(candidate: Candidate, items: tuple[bytes, ...], clock: Clock) -> Elsewhere:
        changes = candidate.id == "fast"
        return Elsewhere(changes=changes, portable=(), replays=(), said=("on an older PC …",))

    monkeypatch.setattr(elsewhere, "asked", changing)
    measured = [
        entry("start", 1, 1, 1, 100),
        entry("fast", 0.4, 0.38, 0.42, 25),
        entry("safe", 0.6, 0.58, 0.62, 25),
    ]
    made = {name: Candidate(name, name, start, ()) for name in ("fast", "safe")}
    for must, best, first in ((False, "fast", "chosen"), (True, "safe", "refused")):
        found, chosen = settled_everywhere(measured, made, (), Clock(600, silent), must)
        by_id = {each.id: each for each in found}
        assert chosen == best and by_id["fast"].status == first
        there = by_id[best].elsewhere
        assert there is not None and there.changes is not must
    assert "another machine: on an older PC" in by_id["fast"].reason
    openvino = {name: msgspec.structs.replace(each, runtime="openvino") for name, each in made.items()}
    found, chosen = settled_everywhere(measured, openvino, (), Clock(600, silent), True)
    assert chosen == "fast" and all(each.elsewhere is None for each in found)


def test_what_is_taken_without_the_best_s_runtime_is_asked(
    start: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def changing(candidate: Candidate, items: tuple[bytes, ...], clock: Clock) -> Elsewhere:
        return Elsewhere(changes=candidate.id == "quick", portable=(), replays=(), said=("there",))

    monkeypatch.setattr(elsewhere, "asked", changing)
    measured = [
        entry("start", 1, 1, 1, 100),
        entry("best", 0.3, 0.28, 0.32, 25),
        entry("quick", 0.4, 0.38, 0.42, 25),
        entry("safe", 0.6, 0.58, 0.62, 25),
    ]
    made = {name: Candidate(name, name, start, ()) for name in ("best", "quick", "safe")}
    made["best"] = msgspec.structs.replace(made["best"], runtime="openvino")
    for must, asked_of in ((False, "quick"), (True, "safe")):
        found, chosen = settled_everywhere(measured, made, (), Clock(600, silent), must)
        by_id = {each.id: each for each in found}
        assert chosen == "best" and by_id["best"].elsewhere is None
        there = by_id[asked_of].elsewhere
        assert there is not None and there.changes is not must
        assert (by_id["quick"].status == "refused") is must


def test_time_is_kept_for_the_machines_that_can_be_asked(
    start: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    class There:
        title, reason, name = "a machine", "", "there"
        available = ready = True

    monkeypatch.setattr(elsewhere, "machines", lambda: [There])
    assert [seconds_kept(600, must) for must in (False, True)] == [30, 120]
    clock = Clock(100, silent, kept=60)
    assert 39 < clock.left_to_measure <= 40 < clock.left and not clock.over
    assert Clock(100, silent, kept=100).over and Clock(100, silent, kept=100).left_to_measure == 0
    late = asked(Candidate("a", "a", start, ()), (), Clock(0, silent))
    chosen = msgspec.structs.replace(entry("a", 0.5, 0.4, 0.6, 50), status="chosen", elsewhere=late)
    said = (
        "what a answers on other machines is not known: not asked, since the time budget was spent: a machine"
    )
    assert note_of([chosen]) == said and note_of([entry("a", 0.5, 0.4, 0.6, 50)]) == ""
    There.ready = False
    assert seconds_kept(600, True) == 0


def test_without_time_no_machine_is_asked(start: Bundle) -> None:
    found = asked(Candidate("a", "a", start, ()), (), Clock(0, silent))
    assert not found.replays and not found.changes and found.portable == ()
    assert found.said  # each machine, and why it was not asked
