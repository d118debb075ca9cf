"""Whether a failed call is made again, and after how long. No clock, no sleep: both are the caller's.

The pause before attempt k is drawn evenly from 0 to min(longest, base · 2^k) (exponential back-off with
full jitter; Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015), after what the server
asked for with Retry-After.

Retries of all calls together are paid from one token bucket, so that a client does not multiply the load of
a server that is failing: every call puts in `budget` tokens, every second `per_second`, every retry takes
one, and no more than `reserve` (at least 1) are kept:

    retries in any stretch of T seconds with N calls  <=  reserve + budget · N + per_second · T

(Finagle's RetryBudget, 20 % of the calls on top of a steady minimum, https://finagle.github.io/blog/2016/
02/08/retry-budgets/; gRPC's retry throttling, proposal A6, is the same idea.)
"""

from __future__ import annotations

import math
import random
import threading

import msgspec

from ..errors import UsageError
from .failures import Failed

LONGEST_WAIT = 60.0
"""Seconds of Retry-After that a call without a deadline waits for; asked for longer it gives up."""


class Retries(msgspec.Struct, frozen=True, kw_only=True):
    """How often a call is repeated, and how the pauses grow."""

    most: int = 2
    """Further attempts of one call."""
    base: float = 0.05
    """Seconds; the first pause is at most this long."""
    longest: float = 2.0
    """Seconds; no pause is longer, but for what the server asks for."""
    budget: float = 0.2
    """Retries for each call, over all calls of the client."""
    reserve: float = 10.0
    """Retries that may be made at once on top."""
    per_second: float = 1.0
    """Retries that a client may make in each second, however few calls it makes."""

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise UsageError(f"Retries({name}={value!r}): expected a number that is not negative")


class Budget:
    """The tokens that retries are paid with; safe to share between threads."""

    def __init__(self, rules: Retries, now: float) -> None:
        self._rules = rules
        self._tokens = rules.reserve
        self._filled = now
        self._lock = threading.Lock()

    def deposit(self, now: float) -> None:
        """A call begins."""
        with self._lock:
            self._fill(now, self._rules.budget)

    def withdraw(self, now: float) -> bool:
        """Pay for one retry; False if there is nothing to pay with."""
        with self._lock:
            self._fill(now, 0.0)
            if self._tokens < 1.0:
                return False
            self._tokens -= 1.0
            return True

    def _fill(self, now: float, extra: float) -> None:
        earned = max(0.0, now - self._filled) * self._rules.per_second
        self._filled = max(now, self._filled)
        self._tokens = min(max(1.0, self._rules.reserve), self._tokens + earned + extra)


class Attempts:
    """The attempts of one call."""

    def __init__(self, rules: Retries, budget: Budget, deadline: float, draw: random.Random) -> None:
        self.made = 1
        self._rules = rules
        self._budget = budget
        self._deadline = deadline
        self._draw = draw

    def pause(self, failed: Failed, now: float) -> float | str:
        """Seconds to wait before the next attempt, or why there is none."""
        if not failed.again:
            return "a request that failed like this is not repeated"
        if self.made > self._rules.most:
            return f"retries={self._rules.most} allows no more"
        grown = self._rules.base * 2.0 ** min(self.made - 1, 64)
        wait = self._draw.uniform(0.0, min(self._rules.longest, grown))
        asked = failed.after or 0.0
        if now + asked + wait >= self._deadline:
            return f"the next one would be {asked + wait:.2g} s from now, after the deadline"
        if asked > LONGEST_WAIT:
            return f"the server asks to wait {asked:g} s"
        if not self._budget.withdraw(now):
            return f"the budget of retries, {self._rules.budget:.0%} of the calls, is used up"
        self.made += 1
        return asked + wait
