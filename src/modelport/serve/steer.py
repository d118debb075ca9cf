"""Rollouts at work: the version that answers a caller, what is seen of it, and the shadow beside it.

Between `Traffic`, which decides, and the engine, which asks: for every dialect alike.
"""

from __future__ import annotations

import asyncio
import logging

from ..engine.caller import caller
from ..engine.model import LiveModel
from ..engine.repository import Repository
from ..engine.submission import Result, Submission
from ..engine.traffic import Traffic
from ..errors import ModelportError, NotFound
from ..rollout.compare import Comparison, compare

log = logging.getLogger("modelport.rollout")

_LARGE = 16 << 10
"""Bytes of an answer: to compare a larger one may take a millisecond and more."""


class Steering:
    """Connects a repository to its rollouts."""

    def __init__(self, repository: Repository, traffic: Traffic) -> None:
        self._repository = repository
        self._traffic = traffic
        repository.choose = self.choose
        repository.also_wanted = self.wanted
        repository.on_ready = self.watch

    def choose(self, name: str) -> str | None:
        """The version that a bare name means for the request at hand; chosen once for a request."""
        if name not in self._traffic:
            return None
        asking = caller.get()
        if asking is None:
            return self._traffic.stable(name)
        if asking.chosen is None:
            asking.chosen = {}
        chosen = asking.chosen.get(name)
        if chosen is None:
            chosen = asking.chosen[name] = self._traffic.route(name, asking, asking.address, asking.place)
        return chosen[0]

    def wanted(self, name: str) -> list[str]:
        """The versions that a model's plan names."""
        return self._traffic.wanted(name)

    def watch(self, model: LiveModel) -> None:
        """Look at every submission of a version that was loaded."""
        model.mirror = self.mirror

    def mirror(self, submission: Submission, model: LiveModel) -> None:
        """Observe a submission where a plan sent it, and ask the shadow the same."""
        name = model.name
        if name not in self._traffic:
            return
        asking = caller.get()
        chosen = asking.chosen.get(name) if asking is not None and asking.chosen else None
        if chosen is None or chosen[0] not in (None, model.version):
            return  # asked for by its version: that says nothing of the rollout
        pair = self._shadowed(submission, name, chosen[1]) if chosen[1] else None

        def seen(result: Result | Exception) -> None:
            if isinstance(result, Result):
                self._traffic.observe(name, model.version, True, result.seconds)
            elif isinstance(result, ModelportError) and result.http_status == 500:
                self._traffic.observe(name, model.version, False, 0.0)
            if pair is not None:
                pair.first(result)

        submission.watch = seen

    def _shadowed(self, submission: Submission, name: str, version: str) -> _Pair | None:
        """Ask the shadow version the same, where that is loaded by now."""
        try:
            shadow = self._repository.entry(name, version).model
        except NotFound:
            return None
        if shadow is None:
            return None
        pair = _Pair(self._traffic, name)
        lane = shadow.lane(submission.lane.kind, submission.lane.tensors)
        # Bytes of its own: the caller's memory is gone when the caller has its answer.
        data = [bytes(each) for each in submission.data]
        offered = {option.name for option in shadow.bundle.manifest.options}
        options = {name: value for name, value in (submission.options or {}).items() if name in offered}
        until = submission.deadline + 5.0
        asked = pair.asked = shadow.submit(
            lane,
            submission.rows,
            data,
            pair.second,
            deadline=until,
            options=options or None,
            shapes=submission.shapes,
        )
        shadowed = shadow.metrics.shadowed
        if asked.cancelled:  # settled at once: it was refused
            shadowed(None)
        else:
            asked.watch = lambda result: shadowed(result.seconds if isinstance(result, Result) else None)
        return pair


class _Pair:
    """An answer and its shadow's, compared when both are there."""

    def __init__(self, traffic: Traffic, name: str) -> None:
        self._traffic = traffic
        self._name = name
        self._answer: Result | None = None
        self._shadow: Result | Exception | None = None
        self.asked: Submission | None = None
        """What the shadow was given."""

    def first(self, result: Result | Exception) -> None:
        """The answer, which the caller got; without one there is nothing to compare with, nor to compute."""
        if isinstance(result, Result):
            self._answer = result
            self._compare()
        elif self.asked is not None:
            self.asked.cancelled = True

    def second(self, result: Result | Exception) -> None:
        """The shadow's."""
        self._shadow = result
        self._compare()

    def _compare(self) -> None:
        answer, shadow = self._answer, self._shadow
        if answer is None or shadow is None:
            return
        if isinstance(shadow, Result) and _size(answer) > _LARGE:
            # The loop has other callers to look after meanwhile.
            working = asyncio.get_running_loop().run_in_executor(None, _compared, answer, shadow)
            working.add_done_callback(
                lambda done: self._traffic.record(self._name, done.result(), answer.seconds, shadow.seconds)
            )
        elif isinstance(shadow, Result):
            self._traffic.compared(
                self._name, answer.arrays(), shadow.arrays(), answer.seconds, shadow.seconds
            )
        elif isinstance(shadow, ModelportError) and shadow.http_status in (400, 500):
            self._traffic.record(self._name, None, answer.seconds, 0.0)


def _size(result: Result) -> int:
    """Bytes of an answer."""
    return sum(head.size for head in result.heads) * result.rows // result.run.rows


def _compared(answer: Result, shadow: Result) -> Comparison:
    return compare(answer.arrays(), shadow.arrays())
