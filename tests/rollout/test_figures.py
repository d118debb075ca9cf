"""Counts that add up, latencies in buckets, a window that slides; bounds against published numbers."""

from __future__ import annotations

import math
import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelport.rollout import bounds
from modelport.rollout.compare import Comparison
from modelport.rollout.figures import Compared, Latency, Observed, Window, added

SECONDS = st.floats(1e-6, 1e5)
STEP = 2 ** (1 / 16)


@settings(deadline=None)
@given(st.lists(SECONDS, min_size=1, max_size=60), st.floats(0, 1))
def test_a_quantile_is_right_to_a_bucket(values: list[float], share: float) -> None:
    latency = Latency()
    for value in values:
        latency.add(value)
    true = sorted(values)[max(math.ceil(share * len(values)), 1) - 1]
    got = latency.quantile(share)
    assert got is not None and true * (1 - 1e-9) <= got <= true * STEP * (1 + 1e-9)


def test_what_lies_outside_the_buckets_is_counted_at_their_ends() -> None:
    latency = Latency()
    for value in (0.0, -1.0, 1e-9, 1e300):
        latency.add(value)
    assert latency.total == 4 and latency.quantile(0.5) == 1e-6
    assert latency.quantile(1.0) == 1e-6 * 2.0**40
    assert Latency().quantile(0.5) is None
    assert latency.rank(0) is None and latency.rank(5) is None


EVENTS = st.lists(st.tuples(st.booleans(), SECONDS), max_size=40)


@settings(deadline=None)
@given(EVENTS, EVENTS)
def test_figures_add_up(first: list[tuple[bool, float]], second: list[tuple[bool, float]]) -> None:
    one, two, whole = Observed(), Observed(), Observed()
    for ok, seconds in first:
        one.add(ok, seconds)
        whole.add(ok, seconds)
    for ok, seconds in second:
        two.add(ok, seconds)
        whole.add(ok, seconds)
    assert added(Observed, [one, two]) == whole == added(Observed, [two, one])
    assert one.requests == len(first)  # the parts are left alone
    assert msgspec.json.decode(msgspec.json.encode(whole), type=Observed) == whole


def test_rates() -> None:
    observed = Observed()
    assert observed.error_rate is None
    for ok in (True, False, True, True):
        observed.add(ok, 0.001)
    assert (observed.requests, observed.errors, observed.error_rate) == (4, 1, 0.25)
    assert observed.latency.total == 3


def test_shadowed_requests() -> None:
    compared = Compared()
    assert compared.agreement is None
    compared.add(Comparison(True, 0.25), 0.001, 0.002)
    compared.add(Comparison(False, math.inf), 0.001, 0.002)
    compared.add(None, 0.001, 9.0)
    assert (compared.requests, compared.agreed, compared.unlike, compared.failed) == (3, 1, 1, 1)
    assert compared.max_difference == 0.25 and compared.agreement == pytest.approx(1 / 3)
    stable, shadow = compared.as_observed()
    assert (stable.requests, stable.errors, stable.latency.total) == (3, 0, 3)
    assert (shadow.requests, shadow.errors, shadow.latency.total) == (3, 1, 2)
    twice = added(Compared, [compared, compared])
    assert (twice.requests, twice.agreed, twice.unlike, twice.failed) == (6, 2, 2, 2)
    assert twice.max_difference == 0.25 and twice.listening.total == 4 and twice.answering.total == 6


def test_a_window_forgets() -> None:
    window = Window(Observed, 60.0, slices=6)
    for second in range(200):
        window.turn(1000.0 + second)
        window.current.add(True, 0.001)
        kept = window.total().requests
        assert min(second + 1, 60) <= kept <= min(second + 1, 70)
    window.turn(1300.0)
    assert window.total().requests == 10  # the slice that nobody closed in between
    window.turn(1400.0)
    assert window.total().requests == 0


def test_a_clock_that_is_set_back_loses_no_more_than_the_past() -> None:
    window = Window(Observed, 60.0, slices=6)
    window.turn(1000.0)
    window.current.add(True, 0.001)
    window.turn(1011.0)
    window.current.add(True, 0.001)
    window.turn(500.0)
    assert window.total().requests == 1
    for second in range(200):
        window.turn(501.0 + second)
    assert window.total().requests == 0


@pytest.mark.parametrize(
    ("hits", "total", "low", "high"),
    # R. G. Newcombe, Two-sided confidence intervals for the single proportion (1998), table I, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_against_published_numbers(hits: int, total: int, low: float, high: float) -> None:
    assert bounds.wilson(hits, total, 1.959964) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(
    ("hits", "total", "base_hits", "base_total", "low", "high"),
    # R. G. Newcombe, Interval estimation for the difference … (1998), table II, method 10.
    [
        (56, 70, 48, 80, 0.0524, 0.3339),
        (9, 10, 3, 10, 0.1705, 0.8090),
        (6, 7, 2, 7, 0.0582, 0.8062),
        (5, 56, 0, 29, -0.0381, 0.1926),
        (0, 10, 0, 20, -0.1611, 0.2775),
        (10, 10, 0, 20, 0.6791, 1.0),
    ],
)
def test_the_difference_against_published_numbers(
    hits: int, total: int, base_hits: int, base_total: int, low: float, high: float
) -> None:
    got = bounds.difference(hits, total, base_hits, base_total, 1.959964)
    assert got == pytest.approx((low, high), abs=5e-5)


def test_bounds_of_what_nobody_saw() -> None:
    assert bounds.wilson(0, 0, 3.0) == (0.0, 1.0)
    assert bounds.difference(0, 0, 1, 2, 3.0) == (-1.0, 1.0)
    # Nothing to compare with: against what never fails.
    assert bounds.difference(3, 10, 0, 0, 2.0) == bounds.wilson(3, 10, 2.0)


@settings(deadline=None)
@given(st.integers(0, 300), st.integers(0, 300), st.integers(0, 300), st.integers(0, 300), st.floats(0, 8))
def test_bounds_hold_the_figure_and_mirror(a: int, b: int, c: int, d: int, z: float) -> None:
    hits, total, base_hits, base_total = min(a, b), max(a, b, 1), min(c, d), max(c, d, 1)
    low, high = bounds.difference(hits, total, base_hits, base_total, z)
    value = hits / total - base_hits / base_total
    assert -1 <= low <= value + 1e-12 and value - 1e-12 <= high <= 1
    mirrored = bounds.difference(base_hits, base_total, hits, total, z)
    assert mirrored == pytest.approx((-high, -low), abs=1e-12)


def test_looks_grow_by_a_quarter() -> None:
    taken = [bounds.look_at(number) for number in range(1, 12)]
    assert taken == [8, 10, 13, 16, 20, 25, 31, 39, 48, 60, 75]
    assert [bounds.look_number(count) for count in (0, 7, 8, 9, 10, 12, 13, 75)] == [0, 0, 1, 1, 2, 2, 3, 11]


@settings(deadline=None)
@given(st.integers(8, 10**12))
def test_a_look_is_the_last_one_that_is_due(requests: int) -> None:
    number = bounds.look_number(requests)
    assert bounds.look_at(number) <= requests < bounds.look_at(number + 1)


def test_all_looks_together_spend_no_more_than_there_is() -> None:
    spent = sum(bounds.look_alpha(0.05, number) for number in range(1, 10_000))
    assert 0.0499 < spent < 0.05
    assert bounds.deviate(0.025) == pytest.approx(1.959964, abs=1e-6)
    assert bounds.deviate(0.0) == bounds.deviate(1e-15)


def test_quantile_bounds_hold_the_true_quantile() -> None:
    chance = random.Random(5)
    z, missed = bounds.deviate(0.01), 0
    for _ in range(200):
        latency = Latency()
        for _ in range(1500):
            latency.add(0.001 + chance.expovariate(100.0))
        low, high = bounds.quantile_bounds(latency, 0.99, z)
        true = 0.001 - math.log(0.01) / 100.0
        assert low is not None and high is not None
        missed += not low / STEP <= true <= high
    assert missed <= 200 * 0.02 + 6 * (200 * 0.02) ** 0.5


def test_a_few_durations_bound_no_99th_percentile_from_above() -> None:
    latency = Latency()
    for _ in range(100):
        latency.add(0.01)
    low, high = bounds.quantile_bounds(latency, 0.99, 3.0)
    assert low is not None and high is None
    assert bounds.quantile_bounds(Latency(), 0.99, 3.0) == (None, None)
