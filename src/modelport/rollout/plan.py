"""What a rollout is, as values that cannot be wrong: versions, weights, and the policy that moves them.

Knows nothing of which versions exist, and nothing of time.
"""

from __future__ import annotations

import math
import re
from typing import Any

import msgspec

from ..errors import UsageError

CLIENT_ADDRESS = "client-address"
"""The sticky key that is no header: the address from which a request comes."""

MAX_STEPS = 16
MAX_SECONDS = 366 * 86400.0

# RFC 9110, 5.6.2: what a header may be called; lower case, as everything here looks headers up.
_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]{1,64}")
_VALUE = re.compile(r"[!-~](?:[ -~]{0,254}[!-~])?")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Canary(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A version that answers a share of the traffic. `header` and `value` send a request to it for sure."""

    version: str
    weight: float = 0.0
    """Share of the requests, 0 to 1. At 0 only those with the header come."""
    header: str | None = None
    value: str | None = None
    sticky: str | None = None
    """A header whose value decides, or `client-address`: one caller then always sees one version."""

    def __post_init__(self) -> None:
        _check_version(self.version, "$.canary.version")
        _check_share(self.weight, "$.canary.weight", "a weight")
        if (self.header is None) != (self.value is None):
            raise UsageError("a header that forces the canary has a name and a value", at="$.canary.header")
        if self.header is not None and self.value is not None:
            _set(self, "header", _header(self.header, "$.canary.header"))
            if not _VALUE.fullmatch(self.value):
                raise UsageError(
                    f"expected 1 to 256 printable ASCII characters, got {self.value[:40]!r}",
                    at="$.canary.value",
                )
        if self.sticky is not None and self.sticky != CLIENT_ADDRESS:
            _set(self, "sticky", _header(self.sticky, "$.canary.sticky"))


class Shadow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A version that is asked too, on a sample of what the stable one answers; nobody sees its answers."""

    version: str
    sample: float = 1.0
    """Share of the stable version's requests, 0 to 1."""

    def __post_init__(self) -> None:
        _check_version(self.version, "$.shadow.version")
        _check_share(self.sample, "$.shadow.sample", "a sample")


class Policy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When the candidate moves up by itself, and when it goes. What each limit means is in `judge`."""

    steps: tuple[float, ...] = (0.05, 0.25, 1.0)
    """The weights it goes through; past the last one it becomes the stable version."""
    min_requests: int = 500
    """Requests that the candidate answers at each step, within the window, before it moves up."""
    min_seconds: float = 300.0
    """Seconds at each step before it moves up."""
    window: float = 3600.0
    """What is older than this, in seconds, no longer counts."""
    max_error_difference: float = 0.01
    """How much higher its error rate may be: 0.01 is one request in a hundred more."""
    max_p99_ratio: float | None = 1.5
    """How many times the stable version's 99th percentile of latency its own may be; None: not judged."""
    min_agreement: float | None = None
    """Share of the shadowed requests on which the labels have to agree; None: not judged."""
    max_difference: float | None = None
    """How far one number of a shadowed answer may ever be off; None: not judged."""
    confidence: float = 0.95
    """How sure a judgement has to be, over all looks of one step together."""

    def __post_init__(self) -> None:
        at = "$.policy"
        if not 1 <= len(self.steps) <= MAX_STEPS:
            raise UsageError(f"expected 1 to {MAX_STEPS} weights, got {len(self.steps)}", at=f"{at}.steps")
        for number, weight in enumerate(self.steps):
            _check_share(weight, f"{at}.steps[{number}]", "a weight")
        rising = all(low < high for low, high in zip((0.0, *self.steps), self.steps, strict=False))
        if not rising:
            shown = ", ".join(f"{weight:g}" for weight in self.steps)
            raise UsageError(f"the weights have to rise, from above 0: got {shown}", at=f"{at}.steps")
        if self.min_requests < 1:
            raise UsageError(f"expected 1 or more, got {self.min_requests}", at=f"{at}.min_requests")
        _check_between(self.min_seconds, 0.0, MAX_SECONDS, f"{at}.min_seconds", "seconds")
        _check_between(self.window, 1.0, MAX_SECONDS, f"{at}.window", "seconds")
        _check_share(self.max_error_difference, f"{at}.max_error_difference", "a difference of rates")
        if self.max_p99_ratio is not None:
            _check_between(self.max_p99_ratio, 1.0, 1000.0, f"{at}.max_p99_ratio", "a ratio")
        if self.min_agreement is not None:
            _check_share(self.min_agreement, f"{at}.min_agreement", "a share")
        if self.max_difference is not None:
            _check_between(self.max_difference, 0.0, 1e30, f"{at}.max_difference", "a difference")
        _check_between(self.confidence, 0.5, 0.999999, f"{at}.confidence", "a confidence")


class Plan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Who answers for one model: `stable`, but for what goes to the canary; the shadow only listens."""

    model: str
    stable: str
    canary: Canary | None = None
    shadow: Shadow | None = None
    policy: Policy | None = None

    def __post_init__(self) -> None:
        _check_version(self.stable, "$.stable")
        for part, at in ((self.canary, "$.canary.version"), (self.shadow, "$.shadow.version")):
            if part is not None and part.version == self.stable:
                raise UsageError(f"version {part.version!r} is the stable one already", at=at)
        if self.policy is not None:
            self._check_policy(self.policy)

    @property
    def candidate(self) -> str | None:
        """The version that a policy judges: the canary, or where there is none the shadow."""
        if self.canary is not None:
            return self.canary.version
        return self.shadow.version if self.shadow is not None else None

    @property
    def versions(self) -> tuple[str, ...]:
        """Every version that the plan names, the stable one first."""
        named = [part.version for part in (self.canary, self.shadow) if part is not None]
        return tuple(dict.fromkeys((self.stable, *named)))

    def _check_policy(self, policy: Policy) -> None:
        if self.candidate is None:
            raise UsageError(
                "a policy with nothing to judge", at="$.policy", hint="name a canary or a shadow"
            )
        compares = policy.min_agreement is not None or policy.max_difference is not None
        if compares and (self.shadow is None or self.shadow.version != self.candidate):
            raise UsageError(
                f"answers are compared on shadowed requests, and version {self.candidate!r} is no shadow",
                at="$.policy",
                hint=f"shadow the same version: --shadow {self.candidate}",
            )


def _header(name: str, at: str) -> str:
    lower = name.lower()
    if not _HEADER.fullmatch(lower):
        raise UsageError(f"{name[:40]!r} is not the name of a header", at=at)
    return lower


def _set(struct: msgspec.Struct, field: str, value: Any) -> None:
    """Set a field of a frozen value while it is being made."""
    msgspec.structs.force_setattr(struct, field, value)


def _check_version(version: str, at: str) -> None:
    if not _VERSION.fullmatch(version):
        raise UsageError(f"{version[:40]!r} is not the name of a version", at=at)


def _check_share(value: float, at: str, what: str) -> None:
    _check_between(value, 0.0, 1.0, at, what)


def _check_between(value: float, low: float, high: float, at: str, what: str) -> None:
    if not math.isfinite(value) or not low <= value <= high:
        raise UsageError(f"expected {what} from {low:g} to {high:g}, got {value!r}", at=at)
