"""Rollouts of a running server: who answers, what was seen of it, and what its policy makes of that.

Belongs to one event loop; every call returns at once, but for the rare write of a changed state. The
decisions are in `rollout`: this module keeps the figures, asks `judge` and writes what it says.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from ..errors import ModelportError, NotFound, Unavailable
from ..rollout import change as changes
from ..rollout.change import By, Conflict, State
from ..rollout.choose import Headers, choose, listener, sticky_key
from ..rollout.compare import Comparison, compare
from ..rollout.figures import Compared
from ..rollout.judge import Action, Decision, Evidence, judge
from ..rollout.plan import Plan
from ..rollout.ports import Metrics, VersionMetrics, Versions
from ..rollout.report import Report, last_look, report
from ..rollout.state import Stamp, change, load, stamp
from ..rollout.step import Step
from ..rollout.wanted import check_versions
from ..tensors import Tensors

log = logging.getLogger("modelport.rollout")


class _Bundled(Protocol):
    @property
    def path(self) -> Path: ...


class _Entry(Protocol):
    @property
    def bundle(self) -> _Bundled: ...

    @property
    def model(self) -> object | None: ...


class _Repository(Protocol):
    def names(self) -> list[str]: ...

    def versions(self, name: str) -> list[str]: ...

    def entry(self, name: str, version: str | None = None) -> _Entry: ...


class RepositoryVersions:
    """The models of a `Repository`; a rollout is kept beside the newest version of its model."""

    def __init__(self, repository: _Repository) -> None:
        self._repository = repository
        self.names = repository.names
        self.versions = repository.versions

    def ready(self, name: str, version: str) -> bool:
        """Whether the version is loaded."""
        try:
            return self._repository.entry(name, version).model is not None
        except NotFound:
            return False

    def folder(self, name: str) -> Path:
        """`REPO/NAME`; raises NotFound."""
        return self._repository.entry(name, self.versions(name)[-1]).bundle.path.parent


_GAUGES = ("canary_weight", "shadow_agreement", "shadow_max_difference", "shadow_latency")


class Traffic:
    """The rollouts of one server process.

    Args:
        versions: the models that it has.
        metrics: where gauges and counts go.
        draw: chance, evenly over [0, 1).
        judges: processes that serve the same models side by side; each judges what it sees itself.
    """

    def __init__(
        self,
        versions: Versions,
        *,
        metrics: Metrics | None = None,
        draw: Callable[[], float] = random.random,
        judges: int = 1,
    ) -> None:
        self.versions = versions
        self.judges = judges
        self._metrics = metrics
        self._draw = draw
        self._live: dict[str, Step] = {}
        self._stamps: dict[str, Stamp | None] = {}
        self._states: dict[str, State] = {}
        self._problems: dict[str, str] = {}
        self._now = 0.0
        """When `tick` was called last, in seconds since 1970."""

    def __contains__(self, name: str) -> bool:
        """Whether a model has a plan; where it has none, `route` need not be asked."""
        return name in self._live

    def route(
        self, name: str, headers: Headers, client: str | None, place: float | None = None
    ) -> tuple[str | None, str | None]:
        """The version that answers and the one to ask too; (None, None): the newest version, and nobody.

        A version that is not ready is passed over: the stable one answers for the canary, and the newest
        for the stable one.

        Args:
            headers: anything with `.get(lower-case name)`.
            client: the address the request comes from.
            place: in [0, 1), instead of chance, of one that the plan keeps by no key.
        """
        live = self._live.get(name)
        if live is None:
            return None, None
        plan, draw, ready = live.plan, self._draw, self.versions.ready
        key = sticky_key(plan.canary, headers, client)
        version = choose(plan, key=key, headers=headers, draw=draw() if place is None else place)
        if not ready(name, version):
            version = plan.stable
            if not ready(name, version):
                return None, None
        if plan.shadow is None:
            return version, None
        shadow = listener(plan, version, draw())
        return version, shadow if shadow is not None and ready(name, shadow) else None

    def stable(self, name: str) -> str | None:
        """The version that a bare name means where no request is at hand; None for the newest."""
        live = self._live.get(name)
        if live is None or not self.versions.ready(name, live.plan.stable):
            return None
        return live.plan.stable

    def wanted(self, name: str) -> list[str]:
        """The versions that a model's plan names, and the one that it may go back to: they have to be loaded.

        Of a model that was not here before, the plan is read first: what a server loads when it starts is
        what the plan of the last one needs.
        """
        if name not in self._stamps:
            self.look(name)
        state = self._states.get(name)
        if state is None or state.plan is None:
            return []
        return [*dict.fromkeys((*state.plan.versions, *changes.returnable(state, self._now)))]

    def observe(self, name: str, version: str, ok: bool, seconds: float) -> None:
        """One request that `route` sent was answered by `version`, or failed by no fault of its caller.

        A request that was refused before it ran (malformed, too late, the queue full) is not counted.
        """
        live = self._live.get(name)
        if live is not None:
            live.add(version, ok, seconds)

    def compared(
        self,
        name: str,
        answer: Tensors,
        shadow_answer: Tensors | None,
        seconds: float,
        shadow_seconds: float,
    ) -> None:
        """The shadow answered too, or failed (None); for large answers see `record`."""
        comparison = None if shadow_answer is None else compare(answer, shadow_answer)
        self.record(name, comparison, seconds, shadow_seconds)

    def record(self, name: str, comparison: Comparison | None, seconds: float, shadow_seconds: float) -> None:
        """The same with the comparison made elsewhere: `rollout.compare.compare` may run in any thread."""
        live = self._live.get(name)
        if live is None or live.plan.shadow is None:
            return
        live.compare(comparison, seconds, shadow_seconds)
        # A version that is gone by now has no counts any more, and gets none.
        if self._metrics is not None and self.versions.ready(name, live.plan.shadow.version):
            word = "failed" if comparison is None else "agreed" if comparison.agree else "differed"
            self._metrics(name, live.plan.shadow.version).count(f"shadow_{word}")

    def tick(self, now: float) -> None:
        """Take over what changed on disk, let the policies judge, and set the gauges. About once a second.

        Args:
            now: seconds since 1970.
        """
        self._now = now
        self.reload()
        for name, live in list(self._live.items()):
            live.turn(now)
            if live.plan.policy is not None:
                self._judge(name, live, now)
        for name, live in self._live.items():
            self._set_gauges(name, live)

    def reload(self) -> None:
        """Read every rollout that changed on disk.

        A file that cannot be read leaves what there was, and where there was nothing the newest version
        answers; `report` says so either way.
        """
        names = self.versions.names()
        for name in (self._stamps.keys() | self._states.keys()).difference(names):
            self._forget(name)
        for name in names:
            self.look(name)

    def look(self, name: str) -> None:
        """Read one model's rollout if it changed on disk, or was never read. Raises NotFound."""
        folder = self.versions.folder(name)
        found = stamp(folder)
        if name in self._stamps and found == self._stamps[name]:
            return
        self._stamps[name] = found
        try:
            state = load(folder) or State()
        except ModelportError as problem:
            self._problems[name] = str(problem)
            log.error("rollout of %s: %s", name, problem)
            return
        self._problems.pop(name, None)
        self._adopt(name, state)

    def report(self, name: str) -> Report:
        """A model's rollout as it is shown.

        Raises:
            NotFound: no such model.
        """
        versions = self.versions.versions(name)
        live = self._live.get(name)
        problems = [self._problems[name]] if name in self._problems else []
        if live is not None:
            for version in live.plan.versions:
                if not self.versions.ready(name, version):
                    problems.append(f"version {version} is not ready")
        return report(
            name,
            versions,
            self._states.get(name, State()),
            problem="; ".join(problems),
            seen=live.rows() if live is not None else (),
            last=live.last if live is not None else None,
        )

    def put(
        self, name: str, plan: Plan, *, now: float, by: By = "api", reason: str = "", seen: int | None = None
    ) -> None:
        """Set a plan.

        Args:
            seen: the revision that the caller has looked at; None for any.

        Raises:
            NotFound: no such model or version. Conflict: the revision is another one by now.
            Unsupported: the folder cannot be written. BundleError: the file there is damaged.
        """
        check_versions(plan, self.versions.versions(name))
        self._change(name, lambda state: changes.set_plan(state, plan, now=now, by=by, reason=reason), seen)

    def promote(
        self, name: str, *, now: float, by: By = "api", reason: str = "", seen: int | None = None
    ) -> None:
        """Make the candidate the stable version; raises as `put`, and UsageError where there is none."""
        self._change(name, lambda state: changes.promote(state, now=now, by=by, reason=reason), seen)

    def rollback(
        self, name: str, *, now: float, by: By = "api", reason: str = "", seen: int | None = None
    ) -> None:
        """Drop the candidate, or undo the last promotion; raises as `put`, and UsageError."""
        self._change(name, lambda state: changes.rollback(state, now=now, by=by, reason=reason), seen)

    def clear(
        self, name: str, *, now: float, by: By = "api", reason: str = "", seen: int | None = None
    ) -> None:
        """Let the newest version answer; a damaged file is put aside. Raises as `put`."""
        self._change(name, lambda s: changes.clear(s, now=now, by=by, reason=reason), seen, over_damage=True)

    def _change(
        self,
        name: str,
        edit: Callable[[State], State],
        expected: int | None = None,
        *,
        patience: float = 1.0,
        over_damage: bool = False,
    ) -> None:
        folder = self.versions.folder(name)
        state = change(folder, edit, expected=expected, patience=patience, over_damage=over_damage)
        self._problems.pop(name, None)
        self._adopt(name, state)

    def _adopt(self, name: str, state: State) -> None:
        """Go by a state from now on; the step begins anew if it is another one."""
        if state == self._states.get(name):
            return
        if state.history:
            level = logging.WARNING if changes.sent_back(state) else logging.INFO
            log.log(level, "rollout of %s: %s", name, changes.told(state))
        self._states[name] = state
        old = self._live.pop(name, None)
        if old is not None:
            self._clear_gauges(name, old.plan)
        if state.plan is None:
            return
        baseline = state.baseline
        if baseline is None and old is not None and old.plan.versions == state.plan.versions:
            baseline = old.stable_so_far()
        self._live[name] = Step(state, state.plan, baseline)

    def _forget(self, name: str) -> None:
        """A model that is no longer here."""
        live = self._live.pop(name, None)
        if live is not None:
            self._clear_gauges(name, live.plan)
        self._stamps.pop(name, None)
        self._states.pop(name, None)
        self._problems.pop(name, None)

    def _judge(self, name: str, live: Step, now: float) -> None:
        evidence = live.evidence(self.judges)
        decision = judge(live.plan, evidence, now)
        if decision.look or live.last is None or decision.action is not Action.HOLD:
            live.last = last_look(now, decision)
        if decision.action is Action.HOLD:
            live.looked = max(live.looked, decision.look)
            return
        try:
            self._apply(name, live, decision, evidence, now)
        except (Conflict, Unavailable):
            return  # another process was quicker: what it wrote is read at the next tick
        except ModelportError as problem:
            live.looked = max(live.looked, decision.look)
            self._unwritten(name, live, decision, evidence, now, problem)

    def _apply(self, name: str, live: Step, decision: Decision, evidence: Evidence, now: float) -> None:
        self._change(
            name,
            lambda state: changes.decided(state, decision, evidence.stable, now=now),
            live.state.revision,
            patience=0.0,
        )

    def _unwritten(
        self,
        name: str,
        live: Step,
        decision: Decision,
        evidence: Evidence,
        now: float,
        problem: ModelportError,
    ) -> None:
        """The decision cannot be kept. A bad version goes all the same, from this process at least."""
        log.error("rollout of %s: %s is not kept: %s", name, decision.action.value, problem)
        self._problems[name] = f"{decision.action.value} is not kept on disk: {problem}"
        if decision.action is Action.ROLLBACK:
            self._adopt(name, changes.decided(live.state, decision, evidence.stable, now=now))

    def _set_gauges(self, name: str, live: Step) -> None:
        if self._metrics is None:
            return
        plan = live.plan
        weight = plan.canary.weight if plan.canary is not None else 0.0
        for version in plan.versions:
            if not self.versions.ready(name, version):
                continue  # metrics are of what is loaded
            share = 1.0 - weight if version == plan.stable else 0.0
            if plan.canary is not None and version == plan.canary.version:
                share = weight
            metrics = self._metrics(name, version)
            metrics.gauge("canary_weight", share)
            if plan.shadow is not None and version == plan.shadow.version:
                _set_shadow(metrics, live.compared.total())

    def _clear_gauges(self, name: str, plan: Plan) -> None:
        if self._metrics is None:
            return
        for version in plan.versions:
            if self.versions.ready(name, version):
                for gauge in _GAUGES:
                    self._metrics(name, version).gauges.pop(gauge, None)


def _set_shadow(metrics: VersionMetrics, compared: Compared) -> None:
    if not compared.requests:
        return
    metrics.gauge("shadow_agreement", compared.agreement or 0.0, compared.requests)
    metrics.gauge("shadow_max_difference", compared.max_difference if not compared.unlike else float("inf"))
    middle = compared.listening.quantile(0.5)
    if middle is not None:
        metrics.gauge("shadow_latency", middle)
