"""The best candidate is asked on other machines; where it must answer alike, what does not is refused."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from modelport.bundle.store import Bundle
from modelport.emulation.machine import SATURATES
from modelport.optimize import elsewhere
from modelport.optimize.candidate import Candidate
from modelport.optimize.choose import fallback
from modelport.optimize.clock import Clock, silent
from modelport.optimize.elsewhere import asked, note_of, seconds_kept, settled_everywhere
from modelport.optimize.outcome import Elsewhere
from modelport.optimize.variants import write_version
from modelport.runtimes.machine import machine_class
from modelport.verify.portability import Replay

from .networks import packed
from .test_search import entry


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return packed(tmp_path_factory.mktemp("elsewhere"))


def different(start: Bundle, folder: Path, *names: str) -> dict[str, Candidate]:
    """Candidates of a bundle each."""
    return {name: Candidate(name, name, start.derive(folder / name, {}, version=name), ()) for name in names}


def test_what_changes_elsewhere_is_refused_where_it_must_not(
    start: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def changing(candidate: Candidate, items: tuple[bytes, ...], clock: Clock, must: bool) -> Elsewhere:
        changes = candidate.id == "fast"
        return Elsewhere(changes=changes, portable=(), replays=(), said=("on an older PC …",))

    monkeypatch.setattr(elsewhere, "asked", changing)
    measured = [
        entry("start", 1, 1, 1, 100),
        entry("fast", 0.4, 0.38, 0.42, 25),
        entry("safe", 0.6, 0.58, 0.62, 25),
    ]
    made = different(start, tmp_path, "fast", "safe")
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
    start: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def changing(candidate: Candidate, items: tuple[bytes, ...], clock: Clock, must: bool) -> Elsewhere:
        return Elsewhere(changes=candidate.id == "quick", portable=(), replays=(), said=("there",))

    monkeypatch.setattr(elsewhere, "asked", changing)
    measured = [
        entry("start", 1, 1, 1, 100),
        entry("best", 0.3, 0.28, 0.32, 25),
        entry("quick", 0.4, 0.38, 0.42, 25),
        entry("safe", 0.6, 0.58, 0.62, 25),
    ]
    made = different(start, tmp_path, "best", "quick", "safe")
    made["best"] = msgspec.structs.replace(made["best"], runtime="openvino", machine_bound=True)
    for must, asked_of in ((False, "quick"), (True, "safe")):
        found, chosen = settled_everywhere(measured, made, (), Clock(600, silent), must)
        by_id = {each.id: each for each in found}
        assert chosen == "best" and by_id["best"].elsewhere is None
        there = by_id[asked_of].elsewhere
        assert there is not None and there.changes is not must
        assert (by_id["quick"].status == "refused") is must


def test_a_network_s_settings_are_of_here_and_its_answers_of_everywhere(
    start: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes, asked_of = False, list[str]()

    def answered(candidate: Candidate, items: tuple[bytes, ...], clock: Clock, must: bool) -> Elsewhere:
        asked_of.append(candidate.id)
        replays = ({"machine": SATURATES, "cases": 4},)
        return Elsewhere(changes=changes, portable=(), replays=replays, said=("there",))

    monkeypatch.setattr(elsewhere, "asked", answered)
    measured = [
        entry("start", 1, 1, 1, 100),
        entry("eight-threads-1", 0.4, 0.38, 0.42, 25),
        entry("eight", 0.6, 0.5, 1.2, 25),
        entry("other", 0.7, 0.65, 0.75, 25),
        msgspec.structs.replace(entry("looked-at", 1, 1, 1, 25), status="dominated", figures=None),
    ]
    made = different(start, tmp_path, "eight", "other")
    settings = {"id": "eight-threads-1", "settings": {"threads": 1}, "machine_bound": True}
    made["eight-threads-1"] = msgspec.structs.replace(made["eight"], **settings)
    found, best = settled_everywhere(measured, made, (), Clock(600, silent), True)
    assert best == "eight-threads-1" and asked_of == [best]
    assert fallback(found, made, best) == "eight"
    new = write_version(start, tmp_path / "2", found, made, best)
    assert [(each.name, each.machine, each.settings) for each in new.manifest.variants if each.chosen] == [
        (best, machine_class(), {"threads": 1}),
        ("eight", "", {}),
    ]
    changes = True
    found, best = settled_everywhere(measured, made, (), Clock(600, silent), True)
    assert best == "start" and [each.status for each in found[1:4]] == ["refused"] * 3


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
    said = "what a answers on other kinds of processor is not known; `modelport verify --on all` asks them"
    assert late.said == ("there: not asked; the time budget was spent",)
    assert note_of([chosen]) == f"{said} about the new version"
    assert note_of([entry("a", 0.5, 0.4, 0.6, 50)]) == ""
    replayed: list[float] = []

    def answered(*given: object, seconds: float, **how: object) -> Replay:
        replayed.append(seconds)
        return Replay(machine="there", machine_class="", variant="", same=True, cases=2)

    monkeypatch.setattr(elsewhere, "replay", answered)
    assert asked(Candidate("a", "a", start, ()), (), Clock(0, silent), True).replays and replayed == [5.0]
    There.ready = False
    assert seconds_kept(600, True) == 0


def test_without_time_no_machine_is_asked(start: Bundle) -> None:
    found = asked(Candidate("a", "a", start, ()), (), Clock(0, silent))
    assert not found.replays and not found.changes and found.portable == ()
    assert found.said  # each machine, and why it was not asked


@pytest.mark.parametrize("name", ["fp16", "heads-last", "low-rank", "ort-offline", "start-photos-32x32"])
def test_what_changes_elsewhere_is_for_this_class_whatever_it_is(
    start: Bundle, tmp_path: Path, name: str
) -> None:
    made = different(start, tmp_path, name)
    for changes, machine in ((False, ""), (True, machine_class())):
        there = Elsewhere(changes=changes, portable=(), replays=(), said=())
        best = msgspec.structs.replace(entry(name, 0.5, 0.4, 0.6, 50), status="chosen", elsewhere=there)
        new = write_version(start, tmp_path / f"{changes}", [entry("start", 1, 1, 1, 100), best], made, name)
        assert [(each.machine, each.chosen) for each in new.manifest.variants] == [(machine, True)]


def test_other_arithmetic_has_no_verdict_of_its_network(
    start: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = False

    def answered(candidate: Candidate, items: tuple[bytes, ...], clock: Clock, must: bool) -> Elsewhere:
        return Elsewhere(changes=changes, portable=("x86_64-avx2",), replays=(), said=("there",))

    monkeypatch.setattr(elsewhere, "asked", answered)
    names = ("eight-plain-layout", "eight-threads-1", "eight")
    measured = [entry("start", 1, 1, 1, 100)]
    measured += [entry(name, 0.4 + place, 0.38 + place, 0.42 + place, 25) for place, name in enumerate(names)]
    made = different(start, tmp_path, "eight")
    for name, settings in zip(names, ({"optimization": "extended"}, {"threads": 1}), strict=False):
        own = {"id": name, "settings": settings, "machine_bound": True}
        made[name] = msgspec.structs.replace(made["eight"], **own)
    found, best = settled_everywhere(measured, made, (), Clock(600, silent), True)
    assert best == "eight-plain-layout"
    assert [each.id for each in found if each.elsewhere is not None] == ["eight-threads-1", "eight"]
    changes = True
    found, best = settled_everywhere(measured, made, (), Clock(600, silent), True)
    assert best == "start" and [each.status for each in found[1:]] == ["refused"] * 3
