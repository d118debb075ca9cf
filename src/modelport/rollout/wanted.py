"""What somebody asks of a rollout, put on top of the plan there is. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from ..errors import NotFound, UsageError, did_you_mean
from .plan import Canary, Plan, Policy, Shadow


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Changes to a plan; None leaves a thing as it is, and empty text takes it away."""

    stable: str | None = None
    canary: str | None = None
    weight: float | None = None
    header: str | None = None
    """`Name: value`."""
    sticky: str | None = None
    shadow: str | None = None
    sample: float | None = None
    auto: bool | None = None
    policy: dict[str, Any] = {}
    """Fields of `Policy` that are to be other than they are."""


def planned(plan: Plan | None, wanted: Wanted, *, model: str, versions: Sequence[str]) -> Plan:
    """The plan that is wanted.

    Args:
        versions: those that exist, oldest first.

    Raises:
        UsageError: the parts do not go together. NotFound: a version that does not exist.
    """
    shadow = _shadow(plan.shadow if plan else None, wanted)
    canary = _canary(plan.canary if plan else None, wanted)
    candidates = {part.version for part in (canary, shadow) if part is not None}
    stable = wanted.stable or (plan.stable if plan else _newest_besides(versions, candidates))
    bare = Plan(model=model, stable=stable, canary=canary, shadow=shadow)
    policy = _policy(plan.policy if plan and plan.candidate == bare.candidate else None, wanted)
    new = msgspec.structs.replace(bare, policy=policy)
    check_versions(new, versions)
    return new


def check_versions(plan: Plan, versions: Sequence[str]) -> None:
    """Refuse a plan with a version that does not exist.

    Raises:
        NotFound: the first such version, with the nearest that exists.
    """
    for version in plan.versions:
        if version not in versions:
            raise NotFound(f"{plan.model!r} has no version {version!r}", hint=did_you_mean(version, versions))


def _canary(present: Canary | None, wanted: Wanted) -> Canary | None:
    changes: dict[str, Any] = {}
    if wanted.weight is not None:
        changes["weight"] = wanted.weight
    if wanted.header is not None:
        changes["header"], changes["value"] = _header(wanted.header)
    if wanted.sticky is not None:
        changes["sticky"] = wanted.sticky or None
    if wanted.canary == "":
        return None
    if wanted.canary is None or (present is not None and present.version == wanted.canary):
        if present is None:
            if changes:
                raise UsageError("there is no canary whose weight, header or key it could be")
            return None
        return msgspec.structs.replace(present, **changes)
    if "weight" not in changes and wanted.auto:
        changes["weight"] = _policy_of(Policy(), wanted.policy).steps[0]
    if "weight" not in changes and changes.get("header") is None:
        raise UsageError(
            "who is to get the canary?", hint="--weight 0.05, --header 'X-Canary: yes' or --auto"
        )
    return Canary(version=wanted.canary, **changes)


def _shadow(present: Shadow | None, wanted: Wanted) -> Shadow | None:
    changes = {} if wanted.sample is None else {"sample": wanted.sample}
    if wanted.shadow == "":
        return None
    if wanted.shadow is not None and (present is None or present.version != wanted.shadow):
        return Shadow(version=wanted.shadow, **changes)
    if present is None:
        if changes:
            raise UsageError("there is no shadow whose sample it could be", hint="name one: --shadow VERSION")
        return None
    return msgspec.structs.replace(present, **changes)


def _policy(present: Policy | None, wanted: Wanted) -> Policy | None:
    if wanted.auto is False:
        if wanted.policy:
            raise UsageError(f"{', '.join(wanted.policy)} belongs to a policy, and --no-auto takes it away")
        return None
    if present is None and not wanted.auto:
        if wanted.policy:
            raise UsageError(
                f"{', '.join(wanted.policy)} belongs to a policy, and there is none", hint="say --auto"
            )
        return None
    return _policy_of(present or Policy(), wanted.policy)


def _policy_of(present: Policy, changes: dict[str, Any]) -> Policy:
    return msgspec.structs.replace(present, **changes)


def _header(text: str) -> tuple[str | None, str | None]:
    if not text:
        return None, None
    name, colon, value = text.partition(":")
    if not colon or not name.strip() or not value.strip():
        raise UsageError(f"expected 'Name: value', got {text[:60]!r}", hint="--header 'X-Canary: yes'")
    return name.strip(), value.strip()


def _newest_besides(versions: Sequence[str], candidates: set[str]) -> str:
    others = [version for version in versions if version not in candidates]
    if not others:
        raise UsageError(
            "there is no version left to be the stable one",
            hint=f"there is {', '.join(versions) or 'none'}; a rollout needs two versions",
        )
    return others[-1]
