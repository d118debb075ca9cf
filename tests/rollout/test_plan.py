"""Plans that cannot be wrong: what is refused, in which words, and how asked-for changes are put on top."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from modelport.errors import NotFound, UsageError
from modelport.rollout.plan import CLIENT_ADDRESS, Canary, Plan, Policy, Shadow
from modelport.rollout.wanted import Wanted, planned

NAN = float("nan")
POLICY = Policy()


@pytest.mark.parametrize(
    ("build", "at", "words"),
    [
        (lambda: Canary(version="2", weight=1.01), "$.canary.weight", "from 0 to 1, got 1.01"),
        (lambda: Canary(version="2", weight=-0.1), "$.canary.weight", "from 0 to 1"),
        (lambda: Canary(version="2", weight=NAN), "$.canary.weight", "got nan"),
        (lambda: Canary(version="../2"), "$.canary.version", "not the name of a version"),
        (lambda: Canary(version="2\n"), "$.canary.version", "not the name of a version"),
        (lambda: Canary(version="2", header="X-Canary"), "$.canary.header", "a name and a value"),
        (lambda: Canary(version="2", value="yes"), "$.canary.header", "a name and a value"),
        (lambda: Canary(version="2", header="X Canary", value="yes"), "$.canary.header", "header"),
        (lambda: Canary(version="2", header="x", value="a\r\nb"), "$.canary.value", "printable"),
        (lambda: Canary(version="2", header="x", value=""), "$.canary.value", "printable"),
        (lambda: Canary(version="2", sticky="a:b"), "$.canary.sticky", "'a:b' is not the name of a header"),
        (lambda: Shadow(version="2", sample=2), "$.shadow.sample", "a sample from 0 to 1"),
        (lambda: Shadow(version=""), "$.shadow.version", "not the name"),
        (lambda: Policy(steps=()), "$.policy.steps", "1 to 16 weights"),
        (lambda: Policy(steps=(0.0, 1.0)), "$.policy.steps", "have to rise, from above 0: got 0, 1"),
        (lambda: Policy(steps=(0.5, 0.5)), "$.policy.steps", "have to rise"),
        (lambda: Policy(steps=(0.5, 1.5)), "$.policy.steps[1]", "from 0 to 1"),
        (lambda: Policy(min_requests=0), "$.policy.min_requests", "1 or more"),
        (lambda: Policy(min_seconds=-1), "$.policy.min_seconds", "seconds"),
        (lambda: Policy(window=0.5), "$.policy.window", "seconds from 1"),
        (lambda: Policy(max_error_difference=1.5), "$.policy.max_error_difference", "rates"),
        (lambda: Policy(max_p99_ratio=0.9), "$.policy.max_p99_ratio", "a ratio from 1"),
        (lambda: Policy(min_agreement=1.1), "$.policy.min_agreement", "a share"),
        (lambda: Policy(max_difference=float("inf")), "$.policy.max_difference", "a difference"),
        (lambda: Policy(confidence=1.0), "$.policy.confidence", "a confidence"),
        (lambda: Plan(model="m", stable="/"), "$.stable", "not the name"),
        (
            lambda: Plan(model="m", stable="1", canary=Canary(version="1")),
            "$.canary.version",
            "is the stable one already",
        ),
        (
            lambda: Plan(model="m", stable="1", shadow=Shadow(version="1")),
            "$.shadow.version",
            "is the stable one already",
        ),
        (lambda: Plan(model="m", stable="1", policy=POLICY), "$.policy", "nothing to judge"),
        (
            lambda: Plan(model="m", stable="1", canary=Canary(version="2"), policy=Policy(min_agreement=0.9)),
            "$.policy",
            "is no shadow",
        ),
        (
            lambda: Plan(
                model="m",
                stable="1",
                canary=Canary(version="2"),
                shadow=Shadow(version="3"),
                policy=Policy(max_difference=1),
            ),
            "$.policy",
            "version '2' is no shadow",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_place(build: Any, at: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        build()
    assert caught.value.at == at
    assert words in caught.value.message


def test_the_same_rules_hold_for_what_comes_as_json() -> None:
    for body, words in (
        (b'{"model": "m", "stable": "1", "canary": {"version": "2", "weight": 3}}', "from 0 to 1"),
        (b'{"model": "m", "stable": "1", "canary": {"version": "2", "wieght": 0.1}}', "wieght"),
        (b'{"model": "m", "stable": "1", "canary": {"version": "2", "weight": true}}', r"\$.canary.weight"),
        (b'{"model": "m"}', "stable"),
    ):
        with pytest.raises((UsageError, msgspec.ValidationError), match=words):
            msgspec.json.decode(body, type=Plan)


def test_headers_are_kept_in_lower_case() -> None:
    canary = Canary(version="2", header="X-Canary", value="Yes", sticky="X-User")
    assert (canary.header, canary.value, canary.sticky) == ("x-canary", "Yes", "x-user")
    assert Canary(version="2", sticky="Client-Address").sticky == CLIENT_ADDRESS


def test_who_is_the_candidate() -> None:
    canary, shadow = Canary(version="2"), Shadow(version="3")
    assert Plan(model="m", stable="1").candidate is None
    assert Plan(model="m", stable="1", shadow=shadow).candidate == "3"
    both = Plan(model="m", stable="1", canary=canary, shadow=shadow)
    assert both.candidate == "2" and both.versions == ("1", "2", "3")
    same = Plan(model="m", stable="1", canary=canary, shadow=Shadow(version="2"))
    assert same.versions == ("1", "2")


VERSIONS = ["1", "2", "3"]


def want(plan: Plan | None = None, **wanted: Any) -> Plan:
    return planned(plan, Wanted(**wanted), model="m", versions=VERSIONS)


def test_the_stable_version_is_the_newest_that_is_no_candidate() -> None:
    assert want(canary="3", weight=0.1).stable == "2"
    assert want(canary="2", weight=0.1).stable == "3"
    assert want(canary="2", weight=0.1, shadow="3").stable == "1"
    assert want(canary="2", weight=0.1, stable="1").stable == "1"


def test_changes_are_put_on_top_of_what_there_is() -> None:
    first = want(canary="3", weight=0.1, sticky="X-User", header="X-Canary: yes")
    assert first.canary == Canary(version="3", weight=0.1, sticky="x-user", header="x-canary", value="yes")
    more = want(first, weight=0.5)
    assert more.canary == msgspec.structs.replace(first.canary, weight=0.5)  # type: ignore[type-var]
    assert want(more, canary="3", sticky="").canary == Canary(
        version="3", weight=0.5, header="x-canary", value="yes"
    )
    assert want(more, header="").canary == Canary(version="3", weight=0.5, sticky="x-user")
    other = want(more, canary="1", weight=0.2)
    assert other.stable == "2" and other.canary == Canary(version="1", weight=0.2)
    assert want(more, canary="").canary is None
    shadowed = want(more, shadow="1", sample=0.5)
    assert shadowed.canary == more.canary and shadowed.shadow == Shadow(version="1", sample=0.5)
    assert want(shadowed, sample=0.25).shadow == Shadow(version="1", sample=0.25)
    assert want(shadowed, shadow="1").shadow == shadowed.shadow
    assert want(shadowed, shadow="").shadow is None
    assert want(first, stable="1").stable == "1"


def test_a_policy_is_asked_for_and_goes_with_its_candidate() -> None:
    auto = want(canary="3", auto=True, policy={"steps": (0.02, 1.0)})
    assert auto.policy == Policy(steps=(0.02, 1.0)) and auto.canary == Canary(version="3", weight=0.02)
    stricter = want(auto, policy={"min_requests": 7})
    assert stricter.policy == Policy(steps=(0.02, 1.0), min_requests=7)
    assert want(stricter, weight=0.5).policy == stricter.policy
    assert want(stricter, auto=False).policy is None
    # Another candidate is not judged by a policy that nobody gave it.
    assert want(stricter, canary="1", weight=0.1).policy is None
    shadow = want(shadow="3", auto=True, policy={"min_agreement": 0.99})
    assert shadow.policy is not None and shadow.policy.min_agreement == 0.99


@pytest.mark.parametrize(
    ("wanted", "error", "words"),
    [
        ({"weight": 0.1}, UsageError, "there is no canary"),
        ({"sample": 0.1}, UsageError, "there is no shadow"),
        ({"canary": "2"}, UsageError, "who is to get the canary"),
        ({"canary": "2", "header": "X-Canary"}, UsageError, "expected 'Name: value'"),
        ({"canary": "2", "header": "X-Canary:  "}, UsageError, "expected 'Name: value'"),
        ({"canary": "4", "weight": 0.1}, NotFound, "'m' has no version '4'"),
        ({"stable": "0"}, NotFound, "'m' has no version '0'"),
        ({"canary": "2", "weight": 0.1, "policy": {"window": 5.0}}, UsageError, "say --auto"),
        ({"canary": "2", "auto": False, "weight": 0.1, "policy": {"window": 5.0}}, UsageError, "--no-auto"),
        ({"auto": True}, UsageError, "nothing to judge"),
    ],
)
def test_what_cannot_be_meant_is_refused(wanted: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        want(**wanted)


def test_a_rollout_needs_two_versions() -> None:
    with pytest.raises(UsageError, match="no version left to be the stable one"):
        planned(None, Wanted(canary="1", weight=0.5), model="m", versions=["1"])
