"""What the blocking and the asyncio client share: which calls there are, and one call's way to its answer.

A call is a loop of attempts that is the same in both but for how one attempt is made and how a pause is
spent; `Journey` decides everything else. No I/O.
"""

from __future__ import annotations

import math
import random
import time
from typing import Generic, TypeVar

from ..errors import InputError, ModelportError, NotFound, Unavailable
from .calls import Call, Calls
from .failures import Busy, Failed, too_late
from .oip import HttpCalls
from .retry import Attempts, Budget
from .settings import Settings, Timeout

T = TypeVar("T")


class Core:
    """A client's settings, its calls, and the budget of its retries."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.calls: Calls
        if settings.address.scheme in ("http", "https"):
            self.calls = HttpCalls(settings)
        else:
            from .grpc_oip import GrpcCalls

            self.calls = GrpcCalls(settings)
        self.budget = Budget(settings.retries, time.monotonic())
        self.draw = random.Random()

    def begin(self, call: Call[T], timeout: Timeout) -> Journey[T]:
        """Start the clock of one call."""
        now = time.monotonic()
        self.budget.deposit(now)
        return Journey(self, call, self.settings.seconds(timeout), now)


class Journey(Generic[T]):
    """One call on its way: its deadline, its attempts, and what becomes of a failure."""

    __slots__ = ("_attempts", "_began", "_call", "_core", "_seconds", "deadline")

    def __init__(self, core: Core, call: Call[T], seconds: float | None, now: float) -> None:
        self._core = core
        self._call = call
        self._seconds = seconds
        self._began = now
        self._attempts: Attempts | None = None
        self.deadline = math.inf if seconds is None else now + seconds
        """On time.monotonic's clock."""

    def request(self) -> object:
        """What to send for the next attempt: the time that is left is in it."""
        if self._seconds is None:
            return self._call.write(None)
        return self._call.write(max(0.0, self.deadline - time.monotonic()))

    def answer(self, reply: object) -> T:
        """The value that a reply holds.

        Raises:
            Failed: it is a refusal. BadReply: it is nonsense.
        """
        return self._call.read(reply, time.monotonic() - self._began)

    def after(self, failed: Failed | TimeoutError) -> float | ModelportError:
        """Seconds to wait before the next attempt, or the error that ends the call."""
        failed = self._known(failed)
        if self._attempts is None:
            core = self._core
            self._attempts = Attempts(core.settings.retries, core.budget, self.deadline, core.draw)
        pause = self._attempts.pause(failed, time.monotonic())
        if isinstance(pause, float):
            return pause
        error = failed.error
        if failed.again:
            took = time.monotonic() - self._began
            made = self._attempts.made
            error.add_note(f"{made} attempt{'s' * (made > 1)} in {took:.2f} s; {pause}")
        error.__cause__ = failed.__cause__
        return error

    def unready(self, failed: Failed | TimeoutError) -> ModelportError:
        """The error of a question whether something is ready, if all it means is: no.

        Raises:
            ModelportError: it means something else (no key, say).
        """
        known = self._known(failed)
        # 404: it is not there. 400: Triton's "Model version not ready".
        if isinstance(known.error, Unavailable | NotFound | InputError):
            return known.error
        raise known.error from known.__cause__

    def _known(self, failed: Failed | TimeoutError) -> Failed:
        if isinstance(failed, Failed):
            return failed
        why = str(failed) if isinstance(failed, Busy) else ""
        return too_late(self._call.about, self._seconds or math.inf, why)
