"""Retries: which failures, how long between, and never more than the budget. No clock, no sleep."""

from __future__ import annotations

import math
import random
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.client.failures import Failed, failed_status, seconds_of
from modelport.client.retry import LONGEST_WAIT, Attempts, Budget, Retries
from modelport.errors import (
    DeadlineExceeded,
    Forbidden,
    InputError,
    ModelFailed,
    ModelportError,
    NotFound,
    RateLimited,
    TooLarge,
    Unauthorized,
    Unavailable,
    Unsupported,
    UnsupportedMedia,
    UsageError,
)


class Drawn(random.Random):
    """Draws what it is told: 1.0 is the longest pause."""

    def __init__(self, share: float) -> None:
        super().__init__(0)
        self.share = share

    def uniform(self, a: float, b: float) -> float:
        return a + (b - a) * self.share


AGAIN = Failed(Unavailable("no"), again=True)


def attempts(
    rules: Retries, *, deadline: float = math.inf, share: float = 1.0, budget: Budget | None = None
) -> Attempts:
    return Attempts(rules, budget or Budget(rules, 0.0), deadline, Drawn(share))


def test_pauses_double_up_to_the_longest_and_are_drawn_from_zero_on() -> None:
    rules = Retries(most=5, base=0.1, longest=0.5)
    assert [attempts(rules).pause(AGAIN, 0.0)] == [0.1]
    made = attempts(rules)
    assert [made.pause(AGAIN, 0.0) for _ in range(5)] == pytest.approx([0.1, 0.2, 0.4, 0.5, 0.5])
    assert "allows no more" in str(made.pause(AGAIN, 0.0))
    assert attempts(rules, share=0.0).pause(AGAIN, 0.0) == 0.0
    assert attempts(rules, share=0.5).pause(AGAIN, 0.0) == pytest.approx(0.05)


def test_a_thousand_attempts_do_not_overflow() -> None:
    rules = Retries(most=3000, reserve=5000)
    made = attempts(rules)
    assert [made.pause(AGAIN, 0.0) for _ in range(3000)][-1] == 2.0


def test_what_may_not_be_repeated_is_not() -> None:
    assert isinstance(attempts(Retries()).pause(Failed(InputError("x")), 0.0), str)
    assert isinstance(attempts(Retries(most=0)).pause(AGAIN, 0.0), str)


def test_retry_after_comes_before_the_drawn_pause_and_ends_where_the_deadline_is() -> None:
    asked = Failed(Unavailable("no"), again=True, after=3.0)
    assert attempts(Retries(base=0.5)).pause(asked, 10.0) == pytest.approx(3.5)
    assert attempts(Retries(base=0.5), deadline=14.0).pause(asked, 10.0) == pytest.approx(3.5)
    assert "deadline" in str(attempts(Retries(base=0.5), deadline=13.5).pause(asked, 10.0))
    long = Failed(Unavailable("no"), again=True, after=LONGEST_WAIT + 1)
    assert "asks to wait" in str(attempts(Retries()).pause(long, 0.0))
    assert attempts(Retries(), deadline=1000.0).pause(long, 0.0) == "the server asks to wait 61 s"


def test_a_refused_retry_costs_no_token() -> None:
    rules = Retries(reserve=1, per_second=0, budget=0)
    budget = Budget(rules, 0.0)
    assert isinstance(attempts(rules, budget=budget, deadline=0.01).pause(AGAIN, 0.0), str)
    assert isinstance(attempts(rules, budget=budget).pause(AGAIN, 0.0), float)
    assert "used up" in str(attempts(rules, budget=budget).pause(AGAIN, 0.0))


EVENTS = st.lists(
    st.tuples(st.floats(0, 0.5), st.integers(0, 3)),  # seconds since the last call, retries it would make
    max_size=200,
)


@given(EVENTS, st.floats(0, 1), st.floats(0, 20), st.floats(0, 3))
def test_no_stretch_of_time_has_more_retries_than_its_budget(
    events: list[tuple[float, int]], share: float, reserve: float, per_second: float
) -> None:
    rules = Retries(budget=share, reserve=reserve, per_second=per_second)
    budget = Budget(rules, 0.0)
    now = 0.0
    calls: list[tuple[float, int]] = []
    for passed, wanted in events:
        now += passed
        budget.deposit(now)
        calls.append((now, sum(budget.withdraw(now) for _ in range(wanted))))
    for first in range(0, len(calls), 7):
        for last in range(first, len(calls), 5):
            window = calls[first : last + 1]
            seconds = window[-1][0] - window[0][0]
            allowed = max(1.0, reserve) + share * len(window) + per_second * seconds
            assert sum(made for _, made in window) <= allowed + 1e-6


def test_a_failing_server_gets_at_most_a_fifth_more_in_the_long_run() -> None:
    rules = Retries(per_second=0)
    budget = Budget(rules, 0.0)
    made = 0
    for _ in range(10_000):
        budget.deposit(0.0)
        made += budget.withdraw(0.0) + budget.withdraw(0.0)
    assert 2000 <= made <= 2010


def test_a_quiet_client_may_still_retry_after_its_reserve_is_used_up() -> None:
    rules = Retries(per_second=1.0)
    budget = Budget(rules, 0.0)
    while budget.withdraw(0.0):
        pass
    assert not budget.withdraw(0.5)
    assert budget.withdraw(1.5) and not budget.withdraw(1.6)
    assert budget.withdraw(1.0) is False  # a clock that goes back gives nothing


@pytest.mark.parametrize("bad", [{"most": -1}, {"base": math.nan}, {"budget": math.inf}, {"longest": -0.1}])
def test_rules_that_make_no_sense_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=next(iter(bad))):
        Retries(**bad)  # type: ignore[arg-type]


STATUSES: dict[int, type[ModelportError]] = {
    302: UsageError,
    400: InputError,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    405: Unsupported,
    413: TooLarge,
    415: UnsupportedMedia,
    418: InputError,
    429: RateLimited,
    500: ModelFailed,
    501: Unsupported,
    502: Unavailable,
    503: Unavailable,
    504: DeadlineExceeded,
}


@pytest.mark.parametrize("status", STATUSES)
def test_each_status_is_its_error_and_only_two_are_repeated(status: int) -> None:
    failed = failed_status(status, b'{"error": "the words"}', "POST /x", retry_after="2")
    assert type(failed.error) is STATUSES[status]
    assert status == 302 or failed.error.message == "the words"
    assert failed.again == (status in (429, 503))
    assert failed.after == (2.0 if failed.again else None)
    if isinstance(failed.error, Unavailable):
        assert failed.error.retry_after == 2.0


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"error": "why"}', "why"),
        (b'{"error": 5}', "POST /x: the server answered 400 without saying why"),
        (b'["error"]', "without saying why"),
        (b"plain words\n", "plain words"),
        (b"<html>nginx</html>", "without saying why"),
        (b"", "without saying why"),
        (b"\xff\xfe", "\ufffd"),
        (b'{"error": "' + b"x" * 9000 + b'"}', "x" * 2000),
    ],
)
def test_the_servers_words_are_kept(body: bytes, words: str) -> None:
    message = failed_status(400, body, "POST /x").error.message
    assert words in message and len(message) <= 2000


def test_retry_after_in_both_its_forms_and_in_none() -> None:
    assert seconds_of("7") == 7.0 and seconds_of("0.5") == 0.5 and seconds_of("-3") == 0.0
    for nonsense in (None, "soon", "nan", "inf", "1e99", ""):
        assert seconds_of(nonsense) is None
    date = datetime.now(UTC) + timedelta(seconds=30)
    assert 25 < (seconds_of(format_datetime(date, usegmt=True)) or 0) < 31
    assert seconds_of("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
