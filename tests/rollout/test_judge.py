"""Judgements: each rule alone, whole rollouts by simulation, and that looking often alarms nobody."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from modelport.rollout.bounds import look_at
from modelport.rollout.figures import Compared, Latency, Observed
from modelport.rollout.judge import Action, Decision, Evidence, judge
from modelport.rollout.plan import Canary, Plan, Policy, Shadow

SINCE = 1000.0
LATER = SINCE + 1000.0


def plan_of(weight: float = 0.05, shadow: bool = False, **policy: Any) -> Plan:
    return Plan(
        model="m",
        stable="1",
        canary=Canary(version="2", weight=weight),
        shadow=Shadow(version="2") if shadow else None,
        policy=Policy(**policy),
    )


def seen(requests: int, errors: int = 0, seconds: float = 0.01) -> Observed:
    latency = Latency()
    latency.add(seconds)
    (bucket,) = latency.counts
    return Observed(requests, errors, Latency({bucket: requests - errors} if requests > errors else {}))


def ask(plan: Plan, now: float = LATER, **evidence: Any) -> Decision:
    given = {"since": SINCE, "stable": seen(20_000), "candidate": seen(5000), "seen": 5000} | evidence
    return judge(plan, Evidence(**given), now)


def test_without_a_policy_nothing_moves() -> None:
    plan = msgspec.structs.replace(plan_of(), policy=None)
    decision = ask(plan, candidate=seen(5000, 5000))
    assert decision.action is Action.HOLD and "no policy" in decision.reason


def test_a_good_candidate_goes_up_step_by_step_and_becomes_stable() -> None:
    for weight, action, to in (
        (0.0, Action.ADVANCE, 0.05),
        (0.05, Action.ADVANCE, 0.25),
        (0.1, Action.ADVANCE, 0.25),
        (0.25, Action.ADVANCE, 1.0),
        (1.0, Action.PROMOTE, None),
    ):
        decision = ask(plan_of(weight))
        assert (decision.action, decision.weight) == (action, to), decision
        assert "errors 0.00% of 5,000 against 0.00% of 20,000" in decision.reason
        assert [check.verdict for check in decision.checks] == ["good", "good"]


def test_errors_beyond_chance_end_it_at_once() -> None:
    decision = ask(plan_of(), now=SINCE, stable=seen(200), candidate=seen(8, 8), seen=8)
    assert decision.action is Action.ROLLBACK and decision.look == 1
    assert "errors 100.00% of 8 against 0.00% of 200" in decision.reason
    # As many errors on both sides are no fault of the candidate.
    both = ask(plan_of(), stable=seen(20_000, 6000), candidate=seen(5000, 1500))
    assert both.action is Action.HOLD and both.checks[0].verdict == "open"


def test_fewer_errors_than_the_stable_version_are_fine() -> None:
    assert ask(plan_of(), stable=seen(20_000, 900), candidate=seen(5000, 10)).action is Action.ADVANCE


def test_too_few_requests_and_too_little_time_are_said() -> None:
    decision = ask(plan_of(), candidate=seen(499), seen=499)
    assert decision.action is Action.HOLD and "499 requests of the 500 that it takes" in decision.reason
    decision = ask(plan_of(), now=SINCE + 299)
    assert decision.action is Action.HOLD and decision.reason == "299 s of the 300 s that it takes"
    assert "0 s of the 300" in ask(plan_of(), now=SINCE - 50).reason  # a clock that was set back


def test_what_is_not_proven_yet_waits() -> None:
    # 500 requests without an error: chance still leaves room for two in a hundred.
    decision = ask(plan_of(), candidate=seen(500), seen=500)
    assert decision.action is Action.HOLD and decision.checks[0].verdict == "open"
    assert decision.reason.startswith("errors 0.00% of 500")
    assert ask(plan_of(max_error_difference=0.05), candidate=seen(500), seen=500).action is Action.ADVANCE


def test_between_looks_nothing_is_judged() -> None:
    decision = ask(plan_of(), candidate=seen(5000, 5000), seen=5000, looked=29)
    assert decision == Decision(Action.HOLD, f"5,000 requests; the next look is at {look_at(30):,}")
    assert ask(plan_of(), candidate=seen(1, 1), seen=1).reason == "1 request; the next look is at 8"
    assert ask(plan_of(), candidate=seen(5000, 5000), seen=look_at(30), looked=29).look == 30


def test_a_slow_candidate_goes_and_a_slightly_slow_one_waits() -> None:
    decision = ask(plan_of(), candidate=seen(5000, seconds=0.03))
    assert decision.action is Action.ROLLBACK
    assert "p99 30 ms against 10.2 ms: 2.95 times, at most 1.5 times wanted" in decision.reason
    # One in fifty is slow, where one in a hundred may be: 100 answers do not prove it.
    mixed = seen(100)
    mixed.latency.merge(seen(2, seconds=1.0).latency)
    few = ask(plan_of(min_requests=100, max_error_difference=0.5), candidate=mixed, seen=102)
    assert few.action is Action.HOLD and few.checks[1].verdict == "open"
    fine = ask(plan_of(), candidate=seen(5000, seconds=0.014))
    assert fine.action is Action.ADVANCE and fine.checks[1].value == pytest.approx(1.41, abs=0.05)


def test_a_first_slow_request_is_no_99th_percentile() -> None:
    # All of the first 99 are slow: a cold start, perhaps. From 100 on it is judged.
    plan = plan_of(min_requests=1)
    cold = ask(plan, candidate=seen(99, seconds=1.0), seen=99)
    assert cold.action is Action.HOLD and "p99 needs 100 answers of each: 20,000 and 99" not in cold.reason
    assert "p99 needs 100 answers of each: 99 and 20,000 so far" in cold.reason
    assert ask(plan, candidate=seen(100, seconds=1.0), seen=100).action is Action.ROLLBACK


def test_latency_can_be_left_out() -> None:
    decision = ask(plan_of(max_p99_ratio=None), candidate=seen(5000, seconds=9.0))
    assert decision.action is Action.ADVANCE and len(decision.checks) == 1


def test_without_anything_to_compare_with_only_the_worst_is_judged() -> None:
    nothing = seen(0)
    held = ask(plan_of(1.0), stable=nothing)
    assert held.action is Action.HOLD and "nothing to be compared with" in held.reason
    assert "no latencies to compare" in held.reason
    assert ask(plan_of(1.0), stable=nothing, candidate=seen(5000, 500)).action is Action.ROLLBACK


def test_a_candidate_that_answers_nothing_is_held() -> None:
    decision = ask(plan_of(), candidate=seen(0), seen=100)  # the window has forgotten them
    assert decision.action is Action.HOLD and "0 requests of the 500" in decision.reason


def compared(requests: int, agreed: int | None = None, **more: Any) -> Compared:
    return Compared(requests, requests if agreed is None else agreed, **more)


def test_agreement_is_proven_both_ways() -> None:
    plan = plan_of(shadow=True, min_agreement=0.95)
    good = ask(plan, compared=compared(3000, 2990))
    assert good.action is Action.ADVANCE and "agreement 99.67% of 3,000" in good.reason
    bad = ask(plan, compared=compared(3000, 2500))
    assert bad.action is Action.ROLLBACK and "agreement 83.33%" in bad.reason
    unsure = ask(plan, compared=compared(3000, 2850))
    assert unsure.action is Action.HOLD and unsure.checks[-1].verdict == "open"
    none = ask(plan)
    assert none.action is Action.HOLD and "agreement none yet of 0" in none.reason


def test_where_the_canary_answers_everything_nothing_is_left_to_compare() -> None:
    plan = plan_of(1.0, shadow=True, min_agreement=0.95, max_difference=0.1)
    decision = ask(plan)
    assert decision.action is Action.PROMOTE and len(decision.checks) == 2


def test_one_number_that_is_too_far_off_ends_it() -> None:
    plan = plan_of(shadow=True, max_difference=0.01)
    far = ask(plan, now=SINCE, seen=1, candidate=seen(1), compared=compared(1, max_difference=0.02))
    assert far.action is Action.ROLLBACK and "off by 0.02, at most 0.01 wanted" in far.reason
    unlike = ask(plan, compared=compared(50, unlike=1))
    assert unlike.action is Action.ROLLBACK and "1 of 50 answers have other tensors" in unlike.reason
    near = ask(plan, compared=compared(100, max_difference=0.009))
    assert near.action is Action.ADVANCE
    few = ask(plan, compared=compared(99))
    assert few.action is Action.HOLD and "99 requests compared, of the 100 that it takes" in few.reason


def test_a_shadow_is_judged_before_it_becomes_the_canary() -> None:
    plan = Plan(
        model="m", stable="1", shadow=Shadow(version="2"), policy=Policy(min_agreement=0.9, steps=(0.1, 1.0))
    )
    pairs = compared(5000)
    pairs.answering, pairs.listening = seen(5000).latency, seen(5000).latency
    stable, candidate = pairs.as_observed()
    decision = ask(plan, stable=stable, candidate=candidate, compared=pairs)
    assert (decision.action, decision.weight) == (Action.ADVANCE, 0.1)
    pairs.failed = 2500
    stable, candidate = pairs.as_observed()
    decision = ask(plan, stable=stable, candidate=candidate, compared=pairs)
    assert decision.action is Action.ROLLBACK and "errors 50.00% of 5,000" in decision.reason


def test_more_judges_ask_for_more() -> None:
    # Just enough for one process, too little for each of sixteen.
    one = [ask(plan_of(), candidate=seen(n), seen=n).action for n in range(1000, 3000, 50)]
    many = [ask(plan_of(), candidate=seen(n), seen=n, judges=16).action for n in range(1000, 3000, 50)]
    assert one.count(Action.ADVANCE) > many.count(Action.ADVANCE) > 0


def simulate(
    chance: random.Random, stable_rate: float, rate: float, slow: float, plan: Plan, requests: int
) -> tuple[Action, int]:
    """One step under load: judged after every few requests, until it ends or the requests do."""
    stable, candidate, looked = Observed(), Observed(), 0

    def answer(observed: Observed, errors: float, factor: float) -> None:
        observed.add(chance.random() >= errors, 0.005 + factor * chance.expovariate(200.0))

    for count in range(1, requests + 1):
        answer(candidate, rate, slow)
        for _ in range(4):
            answer(stable, stable_rate, 1.0)
        if count % 3:
            continue
        evidence = Evidence(since=0.0, stable=stable, candidate=candidate, seen=count, looked=looked)
        decision = judge(plan, evidence, float(count))
        looked = max(looked, decision.look)
        if decision.action is not Action.HOLD:
            return decision.action, count
    return Action.HOLD, requests


def outcomes(run: Callable[[random.Random], tuple[Action, int]], times: int) -> list[tuple[Action, int]]:
    return [run(random.Random(seed)) for seed in range(times)]


PATIENT = plan_of(min_requests=10**9)
"""Never moves up, so that every look is one more chance of a false alarm."""


def test_an_equal_candidate_is_hardly_ever_dropped_however_often_one_looks() -> None:
    got = outcomes(lambda chance: simulate(chance, 0.03, 0.03, 1.0, PATIENT, 3000), 60)
    dropped = sum(action is Action.ROLLBACK for action, _ in got)
    assert dropped <= 3  # 5 % of 60, and far fewer: the bound is Boole's


def test_a_candidate_that_fails_is_dropped_soon() -> None:
    got = outcomes(lambda chance: simulate(chance, 0.01, 0.15, 1.0, PATIENT, 3000), 20)
    assert {action for action, _ in got} == {Action.ROLLBACK}
    assert sorted(count for _, count in got)[10] < 300


def test_a_candidate_that_is_slow_is_dropped_soon() -> None:
    got = outcomes(lambda chance: simulate(chance, 0.0, 0.0, 4.0, PATIENT, 3000), 10)
    assert {action for action, _ in got} == {Action.ROLLBACK}


def test_an_equal_candidate_moves_up() -> None:
    plan = plan_of(min_seconds=0.0)
    got = outcomes(lambda chance: simulate(chance, 0.0, 0.0, 1.0, plan, 6000), 10)
    assert {action for action, _ in got} == {Action.ADVANCE}
    assert max(count for _, count in got) < 3000


def test_a_candidate_beyond_the_limit_hardly_ever_moves_up() -> None:
    plan = plan_of(min_seconds=0.0, min_requests=1, max_p99_ratio=None)
    got = outcomes(lambda chance: simulate(chance, 0.01, 0.025, 1.0, plan, 3000), 40)
    assert sum(action is Action.ADVANCE for action, _ in got) <= 2
