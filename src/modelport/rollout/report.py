"""A rollout as it is shown: one value for the command line, the admin routes and the pages. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from .change import Change, State
from .figures import Compared, Observed
from .judge import Check, Decision
from .plan import Plan

SCHEMA = "modelport.rollout/1"

Role = Literal["stable", "canary", "shadow"]


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen of one version at this step, within the window; latencies in seconds."""

    version: str
    role: Role
    requests: int
    errors: int
    error_rate: float | None
    p50: float | None
    p99: float | None
    agreement: float | None = None
    """Of a shadow: the share of its requests with the stable version's labels."""
    max_difference: float | None = None
    """Of a shadow: the largest difference between a number of its answers and the stable version's."""
    unlike: int | None = None
    """Of a shadow: answers whose tensors, shapes or NaNs left nothing to measure."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Everything there is to say of one model's rollout."""

    schema: str = SCHEMA
    model: str
    versions: tuple[str, ...]
    """Those that exist, oldest first."""
    revision: int = 0
    plan: Plan | None = None
    """None: the newest version answers, or the `default`."""
    default: str | None = None
    """The version that was set as the default, where there is no plan; it answers whatever is newer."""
    since: float | None = None
    """When the present step began, in seconds since 1970."""
    problem: str = ""
    """What is not as the plan says: a damaged file, a version that is not ready."""
    seen: tuple[Seen, ...] | None = None
    """None where no server was asked."""
    last: LastLook | None = None
    history: tuple[Change, ...] = ()
    """Oldest first."""


class LastLook(msgspec.Struct, frozen=True):
    """The policy's last look at the present step."""

    at: float
    action: str
    reason: str
    checks: tuple[Check, ...] = ()


def report(
    model: str,
    versions: Sequence[str],
    state: State,
    *,
    problem: str = "",
    seen: Sequence[Seen] | None = None,
    last: LastLook | None = None,
) -> Report:
    """A state as it is shown."""
    return Report(
        model=model,
        versions=tuple(versions),
        revision=state.revision,
        plan=state.plan,
        since=state.since if state.plan is not None else None,
        problem=problem,
        seen=None if seen is None else tuple(seen),
        last=last,
        history=state.history,
    )


def seen_of(version: str, role: Role, observed: Observed, compared: Compared | None = None) -> Seen:
    """One version's row."""
    return Seen(
        version=version,
        role=role,
        requests=observed.requests,
        errors=observed.errors,
        error_rate=observed.error_rate,
        p50=observed.latency.quantile(0.5),
        p99=observed.latency.quantile(0.99),
        agreement=None if compared is None else compared.agreement,
        max_difference=None if compared is None else compared.max_difference,
        unlike=None if compared is None else compared.unlike,
    )


def last_look(at: float, decision: Decision) -> LastLook:
    """A decision as it is shown."""
    return LastLook(at, decision.action.value, decision.reason, decision.checks)
