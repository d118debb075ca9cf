"""What becomes of a state: plans set, versions promoted and dropped, and the record of it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from modelport.errors import UsageError
from modelport.rollout import change
from modelport.rollout.change import MAX_HISTORY, State
from modelport.rollout.figures import Latency, Observed
from modelport.rollout.judge import Action, Decision
from modelport.rollout.plan import Canary, Plan, Policy, Shadow

STABLE = Observed(100, 1, Latency({5: 99}))


def plan_of(**parts: Any) -> Plan:
    return Plan(**({"model": "m", "stable": "1"} | parts))


CANARY = plan_of(canary=Canary(version="2", weight=0.05), policy=Policy())


def test_setting_a_plan() -> None:
    state = change.set_plan(State(), CANARY, now=5.0, by="cli", reason="friday")
    assert (state.revision, state.plan, state.since) == (1, CANARY, 5.0)
    (line,) = state.history
    assert (line.did, line.by, line.reason, line.before) == ("set", "cli", "friday", None)
    assert line.what == "stable 1, canary 2 at 0.05, by policy"
    assert change.set_plan(state, CANARY, now=9.0, by="cli") is state
    cleared = change.clear(state, now=9.0, by="api")
    assert cleared.plan is None and cleared.revision == 2 and cleared.history[-1].before == CANARY
    assert change.clear(cleared, now=10.0, by="api") is cleared


def test_what_answered_before_may_come_back_for_a_while() -> None:
    state = change.set_plan(State(), plan_of(stable="1"), now=1.0, by="cli")
    assert change.returnable(state, 2.0) == ()
    state = change.set_plan(
        state, plan_of(stable="1", canary=Canary(version="2", weight=0.1)), now=9.0, by="cli"
    )
    assert change.returnable(state, 10.0) == ()
    state = change.promote(state, now=100.0, by="api", reason="well done")
    assert change.told(state) == "2 is the stable version, in place of 1 (promote by api: well done)"
    assert change.returnable(state, 100.0) == change.returnable(state, 699.0) == ("1",)
    assert change.returnable(state, 700.0) == () and change.returnable(state, 0.0) == ()
    state = change.rollback(state, now=200.0, by="policy")
    assert change.returnable(state, 201.0) == ("2",) and change.sent_back(state)
    assert change.told(State()) == "no plan: the newest version answers" and not change.sent_back(State())


def test_a_plan_in_a_line() -> None:
    whole = plan_of(
        canary=Canary(version="2", weight=0.1, sticky="X-User", header="X-Canary", value="yes"),
        shadow=Shadow(version="3", sample=0.5),
    )
    assert change.describe(whole) == (
        "stable 1, canary 2 at 0.1 by x-user and for x-canary: yes, shadow 3 on 0.5"
    )


def test_promoting_and_undoing_it() -> None:
    state = change.set_plan(State(), CANARY, now=1.0, by="cli")
    promoted = change.promote(state, now=2.0, by="cli")
    assert promoted.plan == plan_of(stable="2")
    back = change.rollback(promoted, now=3.0, by="cli")
    assert back.plan == plan_of() and back.history[-1].what == "back from 2 to 1"
    with pytest.raises(UsageError, match="no record of a promotion to 1"):
        change.rollback(back, now=4.0, by="cli")


def test_dropping_a_candidate_keeps_what_is_no_part_of_it() -> None:
    both = plan_of(canary=Canary(version="2", weight=0.5), shadow=Shadow(version="3"))
    state = change.set_plan(State(), both, now=1.0, by="cli")
    assert change.rollback(state, now=2.0, by="cli").plan == plan_of(shadow=Shadow(version="3"))
    assert change.promote(state, now=2.0, by="cli").plan == plan_of(stable="2", shadow=Shadow(version="3"))
    same = msgspec.structs.replace(both, shadow=Shadow(version="2"))
    state = change.set_plan(State(), same, now=1.0, by="cli")
    assert change.rollback(state, now=2.0, by="cli").plan == plan_of()
    assert change.promote(state, now=2.0, by="cli").plan == plan_of(stable="2")
    shadow = change.set_plan(State(), plan_of(shadow=Shadow(version="3")), now=1.0, by="cli")
    assert change.promote(shadow, now=2.0, by="cli").plan == plan_of(stable="3")


@pytest.mark.parametrize("verb", [change.promote, change.rollback])
def test_nothing_to_promote_or_roll_back(verb: Any) -> None:
    with pytest.raises(UsageError, match="nothing to"):
        verb(State(), now=1.0, by="cli")
    with pytest.raises(UsageError, match="nothing to"):
        verb(change.set_plan(State(), plan_of(), now=1.0, by="cli"), now=2.0, by="cli")


def test_what_a_policy_decides() -> None:
    state = change.set_plan(State(), CANARY, now=1.0, by="cli")
    held = change.decided(state, Decision(Action.HOLD, "wait"), STABLE, now=2.0)
    assert held is state
    up = change.decided(state, Decision(Action.ADVANCE, "good", weight=0.25), STABLE, now=2.0)
    assert up.plan is not None and up.plan.canary == Canary(version="2", weight=0.25)
    assert up.plan.policy == Policy() and up.baseline == STABLE and up.since == 2.0
    assert up.history[-1].what == "canary 2 from 0.05 to 0.25 of the requests"
    assert (up.history[-1].by, up.history[-1].reason) == ("policy", "good")
    gone = change.decided(up, Decision(Action.ROLLBACK, "bad"), STABLE, now=3.0)
    assert gone.plan == plan_of() and gone.baseline is None
    done = change.decided(up, Decision(Action.PROMOTE, "good"), STABLE, now=3.0)
    assert done.plan == plan_of(stable="2")


def test_a_shadow_that_advances_becomes_the_canary_and_is_still_compared() -> None:
    plan = plan_of(shadow=Shadow(version="2", sample=0.5), policy=Policy(min_agreement=0.9))
    state = change.set_plan(State(), plan, now=1.0, by="cli")
    up = change.decided(state, Decision(Action.ADVANCE, "good", weight=0.05), STABLE, now=2.0)
    assert up.plan == msgspec.structs.replace(plan, canary=Canary(version="2", weight=0.05))
    assert up.history[-1].what == "2, so far a shadow, answers 0.05 of the requests"


def test_the_baseline_goes_with_its_versions() -> None:
    state = change.set_plan(State(), CANARY, now=1.0, by="cli")
    state = change.decided(state, Decision(Action.ADVANCE, "good", weight=0.25), STABLE, now=2.0)
    heavier = plan_of(canary=Canary(version="2", weight=0.9), policy=Policy())
    assert change.set_plan(state, heavier, now=3.0, by="cli").baseline == STABLE
    other = plan_of(canary=Canary(version="3", weight=0.9), policy=Policy())
    assert change.set_plan(state, other, now=3.0, by="cli").baseline is None


def test_history_is_bounded() -> None:
    state = State()
    for number in range(MAX_HISTORY + 50):
        plan = plan_of(canary=Canary(version="2", weight=number / 1000))
        state = change.set_plan(state, plan, now=float(number), by="cli")
    assert len(state.history) == MAX_HISTORY and state.revision == MAX_HISTORY + 50
    assert state.history[-1].at == MAX_HISTORY + 49


def test_figures_that_cannot_be_are_refused() -> None:
    with pytest.raises(UsageError, match="2 errors and 1 latencies of 2 requests"):
        State(baseline=Observed(2, 2, Latency({0: 1})))
