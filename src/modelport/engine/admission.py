"""Whether a request can be answered in time, by what runs have cost so far. Pure: times are the caller's."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..errors import DeadlineExceeded, ModelportError, QueueFull

CAUTION = 1.15
"""Half of all runs take longer than the average, and an answer that is just late is worth nothing."""
TRANSIT = 0.002
"""Seconds for the reply to be written and read."""
_TRIES = 5.0
"""Where nothing is in time, one request is run all the same in so many times what it costs: what is never run
is never found to be quicker by now."""


class Tries:
    """Requests that seem too late and are run all the same, where nothing waits and nothing runs.

    What runs cost was measured when the machine was busier, perhaps. Finding out takes a fifth of the time at
    most.
    """

    def __init__(self) -> None:
        self._next = -math.inf

    def due(self, now: float, deadline: float, estimate: float) -> bool:
        """Whether this one is run.

        Args:
            estimate: seconds that it takes by what was measured last.
        """
        # One that has not even the time for its reply would be late, however quick the run is.
        if deadline <= now + TRANSIT or now < self._next:
            return False
        self._next = now + _TRIES * estimate
        return True


def refusal(now: float, deadline: float, until: float, before: float) -> tuple[str, ModelportError]:
    """Why a request is refused, as metrics count it and as its caller is told.

    Args:
        until: seconds until it would have been answered.
        before: of them those of what is to be run first.
    """
    if deadline <= now:
        return "deadline", DeadlineExceeded("the deadline passed before the request came to the queue")
    left, after = (deadline - now) * 1e3, retry_after(before)
    by_itself = until - before * CAUTION
    if by_itself > deadline - now:
        slow = f"it takes {by_itself * 1e3:.0f} ms by itself, and its deadline is in {left:.0f} ms"
        return "too_slow", QueueFull(slow, retry_after=after)
    late = f"it would be answered in {until * 1e3:.0f} ms, and its deadline is in {left:.0f} ms"
    return "overload", QueueFull(late, retry_after=after)


def retry_after(before: float) -> float:
    """Seconds after which a refused caller may come back: when what is there now is through."""
    return max(0.05, before)


def warning(costs: Sequence[tuple[int, float]], slo: float) -> str:
    """What is to be said of a model that cannot be in time; empty where it can, or nothing is known.

    Args:
        costs: (rows, seconds) of the network's trial runs.
        slo: seconds; 0 for none.
    """
    alone = min((seconds for rows, seconds in costs if rows == 1), default=0.0)
    if not slo or alone <= slo:
        return ""
    takes = f"one item takes {alone * 1e3:.0f} ms in the network alone"
    return f"{takes}, and its answer is due in {slo * 1e3:g} ms: most will be refused"
