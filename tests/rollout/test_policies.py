"""Rollouts by policy in a server, from the first request to the last step; seconds pass and nobody sleeps."""

from __future__ import annotations

import os
import random
from typing import Any

import numpy as np
import pytest

from modelport.engine import traffic as module
from modelport.engine.traffic import Traffic
from modelport.errors import BundleError, Unavailable, Unsupported
from modelport.rollout.plan import Policy, Shadow
from modelport.rollout.state import load, stamp

from .servers import Models, traffic_of
from .test_traffic import POLICY, canary_of, plan_of, routed


class Clock:
    """Serves traffic and ticks, second by second; nothing sleeps."""

    def __init__(self, *servers: Traffic, rate: int = 50) -> None:
        self.servers = servers
        self.now = 1000.0
        self.rate = rate
        self.chance = random.Random(7)

    def run(self, seconds: int, errors: dict[str, float] | None = None, wrong: float = 0.0) -> None:
        for _ in range(seconds):
            for server in self.servers:
                for _ in range(self.rate):
                    self.ask(server, errors or {}, wrong)
            self.now += 1.0
            for server in self.servers:
                server.tick(self.now)

    def ask(self, server: Traffic, errors: dict[str, float], wrong: float) -> None:
        version, shadow = server.route("m", {}, None)
        assert version is not None
        ok = self.chance.random() >= errors.get(version, 0.0)
        server.observe("m", version, ok, 0.01)
        if shadow is not None and ok:
            other = [0.1, 0.9] if self.chance.random() < wrong else [0.9, 0.1]
            failed = self.chance.random() < errors.get(shadow, 0.0)
            answer = {"scores": np.array([0.9, 0.1])}
            server.compared("m", answer, None if failed else {"scores": np.array(other)}, 0.01, 0.01)


def dids(traffic: Traffic) -> list[tuple[str, str]]:
    return [(line.by, line.did) for line in traffic.report("m").history]


def test_a_good_canary_goes_all_the_way(traffic: Traffic) -> None:
    clock = Clock(traffic)
    traffic.put("m", canary_of(policy=POLICY), now=clock.now)
    clock.run(900)
    report = traffic.report("m")
    assert report.plan == plan_of(stable="2")
    assert [line.what for line in report.history[1:]] == [
        "canary 2 from 0.1 to 0.5 of the requests",
        "canary 2 from 0.5 to 1 of the requests",
        "2 is the stable version, in place of 1",
    ]
    gaps = [b.at - a.at for a, b in zip(report.history, report.history[1:], strict=False)]
    assert min(gaps) >= 60.0  # min_seconds at each step
    # At weight 1 the stable version was compared by what it did at the steps before.
    assert "against 0.00% of" in report.history[-1].reason


def test_a_canary_that_fails_goes_within_seconds(traffic: Traffic, models: Models) -> None:
    clock = Clock(traffic)
    traffic.put("m", canary_of(policy=POLICY), now=clock.now)
    clock.run(30, {"2": 0.5})
    assert dids(traffic) == [("api", "set"), ("policy", "rollback")]
    assert traffic.report("m").history[-1].at - 1000.0 < 15
    assert set(routed(traffic)) == {("1", None)}
    again = traffic_of(models)
    again.tick(clock.now)
    assert set(routed(again)) == {("1", None)}


def test_a_canary_that_turns_bad_when_it_has_everything_goes_too(traffic: Traffic) -> None:
    clock = Clock(traffic)
    traffic.put("m", canary_of(policy=POLICY), now=clock.now)
    for _ in range(600):
        clock.run(1)
        if traffic.report("m").plan.canary.weight == 1.0:  # type: ignore[union-attr]
            break
    clock.run(30, {"2": 0.5})
    assert dids(traffic)[-1] == ("policy", "rollback")
    assert set(routed(traffic)) == {("1", None)}


def test_a_shadow_is_compared_before_anyone_sees_it(traffic: Traffic) -> None:
    policy = Policy(
        steps=(0.2, 1.0), min_requests=100, min_seconds=10, max_error_difference=0.05, min_agreement=0.9
    )
    plan = plan_of(shadow=Shadow(version="2"), policy=policy)
    clock = Clock(traffic)
    traffic.put("m", plan, now=clock.now)
    clock.run(400)
    assert [line.did for line in traffic.report("m").history] == ["set", "advance", "advance", "promote"]
    assert traffic.report("m").plan == plan_of(stable="2")


def test_a_shadow_that_answers_otherwise_never_becomes_a_canary(traffic: Traffic) -> None:
    policy = Policy(min_requests=100, min_seconds=10, min_agreement=0.9)
    traffic.put("m", plan_of(shadow=Shadow(version="2"), policy=policy), now=1000.0)
    Clock(traffic).run(60, wrong=0.4)
    assert dids(traffic) == [("api", "set"), ("policy", "rollback")]
    assert "agreement" in traffic.report("m").history[-1].reason


def test_a_canary_of_little_weight_is_known_by_its_shadow(traffic: Traffic) -> None:
    clock = Clock(traffic)
    policy = Policy(steps=(0.01, 1.0), min_agreement=0.9)
    plan = canary_of(0.01, shadow=Shadow(version="2"), policy=policy)
    traffic.put("m", plan, now=clock.now)
    clock.run(10, wrong=1.0)
    last = traffic.report("m").history[-1]
    assert (last.by, last.did) == ("policy", "rollback") and "agreement 0.00%" in last.reason


def test_one_difference_that_is_too_large(traffic: Traffic) -> None:
    policy = Policy(max_difference=0.1)
    traffic.put("m", plan_of(shadow=Shadow(version="2"), policy=policy), now=1000.0)
    Clock(traffic, rate=1).run(3, wrong=1.0)
    assert dids(traffic)[-1] == ("policy", "rollback")


def test_two_processes_judge_side_by_side_and_move_once_a_step(models: Models) -> None:
    pair = traffic_of(models, judges=2), traffic_of(models, draw=random.Random(2).random, judges=2)
    clock = Clock(*pair)
    pair[0].put("m", canary_of(policy=POLICY), now=clock.now)
    pair[1].tick(clock.now)
    clock.run(900)
    state = load(models.root / "m")
    assert state is not None and [line.did for line in state.history] == [
        "set",
        "advance",
        "advance",
        "promote",
    ]
    assert pair[0].report("m").plan == pair[1].report("m").plan == plan_of(stable="2")


def test_a_change_of_the_weight_keeps_the_stable_version_to_compare_with(traffic: Traffic) -> None:
    traffic.put("m", canary_of(0.5, policy=POLICY), now=1000.0)
    Clock(traffic).run(60)
    traffic.put("m", canary_of(1.0, policy=POLICY), now=1060.0)
    clock = Clock(traffic)
    clock.now = 1060.0
    clock.run(120)
    assert dids(traffic)[-1] == ("policy", "promote")


@pytest.mark.parametrize("problem", [Unsupported("read-only"), BundleError("damaged")])
def test_a_bad_canary_goes_even_where_nothing_can_be_written(
    traffic: Traffic, monkeypatch: pytest.MonkeyPatch, problem: Exception
) -> None:
    clock = Clock(traffic)
    traffic.put("m", canary_of(policy=POLICY), now=clock.now)

    def refuse(*_: Any, **__: Any) -> None:
        raise problem

    monkeypatch.setattr(module, "change", refuse)
    clock.run(100)
    assert traffic.report("m").plan == canary_of(policy=POLICY)  # an advance has to be kept to count
    assert "advance is not kept on disk" in traffic.report("m").problem
    clock.run(60, {"2": 0.9})
    assert set(routed(traffic)) == {("1", None)}
    assert "rollback is not kept on disk" in traffic.report("m").problem


def test_a_busy_lock_is_tried_again_at_the_next_tick(
    traffic: Traffic, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(traffic)
    traffic.put("m", canary_of(policy=POLICY), now=clock.now)

    def busy(*_: Any, **__: Any) -> None:
        raise Unavailable("another process is changing it")

    with monkeypatch.context() as patch:
        patch.setattr(module, "change", busy)
        clock.run(10, {"2": 1.0})
    assert dids(traffic) == [("api", "set")]
    traffic.tick(clock.now + 1)
    assert dids(traffic) == [("api", "set"), ("policy", "rollback")]


def test_nothing_is_written_but_for_changes(traffic: Traffic, models: Models) -> None:
    traffic.tick(1.0)
    assert os.listdir(models.root / "m") == []
    traffic.put("m", canary_of(), now=1.0)
    before = stamp(models.root / "m")
    Clock(traffic).run(50)
    assert stamp(models.root / "m") == before
