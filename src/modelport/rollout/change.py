"""What happens to a rollout: plans are set, weights move, versions are promoted and rolled back. Pure.

A `State` is what the file holds. Each function here gives a new one, with a line of history.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from ..errors import ModelportError, UsageError
from .figures import Observed
from .judge import Action, Decision
from .plan import Canary, Plan

MAX_HISTORY = 100
FORMAT = "modelport-rollout/1"
RETURN_SECONDS = 600.0
"""How long the version that answered before a change stays loaded."""

Did = Literal["set", "advance", "promote", "rollback", "clear"]
By = Literal["cli", "api", "policy"]


class Conflict(ModelportError):
    """Somebody else changed the rollout first."""

    exit_code = 3
    http_status = 409


class Change(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One line of history."""

    at: float
    """Seconds since 1970."""
    did: Did
    by: By
    what: str
    """The change in words: `canary 2 from 5% to 25%`."""
    reason: str = ""
    before: Plan | None = None


class State(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model's rollout as it is kept: the plan, when its present step began, and what was before."""

    format: str = FORMAT
    revision: int = 0
    """Goes up with each change: who changes something says which one was seen."""
    plan: Plan | None = None
    since: float = 0.0
    """When the present step began, in seconds since 1970."""
    baseline: Observed | None = None
    """The stable version at the steps before, to compare with when it is no longer asked."""
    history: tuple[Change, ...] = ()
    """Oldest first."""

    def __post_init__(self) -> None:
        base = self.baseline
        if base is not None and base.errors + base.latency.total > base.requests:
            raise UsageError(
                f"{base.errors} errors and {base.latency.total} latencies of {base.requests} requests",
                at="$.baseline",
            )


def set_plan(state: State, plan: Plan, *, now: float, by: By, reason: str = "") -> State:
    """Put a plan in place of whatever there was."""
    if plan == state.plan:
        return state
    return _changed(state, plan, Change(now, "set", by, describe(plan), reason, state.plan))


def clear(state: State, *, now: float, by: By, reason: str = "") -> State:
    """Let the newest version answer again; the history stays."""
    if state.plan is None:
        return state
    change = Change(now, "clear", by, "no plan: the newest version answers", reason, state.plan)
    return _changed(state, None, change)


def promote(state: State, *, now: float, by: By, reason: str = "") -> State:
    """Make the candidate the stable version. The policy has done its work, and goes.

    Raises:
        UsageError: there is no candidate.
    """
    plan = state.plan
    if plan is None or plan.candidate is None:
        raise UsageError("nothing to promote: there is no canary and no shadow")
    chosen = plan.candidate
    shadow = plan.shadow if plan.shadow is not None and plan.shadow.version != chosen else None
    new = Plan(model=plan.model, stable=chosen, shadow=shadow)
    what = f"{chosen} is the stable version, in place of {plan.stable}"
    return _changed(state, new, Change(now, "promote", by, what, reason, plan))


def rollback(state: State, *, now: float, by: By, reason: str = "") -> State:
    """Drop the candidate; where there is none, go back to what was stable before the last promotion.

    Raises:
        UsageError: there is neither.
    """
    plan = state.plan
    if plan is None:
        raise UsageError("nothing to roll back: there is no plan")
    if plan.candidate is not None:
        shadow = plan.shadow if plan.shadow is not None and plan.shadow.version != plan.candidate else None
        new = Plan(model=plan.model, stable=plan.stable, shadow=shadow)
        what = f"{plan.candidate} is dropped, {plan.stable} answers"
    else:
        former = _former(state, plan.stable)
        new = Plan(model=plan.model, stable=former)
        what = f"back from {plan.stable} to {former}"
    return _changed(state, new, Change(now, "rollback", by, what, reason, plan))


def decided(state: State, decision: Decision, stable: Observed, *, now: float) -> State:
    """What a policy's decision makes of the state.

    Args:
        stable: what the stable version did at this step, kept for the steps at which it is not asked.
    """
    if decision.action is Action.PROMOTE:
        return promote(state, now=now, by="policy", reason=decision.reason)
    if decision.action is Action.ROLLBACK:
        return rollback(state, now=now, by="policy", reason=decision.reason)
    if decision.action is Action.ADVANCE and state.plan is not None and decision.weight is not None:
        return _advance(state, state.plan, decision, stable, now)
    return state


def _advance(state: State, plan: Plan, decision: Decision, stable: Observed, now: float) -> State:
    weight = decision.weight or 0.0
    if plan.canary is None:
        canary = Canary(version=plan.candidate or "", weight=weight)
        what = f"{canary.version}, so far a shadow, answers {weight:.3g} of the requests"
    else:
        canary = msgspec.structs.replace(plan.canary, weight=weight)
        what = f"canary {canary.version} from {plan.canary.weight:.3g} to {weight:.3g} of the requests"
    new = msgspec.structs.replace(plan, canary=canary)
    changed = _changed(state, new, Change(now, "advance", "policy", what, decision.reason, plan))
    return msgspec.structs.replace(changed, baseline=stable)


def returnable(state: State, now: float) -> tuple[str, ...]:
    """What answered until a little while ago: it stays loaded, so that going back takes no time.

    Args:
        now: seconds since 1970.
    """
    present = state.plan.stable if state.plan is not None else None
    former = [
        change.before.stable
        for change in state.history
        if change.before is not None and 0 <= now - change.at < RETURN_SECONDS
    ]
    return tuple(version for version in dict.fromkeys(reversed(former)) if version != present)[:1]


def sent_back(state: State) -> bool:
    """Whether the last change is that a policy dropped its candidate."""
    last = state.history[-1] if state.history else None
    return last is not None and (last.did, last.by) == ("rollback", "policy")


def told(state: State) -> str:
    """The last change in a line, with who made it and why: for a log."""
    if not state.history:
        return "no plan: the newest version answers"
    last = state.history[-1]
    return f"{last.what} ({last.did} by {last.by}{f': {last.reason}' if last.reason else ''})"


def describe(plan: Plan) -> str:
    """A plan in a line: `stable 1, canary 2 at 0.1 by x-user, shadow 3 on 0.5`."""
    words = [f"stable {plan.stable}"]
    if plan.canary is not None:
        canary = plan.canary
        words.append(f"canary {canary.version} at {canary.weight:.3g}")
        if canary.sticky is not None:
            words[-1] += f" by {canary.sticky}"
        if canary.header is not None:
            words[-1] += f" and for {canary.header}: {canary.value}"
    if plan.shadow is not None:
        words.append(f"shadow {plan.shadow.version} on {plan.shadow.sample:.3g}")
    if plan.policy is not None:
        words.append("by policy")
    return ", ".join(words)


def _former(state: State, stable: str) -> str:
    """What was stable before the last promotion to `stable`."""
    for change in reversed(state.history):
        if change.did == "promote" and change.before is not None and change.before.candidate == stable:
            return change.before.stable
    raise UsageError(
        f"nothing to roll back: there is no candidate, and no record of a promotion to {stable}",
        hint="name the version that is to answer: --stable VERSION",
    )


def _changed(state: State, plan: Plan | None, change: Change) -> State:
    """The next state. What was measured counts on only while the two versions stay the same."""
    same = plan is not None and state.plan is not None and plan.versions == state.plan.versions
    return State(
        revision=state.revision + 1,
        plan=plan,
        since=change.at,
        baseline=state.baseline if same else None,
        history=(*state.history, change)[-MAX_HISTORY:],
    )
