"""What one candidate costs: measured by turns, warmed before it is timed, and left out where it fails."""

from __future__ import annotations

import errno
import itertools
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from modelport.bundle.store import Bundle
from modelport.errors import ModelFailed
from modelport.optimize import measure, measuring
from modelport.optimize.bench.memory import COPIES, SHARE
from modelport.optimize.candidate import START, Candidate
from modelport.optimize.clock import Clock, silent
from modelport.optimize.intervals import Interval, interval
from modelport.optimize.measure import BATCHES, TURNS, Latency, in_groups
from modelport.optimize.outcome import Status

from .reports import entry

ITEMS = (b"one", b"two", b"three", b"four")


class Asked:
    """A pipeline that notes what it is asked.

    Args:
        fails_at: the call at which it raises; 0 for none.
    """

    def __init__(self, name: str, noted: Callable[[str, int], None], fails_at: int = 0) -> None:
        self.name, self.batches = name, list[int]()
        self._noted, self._fails_at = noted, fails_at

    def __enter__(self) -> Asked:
        return self

    def __exit__(self, *raised: object) -> None: ...

    def decode(self, item: bytes) -> dict[str, np.ndarray]:
        return {}

    def answer(self, item: object) -> None:
        self.answer_many([item])

    def answer_many(self, items: Sequence[object]) -> None:
        self.batches.append(len(items))
        self._noted(self.name, len(items))
        if len(self.batches) == self._fails_at:
            raise ModelFailed("the graph failed while it ran: shapes {4} and {5} do not fit")


class Machine:
    """Two cores, on which every candidate is an `Asked`."""

    def __init__(self, start: Bundle) -> None:
        self.start = start
        self.order: list[str] = []
        self.copies: dict[str, list[Asked]] = {}
        self.fails_at: dict[str, int] = {}

    def candidates(self, *names: str) -> dict[str, Candidate]:
        return {name: Candidate(name, name, self.start, ()) for name in names}

    def opened(self, candidate: Candidate, threads: int) -> Asked:
        made = Asked(candidate.id, self._noted, self.fails_at.get(candidate.id, 0))
        self.copies.setdefault(candidate.id, []).append(made)
        return made

    def _noted(self, name: str, batch: int) -> None:
        self.order.append(name)


@pytest.fixture
def machine(start: Bundle, monkeypatch: pytest.MonkeyPatch) -> Machine:
    found = Machine(start)
    monkeypatch.setattr(measure, "opened", found.opened)
    monkeypatch.setattr(measure, "settle", lambda pipeline, items: None)
    monkeypatch.setattr(measure, "usable_cores", lambda: 2)
    return found


def test_latencies_are_measured_by_turns_in_an_order_drawn_anew(machine: Machine) -> None:
    names = (START, "a", "b", "c")
    ticks: list[None] = []
    found, failed = measure.latencies(
        machine.candidates(*names), ITEMS, rounds=6, tick=lambda: ticks.append(None)
    )
    assert found.keys() == set(names) and not failed and len(ticks) == 7 * len(names)
    assert all(len(own.rounds) == 6 and len(own.rounds[0]) == len(ITEMS) for own in found.values())
    turns = machine.order[:: len(ITEMS)]
    rounds = [tuple(turns[at : at + 4]) for at in range(0, len(turns), 4)]
    assert len(rounds) == 7, "the first one warms up"
    assert all(sorted(each) == sorted(names) for each in rounds) and len(set(rounds)) > 1


def test_without_time_there_are_as_many_rounds_as_an_interval_needs(machine: Machine) -> None:
    found, _ = measure.latencies(machine.candidates(START), ITEMS, seconds=0)
    assert len(found[START].rounds) == measure.LEAST_ROUNDS
    # Of one that is as fast as the START each round is above or below by chance, and all of them seldom.
    ways = list(itertools.product((0.9, 1.1), repeat=measure.LEAST_ROUNDS))
    sure = [way for way in ways if interval(np.array(way)).high < 1]
    assert 0 < len(sure) <= 0.025 * len(ways)
    rates, _ = measure.throughputs(machine.candidates("a"), ITEMS, seconds=0)
    calls = sum(max(1, TURNS // batch) for batch in BATCHES)
    assert [len(copy.batches) for copy in machine.copies["a"]] == [2 * calls, 2 * calls]
    assert rates["a"][0].value > 0 and rates["a"][1] in BATCHES


def test_one_that_fails_late_is_left_out_and_the_others_go_on(machine: Machine) -> None:
    machine.fails_at = {"bad": 10}
    candidates = machine.candidates(START, "bad", "good")
    for found, failed in (
        measure.latencies(candidates, ITEMS, rounds=3),
        measure.throughputs(candidates, ITEMS, rounds=1),
    ):
        assert found.keys() == {START, "good"}
        assert failed == {
            "bad": "it failed while it was measured: the graph failed while it ran: "
            "shapes {4} and {5} do not fit"
        }
    machine.fails_at = {START: 10}
    with pytest.raises(ModelFailed, match=r"the bundle as it is, .* failed while it was measured: the graph"):
        measure.latencies(candidates, ITEMS, rounds=3)


def test_every_copy_answers_each_batch_size_before_it_is_timed(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenVINO compiles for each shape that is new, which takes longer than the calls that are timed."""
    compiled: list[float] = []
    seen = Counter[tuple[Asked, int]]()
    rate = measure._rate

    def timed(pool: Any, own: Sequence[Asked], items: Sequence[bytes], batch: int) -> float:
        compiled.append(sum(seen[pipeline, batch] == 0 for pipeline in own))
        found = rate(pool, own, items, batch)  # type: ignore[arg-type]
        seen.update((pipeline, size) for pipeline in own for size in pipeline.batches)
        return found if compiled[-1] == 0 else 0.0

    monkeypatch.setattr(measure, "_rate", timed)
    found, _ = measure.throughputs(machine.candidates(START, "a"), ITEMS, rounds=1)
    assert all(interval.low > 0 for interval, _ in found.values())
    assert compiled == [2] * 2 * len(BATCHES) + [0] * 2 * len(BATCHES)


def test_the_batch_with_the_best_median_is_taken(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {1: [0, 10, 90, 11], 4: [0, 20, 22, 21], 16: [0, 5, 5, 5]}
    monkeypatch.setattr(measure, "_rate", lambda pool, own, items, batch: float(given[batch].pop(0)))
    found, _ = measure.throughputs(machine.candidates("a"), ITEMS)
    interval, batch = found["a"]
    assert batch == 4 and (interval.low, interval.value, interval.high) == (20, 21, 22)


def test_what_has_no_room_side_by_side_is_measured_in_groups_beside_the_start(
    machine: Machine, start: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    candidates = machine.candidates(START, "a", "b", "c")
    copies = COPIES * start.manifest.files[start.manifest.graphs.net.file].size * 2
    assert list(map(list, in_groups(candidates, 2, None))) == [[START, "a", "b", "c"]]
    assert list(map(list, in_groups(candidates, 2, int(3.1 * copies / SHARE)))) == [
        [START, "a", "b"],
        [START, "c"],
    ]
    assert list(map(list, in_groups(candidates, 2, 1))) == [[START, each] for each in "abc"]
    assert list(map(list, in_groups(machine.candidates(START), 2, 1))) == [[START]]

    # While `c` is measured the machine is half as fast: its throughput is brought to that of the others.
    speed = {"a": 1.0, "b": 2.0, "c": 2.0}

    def rate(pool: Any, own: Sequence[Asked], items: Sequence[bytes], batch: int) -> float:
        slow = 0.5 if "c" in machine.copies else 1.0
        return 10 * slow * speed.get(own[0].name, 1.0)

    monkeypatch.setattr(measure, "free_memory", lambda: int(3.1 * copies / SHARE))
    monkeypatch.setattr(measure, "_rate", rate)
    found, _ = measure.throughputs(candidates, ITEMS)
    assert {name: interval.value for name, (interval, _) in found.items()} == {
        START: 10,
        "a": 10,
        "b": 20,
        "c": 20,
    }


def test_a_ratio_is_that_of_rounds() -> None:
    """What slows both down goes out, and one slow item of a round moves nothing."""
    own = Latency(tuple((seconds, seconds, seconds) for seconds in (1.0, 2.0, 8.0)))
    other = Latency(tuple((2 * seconds, 2 * seconds, 99.0) for seconds in (1.0, 2.0, 8.0)))
    found = measure.ratio(own, other)
    assert (found.low, found.value, found.high) == (0.5, 0.5, 0.5)
    swinging = Latency(((1.0,), (3.0,), (20.0,)))
    found = measure.ratio(swinging, other)
    assert found.low < found.value < found.high
    assert measure.p50_ms(own) == 2000


def test_a_start_is_timed_in_processes_of_its_own(
    start: Bundle, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = next(data.rglob("*.png")).read_bytes()
    candidate = Candidate(START, "as it is", start, ())
    seconds, peak = measure.start_up(candidate, item)
    assert 0 < seconds < measure.SECONDS and peak > 10_000_000
    given = iter([(2.0, 70), (1.5, 60)])
    with monkeypatch.context() as patch:
        patch.setattr(measure, "_started", lambda command, version: next(given))
        assert measure.start_up(candidate, item) == (1.5, 70)
    with pytest.raises(ModelFailed, match=r"^1 does not start: .*no setting 'speed'"):
        measure.start_up(msgspec.structs.replace(candidate, settings={"speed": 9}), item)


def test_what_a_runtime_prints_is_not_taken_for_the_memory() -> None:
    code = """print("plugin 1.2 loaded"); print('{"peak_bytes": 70}'); print("bye")"""
    assert measure._started([sys.executable, "-c", code], "1")[1] == 70
    with pytest.raises(ModelFailed, match=r"^1 ended before it said how much memory it took$"):
        measure._started([sys.executable, "-c", "print('bye')"], "1")


def test_whatever_a_candidate_raises_is_its_own_failure_and_a_full_disk_is_nobodys() -> None:
    failed: dict[str, str] = {}
    with measure.guarded("other", failed):
        raise RuntimeError("unknown operator\nat line 3")
    assert failed == {"other": "it failed while it was measured: RuntimeError: unknown operator"}
    with (
        pytest.raises(ModelFailed, match=r"which all is compared with, failed .*: ValueError: no"),
        measure.guarded(START, failed),
    ):
        raise ValueError("no")
    with pytest.raises(OSError, match="full"), measure.guarded("other", failed):
        raise OSError(errno.ENOSPC, "full")


def test_a_start_without_an_answer_is_an_error_in_words(
    start: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "SECONDS", 0.2)
    run = subprocess.run

    def sleeping(command: list[str], **how: Any) -> Any:
        return run([sys.executable, "-c", "import time; time.sleep(60)"], **how)

    monkeypatch.setattr(subprocess, "run", sleeping)
    with pytest.raises(ModelFailed, match=r"^1 gave no answer within 0.2 s of its start$"):
        measure.start_up(Candidate(START, "as it is", start, ()), b"")


def test_one_round_shows_no_interval_of_the_throughput() -> None:
    several = entry("several", "kept", 0.5).figures
    assert several is not None and several.throughput_notes == ["180.0 to 220.0", "batch 4"]
    alone = msgspec.structs.replace(several, throughput_interval=Interval(200.0, 200.0, 200.0))
    assert alone.throughput_notes == ["one round", "batch 4"]


@pytest.mark.parametrize("others", [0.05, 0.4])
def test_beside_other_programs_settings_of_threads_are_not_taken(
    others: float, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads that wait for each other lose to them, so that fewer seem to gain."""
    monkeypatch.setattr(measuring, "taken", lambda *looks: others)
    monkeypatch.setattr(measure, "start_up", lambda candidate, item: (0.1, 1))
    made = machine.candidates(START, "one", "still", "arena", "eight")
    for name, settings in (
        ("one", {"threads": 1}),
        ("still", {"spinning": False}),
        ("arena", {"arena": False}),
    ):
        made[name] = msgspec.structs.replace(made[name], settings=settings)
    entries = [
        msgspec.structs.replace(entry(name, "kept", 1.0), figures=None) for name in made if name != START
    ]
    found, _ = measuring.measured(entries, made, ITEMS, Clock(60.0, silent))
    status = {each.id: each.status for each in found}
    threading: Status = "refused" if others > measuring.BUSY else "kept"
    assert status == {START: "start", "one": threading, "still": threading, "arena": "kept", "eight": "kept"}
    reasons = [each.reason for each in found if each.status == "refused"]
    assert all("while other programs use 40% of the cores" in reason for reason in reasons)
    assert all(each.figures is not None for each in found)
