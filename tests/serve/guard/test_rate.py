"""Token buckets: exact counts, no clock."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.errors import UsageError
from modelport.serve.guard.rate import Bucket, Callers, Rate


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("100/s", Rate(100, 1)),
        ("600/min", Rate(600, 60)),
        ("1/h", Rate(1, 3600)),
        ("5000/d", Rate(5000, 86400)),
    ],
)
def test_rates_are_read_and_written(text: str, rate: Rate) -> None:
    assert Rate.parse(text) == rate
    assert str(rate) == text


@pytest.mark.parametrize(
    "text", ["", "100", "0/s", "-1/s", "1/fortnight", "1.5/s", "100/s ", "1/s\n", "9999999999/s"]
)
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="100/s"):
        Rate.parse(text)


def test_a_bucket_gives_its_rate_at_once_and_then_one_at_a_time() -> None:
    bucket = Bucket(Rate(4, 2.0))
    assert [bucket.take(10.0) for _ in range(4)] == [0.0] * 4
    assert bucket.take(10.0) == pytest.approx(0.5)
    assert bucket.take(10.25) == pytest.approx(0.25)  # the refused one took nothing
    assert bucket.take(10.5) == 0.0
    assert bucket.take(10.5) == pytest.approx(0.5)
    assert [bucket.take(100.0) for _ in range(4)] == [0.0] * 4  # full again, and not fuller
    assert bucket.take(100.0) > 0


@given(
    rate=st.builds(Rate, st.integers(1, 50), st.sampled_from([1.0, 60.0, 3600.0])),
    gaps=st.lists(st.floats(0, 3, allow_nan=False), max_size=200),
)
def test_no_window_sees_more_than_the_rate_and_what_flows_in(rate: Rate, gaps: list[float]) -> None:
    bucket, now, taken = Bucket(rate), 1000.0, []
    for gap in gaps:
        now += gap
        wait = bucket.take(now)
        assert 0 <= wait <= rate.seconds / rate.requests * (1 + 1e-6)
        if not wait:
            taken.append(now)
    for first, start in enumerate(taken):
        for last in range(first, len(taken)):
            flowed = (taken[last] - start) * rate.requests / rate.seconds
            assert last - first + 1 <= rate.requests + flowed + 1e-6 * (1 + flowed)


@given(wait=st.floats(0, 100), rate=st.builds(Rate, st.integers(1, 50), st.sampled_from([1.0, 60.0])))
def test_who_waits_as_told_is_let_in(wait: float, rate: Rate) -> None:
    bucket = Bucket(rate)
    now = 5.0 + wait
    while not (left := bucket.take(now)):
        pass
    assert bucket.take(now + left) == 0.0


def test_callers_have_buckets_of_their_own_and_are_forgotten_oldest_first() -> None:
    callers = Callers(Rate(1, 3600), most=3)
    assert callers.take("10.0.0.1", 0) == 0
    assert callers.take("10.0.0.1", 0) > 0
    for last in (2, 3):
        assert callers.take(f"10.0.0.{last}", 0) == 0
    assert callers.take("10.0.0.1", 0) > 0  # asked last, so not the first to be forgotten
    assert callers.take("10.0.0.4", 0) == 0
    assert len(callers) == 3
    assert callers.take("10.0.0.1", 0) > 0
    assert callers.take("10.0.0.2", 0) == 0  # forgotten


def test_a_million_addresses_take_no_more_than_their_place() -> None:
    callers = Callers(Rate(1, 1))
    for number in range(40_000):
        callers.take(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 0)
    assert len(callers) == 16384


def test_one_subscriber_of_ipv6_is_one_caller() -> None:
    callers = Callers(Rate(1, 3600))
    assert callers.take("2001:db8:1:2::1", 0) == 0
    assert callers.take("2001:db8:1:2:ffff::77", 0) > 0
    assert callers.take("2001:db8:1:3::1", 0) == 0
    assert callers.take("fe80::1%eth0", 0) == 0
    assert callers.take("192.0.2.1", 0) == 0
    assert callers.take("::ffff:192.0.2.1", 0) > 0  # the same machine on a dual-stack socket
    assert callers.take("odd:" + "x" * 5000, 0) == 0
