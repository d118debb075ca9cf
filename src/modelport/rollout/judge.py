"""Whether a candidate moves up, stays, or goes. Pure: what was seen and what time it is are handed in.

The policy, at each step (a weight of the canary, or the time as a shadow before there is one):

- *Errors*: the candidate's error rate less the stable version's. *Latency*: its 99th percentile over the
  stable version's. *Agreement*: the share of shadowed requests with the same labels.
- It goes (**rollback**) as soon as one of these is worse than its limit beyond chance, or one number of an
  answer was off by more than `max_difference`, which needs no statistics.
- It moves up (**advance**, and past the last weight **promote**) when it has had `min_requests` in the
  window and `min_seconds` at this step, its errors and its agreement are within their limits beyond chance,
  and its latency is within its limit as measured. (To prove a 99th percentile takes tens of thousands of
  requests; errors are proven.)
- Otherwise it stays (**hold**), with what is missing as the reason.

Beyond chance: `confidence` is spent over all the looks of a step, over the figures that are judged and over
the processes that judge (`bounds.look_alpha`), so that looking often makes no false alarm likely. Looks are
taken at 8 requests, shadowed ones among them, and then at each 1.25 times as many: a canary of little weight
is known by its shadow long before its own requests tell.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

import msgspec

from .bounds import deviate, difference, look_alpha, look_at, look_number, quantile_bounds, wilson
from .figures import Compared, Observed
from .plan import Plan, Policy

P99 = 0.99
MIN_FOR_P99 = 100
"""Durations of each version, below which a 99th percentile is only the slowest one, or the first one."""
MIN_COMPARED = 100
"""Shadowed requests without a number that is too far off, or `min_requests` where that is less."""


class Action(StrEnum):
    """What becomes of the candidate."""

    HOLD = "hold"
    ADVANCE = "advance"
    PROMOTE = "promote"
    ROLLBACK = "rollback"


Verdict = Literal["good", "bad", "open"]


class Check(msgspec.Struct, frozen=True):
    """One figure against its limit, with the bounds between which chance leaves it."""

    figure: str
    value: float | None
    low: float | None
    high: float | None
    limit: float
    verdict: Verdict
    text: str


class Decision(msgspec.Struct, frozen=True):
    """What to do, why in words, and the figures behind it."""

    action: Action
    reason: str
    weight: float | None = None
    """The canary's weight from now on, for `advance`."""
    look: int = 0
    """The number of the look that was taken; 0 for none, as too little has happened since the last one."""
    checks: tuple[Check, ...] = ()


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen at this step."""

    since: float
    """When the step began, in seconds on the clock of `now`."""
    stable: Observed
    candidate: Observed
    """Both within the window."""
    compared: Compared = msgspec.field(default_factory=Compared)
    """The shadowed requests within the window."""
    seen: int = 0
    """Requests of the candidate since the step began, shadowed ones too, whatever the window has forgotten:
    looks are taken by them."""
    looked: int = 0
    """The number of the last look at this step."""
    judges: int = 1
    """Processes that judge side by side, each on the requests that it sees."""


def judge(plan: Plan, evidence: Evidence, now: float) -> Decision:
    """Decide on the plan's candidate.

    Args:
        now: seconds, on the clock of `evidence.since`.
    """
    policy = plan.policy
    if policy is None:
        return Decision(Action.HOLD, "no policy: weights are changed by hand")
    far = _distance(policy, evidence.compared)
    if far is not None and far.verdict == "bad":
        return Decision(Action.ROLLBACK, far.text, checks=(far,))
    look = look_number(evidence.seen)
    if look <= evidence.looked:
        due = look_at(evidence.looked + 1)
        return Decision(Action.HOLD, f"{_count(evidence.seen)}; the next look is at {due:,}")
    checks = _checks(plan, policy, evidence, look)
    bad = [check.text for check in checks if check.verdict == "bad"]
    if bad:
        return Decision(Action.ROLLBACK, "; ".join(bad), look=look, checks=checks)
    wait = _missing(policy, evidence, now)
    wait += [check.text for check in checks if check.verdict == "open"]
    if wait:
        return Decision(Action.HOLD, "; ".join(wait), look=look, checks=checks)
    return _up(plan, policy, "; ".join(check.text for check in checks), look, checks)


def _up(plan: Plan, policy: Policy, reason: str, look: int, checks: tuple[Check, ...]) -> Decision:
    """The next weight that is above the present one, or the end of the rollout."""
    present = plan.canary.weight if plan.canary is not None else 0.0
    higher = [weight for weight in policy.steps if weight > present]
    if not higher:
        return Decision(Action.PROMOTE, reason, look=look, checks=checks)
    return Decision(Action.ADVANCE, reason, weight=higher[0], look=look, checks=checks)


def _missing(policy: Policy, evidence: Evidence, now: float) -> list[str]:
    missing = []
    if evidence.candidate.requests < policy.min_requests:
        missing.append(f"{_count(evidence.candidate.requests)} of the {policy.min_requests:,} that it takes")
    lasted = now - evidence.since
    if lasted < policy.min_seconds:
        missing.append(f"{max(lasted, 0.0):.0f} s of the {policy.min_seconds:.0f} s that it takes")
    return missing


def _checks(plan: Plan, policy: Policy, evidence: Evidence, look: int) -> tuple[Check, ...]:
    """Each figure that the policy names and that this step can show."""
    # A canary that answers everything leaves nothing to shadow; its agreement was judged on the way there.
    shadowed = not (plan.canary and plan.canary.weight >= 1.0)
    compares = policy.min_agreement is not None and shadowed
    figures = 1 + (policy.max_p99_ratio is not None) + compares
    alpha = look_alpha((1.0 - policy.confidence) / (figures * evidence.judges), look)
    z = deviate(alpha)
    checks = [_errors(policy.max_error_difference, evidence, z)]
    if policy.max_p99_ratio is not None:
        checks.append(_latency(policy.max_p99_ratio, evidence, z))
    if compares and policy.min_agreement is not None:
        checks.append(_agreement(policy.min_agreement, evidence.compared, z))
    distance = _distance(policy, evidence.compared)
    if distance is not None and shadowed:
        checks.append(distance)
    return tuple(checks)


def _errors(limit: float, evidence: Evidence, z: float) -> Check:
    mine, base = evidence.candidate, evidence.stable
    low, high = difference(mine.errors, mine.requests, base.errors, base.requests, z)
    verdict: Verdict = "bad" if low > limit else "good" if high <= limit else "open"
    text = (
        f"errors {_rate(mine)} against {_rate(base)}: between {_points(low)} and {_points(high)} more, "
        f"at most {_points(limit)} wanted"
    )
    if verdict == "good" and not base.requests:
        verdict, text = "open", "the stable version answered nothing to be compared with"
    value = (mine.error_rate or 0.0) - (base.error_rate or 0.0)
    return Check("error_difference", value, low, high, limit, verdict, text)


def _latency(limit: float, evidence: Evidence, z: float) -> Check:
    mine, base = evidence.candidate.latency, evidence.stable.latency
    low, high = quantile_bounds(mine, P99, z)
    base_low, base_high = quantile_bounds(base, P99, z)
    least = low / base_high if low is not None and base_high is not None else None
    most = high / base_low if high is not None and base_low is not None else None
    p99, base_p99 = mine.quantile(P99), base.quantile(P99)
    if p99 is None or base_p99 is None:
        return Check("p99_ratio", None, None, None, limit, "open", "no latencies to compare")
    ratio = p99 / base_p99
    text = (
        f"p99 {_seconds(p99)} against {_seconds(base_p99)}: {ratio:.2f} times, at most {limit:g} times wanted"
    )
    verdict: Verdict = "open"
    if min(mine.total, base.total) < MIN_FOR_P99:
        text = f"p99 needs {MIN_FOR_P99} answers of each: {mine.total:,} and {base.total:,} so far"
    elif least is not None and least > limit:
        verdict = "bad"
    elif ratio <= limit:
        verdict = "good"
    return Check("p99_ratio", ratio, least, most, limit, verdict, text)


def _agreement(limit: float, compared: Compared, z: float) -> Check:
    low, high = wilson(compared.agreed, compared.requests, z)
    verdict: Verdict = "bad" if high < limit else "good" if low >= limit else "open"
    share = "none yet" if compared.agreement is None else f"{compared.agreement:.2%}"
    text = (
        f"agreement {share} of {compared.requests:,}: between {low:.2%} and {high:.2%}, "
        f"at least {limit:.2%} wanted"
    )
    return Check("agreement", compared.agreement, low, high, limit, verdict, text)


def _distance(policy: Policy, compared: Compared) -> Check | None:
    """Whether an answer was off by more than any may be."""
    limit = policy.max_difference
    if limit is None:
        return None
    found, few = compared.max_difference, min(policy.min_requests, MIN_COMPARED)
    verdict: Verdict = "good"
    text = f"no number of {compared.requests:,} answers is off by more than {found:.3g}, {limit:g} allowed"
    if compared.unlike:
        verdict = "bad"
        text = f"{compared.unlike:,} of {compared.requests:,} answers have other tensors, shapes or NaNs"
    elif found > limit:
        verdict, text = "bad", f"a number of an answer is off by {found:.3g}, at most {limit:g} wanted"
    elif compared.requests < few:
        verdict, text = "open", f"{_count(compared.requests)} compared, of the {few} that it takes"
    return Check("difference", found, None, None, limit, verdict, text)


def _count(requests: int) -> str:
    return f"{requests:,} request{'' if requests == 1 else 's'}"


def _rate(observed: Observed) -> str:
    rate = observed.error_rate
    return "none seen" if rate is None else f"{rate:.2%} of {observed.requests:,}"


def _points(share: float) -> str:
    return f"{share * 100:.2f}"


def _seconds(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"
