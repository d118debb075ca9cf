"""Who sees which version: proportions, faithfulness, and that raising a weight moves nobody back."""

from __future__ import annotations

import random

from hypothesis import example, given, settings
from hypothesis import strategies as st

from modelport.rollout.choose import choose, listener, place_of, sticky_key
from modelport.rollout.plan import CLIENT_ADDRESS, Canary, Plan, Shadow

WEIGHTS = st.floats(0, 1)
DRAWS = st.floats(0, 1, exclude_max=True)
KEYS = st.text(max_size=50)


def plan_of(weight: float, *, version: str = "2", sticky: str | None = None, sample: float = 0.0) -> Plan:
    canary = Canary(version=version, weight=weight, header="x-canary", value="yes", sticky=sticky)
    return Plan(model="m", stable="1", canary=canary, shadow=Shadow(version="3", sample=sample))


@settings(deadline=None)
@given(WEIGHTS, DRAWS)
def test_without_a_key_chance_decides(weight: float, draw: float) -> None:
    assert choose(plan_of(weight), key=None, headers={}, draw=draw) == ("2" if draw < weight else "1")


@settings(deadline=None)
@given(KEYS, WEIGHTS, WEIGHTS, DRAWS, DRAWS)
def test_a_caller_stays_and_a_higher_weight_moves_callers_one_way(
    key: str, one: float, two: float, first: float, second: float
) -> None:
    low, high = sorted((one, two))
    before = choose(plan_of(low), key=key, headers={}, draw=first)
    assert choose(plan_of(low), key=key, headers={}, draw=second) == before
    after = choose(plan_of(high), key=key, headers={}, draw=second)
    assert (before, after) in {("1", "1"), ("1", "2"), ("2", "2")}


@settings(deadline=None)
@given(KEYS)
@example("\udcff")
def test_the_ends_are_everybody_and_nobody(key: str) -> None:
    assert 0.0 <= place_of("m", "2", key) < 1.0
    assert choose(plan_of(0.0), key=key, headers={}, draw=0.0) == "1"
    assert choose(plan_of(1.0), key=key, headers={}, draw=0.0) == "2"


@settings(deadline=None)
@given(WEIGHTS, st.one_of(st.none(), KEYS), DRAWS)
def test_the_header_decides_for_sure(weight: float, key: str | None, draw: float) -> None:
    assert choose(plan_of(weight), key=key, headers={"x-canary": "yes"}, draw=draw) == "2"
    other = choose(plan_of(weight), key=key, headers={"x-canary": "Yes"}, draw=draw)
    assert other == choose(plan_of(weight), key=key, headers={}, draw=draw)


@settings(deadline=None)
@given(st.floats(0.01, 0.99), st.sampled_from(["{}", "user-{}", "10.0.0.{}", "{0}{0}{0}"]))
def test_keys_are_spread_evenly(weight: float, form: str) -> None:
    keys = [form.format(number) for number in range(2000)]
    hits = sum(choose(plan_of(weight), key=key, headers={}, draw=0.0) == "2" for key in keys)
    # Six standard deviations: one failure in a thousand million examples, if the keys are spread evenly.
    assert abs(hits - 2000 * weight) <= 6 * (2000 * weight * (1 - weight)) ** 0.5


def test_places_are_the_same_on_every_machine() -> None:
    # Pinned: if these change, every running rollout deals its callers anew.
    assert place_of("m", "2", "anna") == 0.8414888100629615
    assert place_of("m", "2", "") == 0.4382601733139


def test_each_candidate_and_each_model_deals_anew() -> None:
    keys = [f"user-{number}" for number in range(4000)]

    def chosen(model: str, version: str) -> set[str]:
        return {key for key in keys if place_of(model, version, key) < 0.5}

    for other in (chosen("m", "3"), chosen("n", "2")):
        both = len(chosen("m", "2") & other)
        assert abs(both - 1000) < 6 * (4000 * 0.25 * 0.75) ** 0.5


def test_what_a_key_is() -> None:
    headers = {"x-user": "anna"}
    assert sticky_key(None, headers, "10.0.0.1") is None
    assert sticky_key(Canary(version="2", weight=1), headers, "10.0.0.1") is None
    assert sticky_key(Canary(version="2", sticky="X-User"), headers, "10.0.0.1") == "anna"
    assert sticky_key(Canary(version="2", sticky="X-Other"), headers, "10.0.0.1") is None
    assert sticky_key(Canary(version="2", sticky=CLIENT_ADDRESS), headers, "10.0.0.1") == "10.0.0.1"


def test_a_plan_without_a_canary() -> None:
    assert choose(Plan(model="m", stable="1"), key="x", headers={"x-canary": "yes"}, draw=0.0) == "1"


@settings(deadline=None)
@given(WEIGHTS, DRAWS)
def test_only_what_the_stable_version_answers_is_shadowed(sample: float, draw: float) -> None:
    plan = plan_of(0.5, sample=sample)
    assert listener(plan, "1", draw) == ("3" if draw < sample else None)
    assert listener(plan, "2", draw) is None
    assert listener(Plan(model="m", stable="1"), "1", draw) is None


def test_the_share_of_chance() -> None:
    draws = random.Random(3)
    hits = sum(choose(plan_of(0.1), key=None, headers={}, draw=draws.random()) == "2" for _ in range(10_000))
    assert abs(hits - 1000) < 6 * 30
