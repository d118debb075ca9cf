"""One step of a rollout: its plan, and what was seen of its versions since the step began. No clock."""

from __future__ import annotations

from .change import State
from .compare import Comparison
from .figures import Compared, Observed, Window, added
from .judge import Evidence
from .plan import Plan, Policy
from .report import LastLook, Seen, seen_of

_WINDOW = Policy().window


class Step:
    """Figures of one plan.

    Args:
        baseline: the stable version at the steps before, for when it is no longer asked.
    """

    def __init__(self, state: State, plan: Plan, baseline: Observed | None = None) -> None:
        self.state = state
        self.plan = plan
        self.baseline = baseline
        window = plan.policy.window if plan.policy is not None else _WINDOW
        self.stable: Window[Observed] = Window(Observed, window)
        self.canary: Window[Observed] = Window(Observed, window)
        self.compared: Window[Compared] = Window(Compared, window)
        self.seen = 0
        """Requests of the candidate and those that it shadowed, whatever the window has forgotten."""
        self.looked = 0
        """The number of the policy's last look."""
        self.last: LastLook | None = None

    def add(self, version: str, ok: bool, seconds: float) -> None:
        """One request; of a version that the plan does not name it is not counted."""
        if version == self.plan.stable:
            self.stable.current.add(ok, seconds)
        elif self.plan.canary is not None and version == self.plan.canary.version:
            self.canary.current.add(ok, seconds)
            self.seen += 1

    def compare(self, comparison: Comparison | None, seconds: float, shadow_seconds: float) -> None:
        """One shadowed request; without a comparison the shadow failed."""
        self.compared.current.add(comparison, seconds, shadow_seconds)
        self.seen += 1

    def turn(self, now: float) -> None:
        """Let go of what has left the window."""
        for window in (self.stable, self.canary, self.compared):
            window.turn(now)

    def evidence(self, judges: int = 1) -> Evidence:
        """What the policy judges: the canary, or before there is one the shadow."""
        compared = self.compared.total()
        if self.plan.canary is None:
            stable, candidate = compared.as_observed()
        else:
            stable, candidate = self.stable_so_far(), self.canary.total()
        return Evidence(
            since=self.state.since,
            stable=stable,
            candidate=candidate,
            compared=compared,
            seen=self.seen,
            looked=self.looked,
            judges=judges,
        )

    def stable_so_far(self) -> Observed:
        """The stable version at this step; where it is no longer asked, with the steps before."""
        canary = self.plan.canary
        if canary is None or canary.weight < 1.0 or self.baseline is None:
            return self.stable.total()
        return added(Observed, [self.baseline, self.stable.total()])

    def rows(self) -> list[Seen]:
        """What was seen, by version."""
        rows = [seen_of(self.plan.stable, "stable", self.stable.total())]
        if self.plan.canary is not None:
            rows.append(seen_of(self.plan.canary.version, "canary", self.canary.total()))
        if self.plan.shadow is not None:
            compared = self.compared.total()
            rows.append(seen_of(self.plan.shadow.version, "shadow", compared.as_observed()[1], compared))
        return rows
