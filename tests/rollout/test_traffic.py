"""Rollouts in a server: who is routed where, files that change, and what is shown."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from modelport.engine.traffic import RepositoryVersions, Traffic
from modelport.errors import BundleError, NotFound, UsageError
from modelport.monitor.metrics import Metrics
from modelport.rollout import change as changes
from modelport.rollout.change import Conflict
from modelport.rollout.plan import CLIENT_ADDRESS, Canary, Plan, Policy, Shadow
from modelport.rollout.state import FILE, change, load

from .servers import Models, traffic_of

POLICY = Policy(steps=(0.1, 0.5, 1.0), min_requests=100, min_seconds=60.0, max_error_difference=0.05)


def plan_of(**parts: Any) -> Plan:
    return Plan(**({"model": "m", "stable": "1"} | parts))


def canary_of(weight: float = 0.1, **parts: Any) -> Plan:
    return plan_of(canary=Canary(version="2", weight=weight), **parts)


def routed(traffic: Traffic, count: int = 1000, **headers: str) -> Counter[tuple[str | None, str | None]]:
    return Counter(traffic.route("m", headers, "10.0.0.1") for _ in range(count))


def test_a_model_without_a_plan(traffic: Traffic) -> None:
    traffic.tick(0.0)
    assert "m" not in traffic and traffic.stable("m") is None
    assert traffic.route("m", {}, None) == traffic.route("nobody", {}, None) == (None, None)
    traffic.observe("m", "1", True, 0.1)
    traffic.compared("m", {}, {}, 0.1, 0.1)
    report = traffic.report("m")
    assert report.plan is None and report.versions == ("1", "2", "3") and report.seen == ()
    with pytest.raises(NotFound):
        traffic.report("nobody")


def test_weights_headers_keys_and_shadows(traffic: Traffic) -> None:
    plan = plan_of(
        canary=Canary(version="2", weight=0.2, header="X-Canary", value="yes", sticky="X-User"),
        shadow=Shadow(version="3", sample=0.5),
    )
    traffic.put("m", plan, now=1.0)
    assert "m" in traffic and traffic.stable("m") == "1"
    got = routed(traffic)
    assert set(got) == {("1", None), ("1", "3"), ("2", None)}
    assert 120 < got["2", None] < 280 and 320 < got["1", "3"] < 480
    assert routed(traffic, **{"x-canary": "yes"}) == {("2", None): 1000}
    users = {user: {version for version, _ in routed(traffic, 20, **{"x-user": user})} for user in "abcdefgh"}
    assert all(len(seen) == 1 for seen in users.values())
    assert set.union(*users.values()) == {"1", "2"}


def test_one_address_sees_one_version(traffic: Traffic) -> None:
    plan = plan_of(canary=Canary(version="2", weight=0.5, sticky=CLIENT_ADDRESS))
    traffic.put("m", plan, now=1.0)
    assert len(routed(traffic)) == 1


def test_versions_that_are_not_ready_are_passed_over(traffic: Traffic, models: Models) -> None:
    traffic.put("m", canary_of(1.0, shadow=Shadow(version="3")), now=1.0)
    assert set(routed(traffic)) == {("2", None)}
    models.broken.add(("m", "2"))
    assert set(routed(traffic)) == {("1", "3")}
    assert "version 2 is not ready" in traffic.report("m").problem
    models.broken.add(("m", "3"))
    assert set(routed(traffic)) == {("1", None)}
    models.broken.add(("m", "1"))
    assert set(routed(traffic)) == {(None, None)} and traffic.stable("m") is None


def test_plans_are_kept_and_found_again_after_a_restart(traffic: Traffic, models: Models) -> None:
    traffic.put("m", canary_of(1.0), now=1.0, reason="friday")
    again = traffic_of(models)
    again.tick(2.0)
    assert set(routed(again)) == {("2", None)}
    report = again.report("m")
    assert (report.revision, report.since, report.history[0].reason) == (1, 1.0, "friday")


def test_what_has_to_be_loaded_is_known_before_the_first_tick(traffic: Traffic, models: Models) -> None:
    traffic.put("m", canary_of(shadow=Shadow(version="3")), now=1.0)
    again = traffic_of(models)
    assert again.wanted("m") == ["1", "2", "3"] and again.wanted("other") == []
    # Later changes come with the tick alone, so that who compares before and after sees them.
    traffic.clear("m", now=2.0)
    assert again.wanted("m") == ["1", "2", "3"]
    again.tick(3.0)
    assert again.wanted("m") == []


def test_what_cannot_be_is_refused_and_changes_nothing(traffic: Traffic) -> None:
    with pytest.raises(NotFound, match="no version '7'"):
        traffic.put("m", plan_of(stable="7"), now=1.0)
    with pytest.raises(NotFound, match="unknown model"):
        traffic.put("nobody", plan_of(), now=1.0)
    with pytest.raises(UsageError, match="nothing to promote"):
        traffic.promote("m", now=1.0)
    traffic.put("m", canary_of(), now=1.0)
    with pytest.raises(Conflict):
        traffic.put("m", canary_of(0.9), now=1.0, seen=0)
    assert traffic.report("m").plan == canary_of()


def test_promote_roll_back_and_clear(traffic: Traffic, models: Models) -> None:
    traffic.put("m", canary_of(), now=1.0)
    traffic.promote("m", now=2.0)
    assert set(routed(traffic)) == {("2", None)}
    traffic.rollback("m", now=3.0)
    assert set(routed(traffic)) == {("1", None)}
    traffic.clear("m", now=4.0)
    assert "m" not in traffic
    assert [line.did for line in traffic.report("m").history] == ["set", "promote", "rollback", "clear"]
    assert load(models.root / "m") is not None


def test_a_file_that_others_change_is_followed(traffic: Traffic, models: Models) -> None:
    folder = models.folder("m")
    traffic.tick(0.0)

    def put(plan: Plan) -> None:
        change(folder, lambda state: changes.set_plan(state, plan, now=1.0, by="cli"))

    put(canary_of(1.0))
    traffic.tick(1.0)
    assert set(routed(traffic)) == {("2", None)}
    traffic.observe("m", "2", True, 0.1)
    traffic.tick(2.0)
    assert traffic.report("m").seen[1].requests == 1  # type: ignore[index]  # what is as it was is kept
    put(canary_of(0.0))
    traffic.tick(3.0)
    assert set(routed(traffic)) == {("1", None)}
    assert traffic.report("m").seen[1].requests == 0  # type: ignore[index]
    (folder / FILE).unlink()
    traffic.tick(4.0)
    assert "m" not in traffic
    put(canary_of(1.0))
    del models.models["m"]
    traffic.tick(5.0)
    assert "m" not in traffic
    models.models["m"] = ["1", "2"]
    traffic.tick(6.0)
    assert set(routed(traffic)) == {("2", None)}
    del models.models["m"]
    traffic.tick(7.0)
    assert "m" not in traffic


def test_a_damaged_file_leaves_what_there_was_and_says_so(traffic: Traffic, models: Models) -> None:
    folder = models.folder("m")
    traffic.put("m", canary_of(1.0), now=1.0)
    (folder / FILE).write_text("{")
    traffic.tick(2.0)
    assert set(routed(traffic)) == {("2", None)}
    assert "damaged" in traffic.report("m").problem
    # A server that starts now knows of no plan: the newest version answers.
    fresh = traffic_of(models)
    fresh.tick(2.0)
    assert fresh.route("m", {}, None) == (None, None) and "damaged" in fresh.report("m").problem
    with pytest.raises(BundleError):
        fresh.put("m", canary_of(), now=3.0)
    fresh.clear("m", now=3.0)
    fresh.put("m", canary_of(), now=3.0)
    traffic.tick(4.0)
    for server in (fresh, traffic):
        assert server.report("m").problem == "" and server.report("m").plan == canary_of()


def test_figures_are_shown(traffic: Traffic) -> None:
    traffic.put("m", canary_of(shadow=Shadow(version="3"), policy=POLICY), now=1000.0)
    for _ in range(20):
        traffic.observe("m", "1", True, 0.010)
        traffic.observe("m", "3", True, 0.010)  # asked for by its number: none of the rollout's
    for ok in (True, True, False):
        traffic.observe("m", "2", ok, 0.020)
    traffic.compared("m", {"y": np.array([1.0])}, {"y": np.array([1.5])}, 0.010, 0.040)
    traffic.tick(1001.0)
    report = traffic.report("m")
    assert report.seen is not None
    stable, canary, shadow = report.seen
    assert (stable.version, stable.role, stable.requests, stable.errors) == ("1", "stable", 20, 0)
    assert (canary.version, canary.requests, canary.errors) == ("2", 3, 1)
    assert canary.error_rate == pytest.approx(1 / 3) and canary.p99 == pytest.approx(0.02, rel=0.05)
    assert (shadow.role, shadow.agreement, shadow.max_difference) == ("shadow", 1.0, 0.5)
    assert shadow.p50 == pytest.approx(0.04, rel=0.05)
    assert report.last is not None and report.last.action == "hold"
    assert report.last.reason == "4 requests; the next look is at 8"


def test_metrics(models: Models) -> None:
    metrics = Metrics()
    traffic = traffic_of(models, metrics=metrics)
    traffic.put("m", canary_of(0.25, shadow=Shadow(version="3")), now=1000.0)
    traffic.tick(1001.0)
    assert metrics.model("m", "1").gauges == {"canary_weight": 0.75}
    assert metrics.model("m", "2").gauges == {"canary_weight": 0.25}
    assert metrics.model("m", "3").gauges == {"canary_weight": 0.0}
    answer = {"y": np.array([1.0, 2.0])}
    traffic.compared("m", answer, {"y": np.array([1.5, 2.0])}, 0.01, 0.04)
    traffic.compared("m", answer, {"y": np.array([2.0, 1.0])}, 0.01, 0.04)
    traffic.compared("m", answer, None, 0.01, 0.04)
    traffic.tick(1002.0)
    shadow = metrics.model("m", "3")
    assert shadow.counters == {"shadow_agreed": 1, "shadow_differed": 1, "shadow_failed": 1}
    assert shadow.gauges["shadow_agreement"] == pytest.approx(1 / 3)
    assert shadow.weights["shadow_agreement"] == 3
    assert shadow.gauges["shadow_max_difference"] == 1.0
    assert shadow.gauges["shadow_latency"] == pytest.approx(0.04, rel=0.05)
    traffic.compared("m", answer, {"z": np.array([2.0, 1.0])}, 0.01, 0.04)
    traffic.tick(1003.0)
    assert shadow.gauges["shadow_max_difference"] == float("inf")
    assert b"modelport_shadow_agreement_ratio" in metrics.render()
    # What is no longer in the plan, and what is not loaded, has no gauges.
    models.broken.add(("m", "2"))
    traffic.put("m", canary_of(0.5), now=1004.0)
    traffic.tick(1005.0)
    assert shadow.gauges == {} and metrics.model("m", "1").gauges == {"canary_weight": 0.5}
    traffic.clear("m", now=1006.0)
    traffic.tick(1007.0)
    assert metrics.model("m", "1").gauges == {}


def test_all_shadows_that_fail_have_no_latency(models: Models) -> None:
    metrics = Metrics()
    traffic = traffic_of(models, metrics=metrics)
    traffic.put("m", plan_of(shadow=Shadow(version="3")), now=1000.0)
    traffic.compared("m", {}, None, 0.01, 0.04)
    traffic.tick(1001.0)
    gauges = metrics.model("m", "3").gauges
    assert gauges["shadow_agreement"] == 0.0 and "shadow_latency" not in gauges


def test_the_models_of_a_repository(tmp_path: Path) -> None:
    entries = {
        "1": SimpleNamespace(model=object(), bundle=SimpleNamespace(path=tmp_path / "m" / "1")),
        "2": SimpleNamespace(model=None, bundle=SimpleNamespace(path=tmp_path / "m" / "2")),
    }

    def entry(name: str, version: str | None = None) -> Any:
        if name != "m" or version not in entries:
            raise NotFound(name)
        return entries[version]

    found = RepositoryVersions(
        SimpleNamespace(names=lambda: ["m"], versions=lambda name: list(entries), entry=entry)
    )
    assert found.names() == ["m"] and found.versions("m") == ["1", "2"]
    assert [found.ready("m", version) for version in ("1", "2", "3")] == [True, False, False]
    assert found.folder("m") == tmp_path / "m"
