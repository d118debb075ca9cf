"""How long a search has been at it, and how long it will be: what progress shows and the budget bounds."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

SHARE_OF_MAKING = 0.75
"""Of the time budget without what is kept for other machines; the rest is for measuring, where that takes as
much."""
TRYING = 30.0
"""Seconds that are for making until something passes, however slow measuring is; of a smaller budget half."""

SPENT = "the time budget was spent"


class Told(msgspec.Struct, frozen=True):
    """What is being done now."""

    text: str
    done: int
    """Steps that are over."""
    of: int
    """Steps in all, as far as is known."""
    left: float
    """Seconds of the budget that are left; steps differ too much for those so far to tell the others."""
    lasting: bool = False
    """Whether it is to be read later as well: no step, but something to know."""


Tell = Callable[[Told], None]


def silent(told: Told) -> None:
    """Nobody is told."""


class Clock:
    """The time of one search.

    Args:
        seconds: the budget.
        tell: told at each step.
        kept: of the budget, for what comes after the measuring.
    """

    def __init__(self, seconds: float, tell: Tell, kept: float = 0.0) -> None:
        self._seconds, self._tell, self._kept = seconds, tell, kept
        self._begun = time.monotonic()
        self._done, self._of = 0, 1
        self._last, self._longest = 0.0, 0.0
        self._behind = (1 - SHARE_OF_MAKING) * (seconds - kept) + kept

    @property
    def spent(self) -> float:
        """Seconds since the search began."""
        return time.monotonic() - self._begun

    @property
    def left(self) -> float:
        """Seconds of the budget; not below 0."""
        return max(0.0, self._seconds - self.spent)

    @property
    def over(self) -> bool:
        """Whether nothing further is to be made: a step like the longest would take from the measuring."""
        return self.spent + self._longest > self._seconds - self._behind

    @property
    def late(self) -> str:
        """Why nothing further is made, where it is `over`."""
        if self.left <= 0:
            return SPENT
        kept = min(self._behind, self._seconds)
        return f"the last {kept:.0f} s of the time budget are kept for measuring"

    def keep(self, least: float, enough: float, *, passed: bool) -> None:
        """Keep of the budget what measuring takes: the usual share where that is not enough.

        Args:
            least: seconds that measuring takes at least.
            enough: with more it is over.
            passed: whether anything did: else the other machines are not asked, and nothing is kept for them,
                nor so much for measuring that there is no time to find something.
        """
        after = self._kept if passed else 0.0
        if not passed:
            least = min(least, max(self._seconds / 2, self._seconds - TRYING))
        share = (1 - SHARE_OF_MAKING) * (self._seconds - after)
        self._behind = max(least, min(share, enough)) + after

    @property
    def left_to_measure(self) -> float:
        """Seconds of the budget without what is kept; not below 0."""
        return max(0.0, self.left - self._kept)

    def expect(self, steps: int) -> None:
        """So many more steps will come."""
        self._of += steps

    def say(self, text: str, *, lasting: bool = False) -> None:
        """What is being done now, within a step; or, lasting, what is to be known."""
        self._tell(Told(text, self._done, self._of, round(self.left, 1), lasting))

    def once(self, seconds: float) -> None:
        """So much of the step that runs now is done for all of them, and says nothing of the next ones."""
        self._last += seconds

    def step(self) -> None:
        """A step is over."""
        now = self.spent
        took, self._last = now - self._last, now
        self._longest = max(self._longest, took)
        self._done += 1
        self._of = max(self._of, self._done)
