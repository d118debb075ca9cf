"""Calls timed stage by stage, all configurations by turns: what disturbs one round disturbs all of them.

A round gives every configuration one turn, in an order that is drawn anew. A turn is some calls one after the
other, each from encoded items to answers. Where a network of so many threads leaves cores idle, a second turn
runs as many calls at a time as fill them; that is the throughput.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import msgspec
import numpy as np

from ...bundle.store import Bundle
from ...errors import ModelportError
from ...runtimes.form import Form
from ...runtimes.pipeline import Pipeline
from ...tensors import Array
from ..stages import settle, staged

ROUNDS = 15
"""Rounds that are aimed at: turns are made shorter for them, down to one call."""
LEAST_ROUNDS = 5
"""Fewer say little of how far the figures would move; they may take twice the time for it."""
MOST_ROUNDS = 400
TURN = 0.1
"""Seconds of a turn, at most, where a call is shorter."""
MOST_CALLS = 100
"""Calls of a turn."""
COLD = 0.05
"""Seconds of a call below which a turn begins with one that is not counted: others had the caches."""

Tick = Callable[[str, int, int], None]
"""Told what is being done, how many steps of it are over, and of how many."""
Stopped = Callable[[], bool]


class Configuration(msgspec.Struct, frozen=True):
    """What is measured: a form, its threads, and a batch size."""

    form: int
    """Its place among the forms."""
    threads: int
    batch: int
    callers: int
    """Calls at a time where throughput is measured."""


class Times(msgspec.Struct, frozen=True, eq=False):
    """Of one configuration."""

    stages: Array
    """float64[rounds, calls, 4]: seconds of decode, pre, net, post."""
    rates: Array
    """float64[rounds]: items a second."""

    @property
    def calls(self) -> Array:
        """float64[rounds, calls]: seconds from encoded items to answers."""
        return np.asarray(self.stages.sum(axis=-1))


class Measured(msgspec.Struct, frozen=True, eq=False):
    """All that was timed."""

    times: dict[Configuration, Times]
    failed: dict[Configuration, str]
    """Why a configuration does not run."""
    parts: dict[Configuration, int]
    """Runs of the network that a batch became, since its items' tensors have several shapes."""
    rounds: int
    seconds: float


class Turns:
    """Forms of a bundle, loaded when they are first measured; close it, or use it in a `with` block."""

    def __init__(self, bundle: Bundle, forms: Sequence[Form], items: Sequence[bytes], seed: int) -> None:
        self._bundle = bundle
        self._forms = forms
        self._items = items
        self._random = np.random.default_rng(seed)
        self._opened = contextlib.ExitStack()
        self._pipelines: dict[tuple[int, int], list[Pipeline]] = {}
        self._pool: ThreadPoolExecutor | None = None
        self._plans: dict[Configuration, _Plan] = {}

    def __enter__(self) -> Turns:
        return self

    def __exit__(self, *raised: object) -> None:
        self._opened.close()

    def measure(
        self, configurations: Sequence[Configuration], seconds: float, tick: Tick, stopped: Stopped
    ) -> Measured:
        """Round after round, for about so many seconds; a round that was not finished does not count.

        Args:
            configurations: at least one.
            seconds: of measuring; loading and warming up come before.
            tick: told how far it is.
            stopped: asked before every turn.
        """
        took, failed, parts = self._warmed(configurations, tick, stopped)
        kept = list(took)
        rounds = self._planned(took, seconds)
        turns = self._turns(kept)
        found: list[dict[Configuration, tuple[Array, float]]] = []
        begun = time.perf_counter()
        for number in range(rounds if kept else 0):
            if time.perf_counter() - begun > 2 * seconds and number >= 2:
                break  # another program takes the cores, or there is too much to measure
            told = partial(_told, tick, number * len(turns), rounds * len(turns))
            whole = self._round(turns, number, told, stopped)
            if whole is None:
                break
            found.append(whole)
        times = {
            each: Times(np.array([one[each][0] for one in found]), np.array([one[each][1] for one in found]))
            for each in kept
            if found
        }
        return Measured(times, failed, parts, len(found), time.perf_counter() - begun)

    def _warmed(
        self, configurations: Sequence[Configuration], tick: Tick, stopped: Stopped
    ) -> tuple[dict[Configuration, float], dict[Configuration, str], dict[Configuration, int]]:
        """Seconds of a call of each configuration, why others do not run, and `Measured.parts`."""
        took: dict[Configuration, float] = {}
        failed: dict[Configuration, str] = {}
        parts: dict[Configuration, int] = {}
        for place, each in enumerate(configurations):
            if stopped():
                break
            tick("loading", place, len(configurations))
            try:
                for pipeline in self._lane(each):
                    staged(pipeline, self._taken(0, each.batch))
                answers, seconds = staged(self._lane(each)[0], self._taken(0, each.batch))
            except ModelportError as problem:
                failed[each] = str(problem)
                continue
            took[each], parts[each] = float(seconds.sum()), len(answers)
        return took, failed, parts

    def _planned(self, took: Mapping[Configuration, float], seconds: float) -> int:
        """The number of rounds; how many calls each turn has is kept."""
        turns = self._turns(list(took))
        wanted = min(TURN, seconds / (ROUNDS * max(1, len(turns))))
        for each, call in took.items():
            calls = min(MOST_CALLS, max(1, math.ceil(wanted / call)))
            self._plans[each] = _Plan(calls, warm=call < COLD)
        whole = sum(took[each] * (self._plans[each].calls + self._plans[each].warm) for each, _ in turns)
        return min(MOST_ROUNDS, max(LEAST_ROUNDS, int(seconds / whole))) if whole else 0

    def _turns(self, configurations: Sequence[Configuration]) -> list[tuple[Configuration, bool]]:
        """Every turn of a round; True for those that fill the cores."""
        full = [(each, True) for each in configurations if each.callers > 1]
        return [(each, False) for each in configurations] + full

    def _round(
        self,
        turns: Sequence[tuple[Configuration, bool]],
        number: int,
        tick: Callable[[int], None],
        stopped: Stopped,
    ) -> dict[Configuration, tuple[Array, float]] | None:
        """All turns in an order drawn anew; None where it was stopped."""
        stages: dict[Configuration, Array] = {}
        rates: dict[Configuration, float] = {}
        for count, place in enumerate(self._random.permutation(len(turns)), 1):
            if stopped():
                return None
            each, full = turns[place]
            if full:
                rates[each] = self._full_turn(each, number)
            else:
                stages[each] = self._turn(each, number)
            tick(count)
        alone = {each: each.batch * len(own) / float(own.sum()) for each, own in stages.items()}
        return {each: (own, rates.get(each, alone[each])) for each, own in stages.items()}

    def _turn(self, each: Configuration, number: int) -> Array:
        """Calls one after the other: float64[calls, 4]."""
        pipeline, plan = self._lane(each)[0], self._plans[each]
        if plan.warm:
            staged(pipeline, self._taken(number, each.batch))
        return np.array(
            [staged(pipeline, self._taken(number + call, each.batch))[1] for call in range(plan.calls)]
        )

    def _full_turn(self, each: Configuration, number: int) -> float:
        """Items a second with as many calls at a time as `callers`."""
        pipelines, plan = self._lane(each), self._plans[each]
        if self._pool is None:
            self._pool = self._opened.enter_context(ThreadPoolExecutor())

        def job(pipeline: Pipeline) -> None:
            for call in range(plan.calls):
                staged(pipeline, self._taken(number + call, each.batch))

        if plan.warm:
            list(self._pool.map(lambda own: staged(own, self._taken(number, each.batch)), pipelines))
        begun = time.perf_counter()
        list(self._pool.map(job, pipelines))
        return plan.calls * len(pipelines) * each.batch / (time.perf_counter() - begun)

    def _taken(self, number: int, batch: int) -> list[bytes]:
        """The items of a call: the same for every form in a round."""
        first = number * batch
        return [self._items[(first + place) % len(self._items)] for place in range(batch)]

    def _lane(self, each: Configuration) -> list[Pipeline]:
        """The pipelines of a form with so many threads, one for each caller."""
        own = self._pipelines.setdefault((each.form, each.threads), [])
        form = self._forms[each.form]
        while len(own) < each.callers:
            pipeline = Pipeline.open(
                self._bundle,
                threads=each.threads,
                runtime=form.runtime,
                settings=form.settings,
                variant=form.variant,
            )
            own.append(self._opened.enter_context(pipeline))
            settle(pipeline, self._items)
        return own


def _told(tick: Tick, before: int, whole: int, turn: int) -> None:
    tick("measuring", before + turn, whole)


class _Plan(msgspec.Struct, frozen=True):
    calls: int
    """Of a turn."""
    warm: bool
    """Whether a call that is not counted comes first."""
