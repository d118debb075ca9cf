"""/metrics and /api/dashboard of the real server: what was done to it is what they say."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from modelport.monitor.histogram import BOUNDS
from modelport.serve.guard.keys import SCOPES, Keys, Scope, new_key, update

from ..colours import LABELS, pack_colours, picture, served


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One model that loads and one whose network is damaged."""
    folder = tmp_path_factory.mktemp("watch")
    repo = pack_colours(folder)
    pack_colours(folder, name="damaged")
    net = repo / "damaged" / "1" / "net.onnx"
    net.write_bytes(net.read_bytes()[:-1] + b"\x00")
    return repo


@pytest.fixture
def http(repo: Path) -> Iterator[httpx.Client]:
    """A client of a server that has counted nothing yet."""
    with served(repo) as (url, _), httpx.Client(base_url=url, timeout=30) as client:
        yield client


def value(text: str, name: str, **labels: str) -> float:
    """The sum of the samples called `name` whose labels include `labels`; there is one at least."""
    found = [
        sample.value
        for family in parse_text(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]
    assert found, (name, labels)
    return sum(found)


def version_of(http: httpx.Client, name: str) -> dict[str, Any]:
    versions = http.get("/api/dashboard").json()["versions"]
    found: dict[str, Any] = next(v for v in versions if v["figures"]["name"] == name)
    return found


def test_what_was_answered_is_counted_by_stage(http: httpx.Client) -> None:
    for number in range(12):
        assert http.post("/predict/colours", content=picture(LABELS[number % 3])).status_code == 200
    reply = http.get("/metrics")
    assert reply.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert reply.headers["cache-control"] == "no-store"
    text = reply.text
    assert value(text, "modelport_requests_total", model="colours", outcome="answered") == 12
    assert value(text, "modelport_request_seconds_count", model="colours") == 12
    whole = value(text, "modelport_request_seconds_sum", model="colours")
    for stage in ("decode", "queue", "pre", "net", "post"):
        assert 0 < value(text, "modelport_stage_seconds_sum", model="colours", stage=stage) < whole
    assert value(text, "modelport_batch_rows_sum", model="colours") == 12
    assert value(text, "modelport_model_ready", model="colours", version="1") == 1
    assert value(text, "modelport_golden_replay_ok", model="colours") == 1
    assert value(text, "modelport_executors", model="colours") >= 1
    assert value(text, "modelport_processes", role="server") == 1
    assert value(text, "modelport_processes", role="executor") >= 1
    assert value(text, "modelport_processes_cpu_seconds_total", role="executor") > 0


def test_the_dashboards_figures_are_the_same(http: httpx.Client) -> None:
    for colour in LABELS:
        http.post("/predict/colours", content=picture(colour))
    data = http.get("/api/dashboard").json()
    assert data["bounds"] == list(BOUNDS) and data["started"] < data["time"]
    assert data["rollout"] in (None, {})
    assert {p["role"] for p in data["processes"]} == {"server", "executor"}
    assert all(p["resident_bytes"] > 1 << 20 for p in data["processes"])
    version = version_of(http, "colours")
    assert (version["state"], version["answers"]) == ("READY", True)
    figures = version["figures"]
    assert figures["answered"] == figures["rows"] == 3 == sum(figures["latency"]["counts"])
    assert 0 < figures["latency"]["p50"] <= figures["latency"]["p99"]
    assert sum(size["rows"] * size["count"] for size in figures["batches"]) == 3
    damaged = version_of(http, "damaged")
    assert (damaged["state"], damaged["answers"]) == ("UNAVAILABLE", False)
    assert "net.onnx" in damaged["reason"]


def test_names_from_addresses_are_in_no_label(http: httpx.Client, repo: Path) -> None:
    def series() -> set[tuple[str, ...]]:
        return {
            (sample.name, *sorted(f"{k}={v}" for k, v in sample.labels.items()))
            for family in parse_text(http.get("/metrics").text)
            for sample in family.samples
        }

    http.post("/predict/colours", content=picture("red"))
    before = series()
    for number in range(50):
        evil = f"no-such-{number}"
        for path in (f"/predict/{evil}", f"/predict/colours/{evil}", f"/v2/models/{evil}/infer"):
            assert http.post(path, content=b"{}", headers={"x-request-id": evil}).status_code in (400, 404)
        http.get(f"/{evil}?{evil}={evil}")
    after = series()
    assert after == before
    assert not any("no-such" in part or str(repo) in part for labels in after for part in labels)


def test_openmetrics_where_it_is_asked_for(http: httpx.Client) -> None:
    reply = http.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert reply.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    names = {family.name for family in parse_openmetrics(reply.text)}
    assert {"modelport_requests", "modelport_stage_seconds", "process_resident_memory_bytes"} <= names


def test_promtool_has_nothing_to_say_of_a_real_server(http: httpx.Client) -> None:
    if not shutil.which("promtool"):
        pytest.skip("promtool is not installed (it comes with prometheus)")
    http.post("/predict/colours", content=picture("red"))
    done = subprocess.run(
        ["promtool", "check", "metrics"],
        input=http.get("/metrics").content,
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


def test_the_figures_need_a_key_where_there_are_keys(repo: Path, tmp_path: Path) -> None:
    shown: dict[str, str] = {}
    for scope in SCOPES:

        def add(keys: Keys, scope: Scope = scope) -> Keys:
            keys, shown[scope] = new_key(scope, (scope,), keys=keys)
            return keys

        update(tmp_path / "keys.json", add)
    with (
        served(repo, "--keys", str(tmp_path / "keys.json")) as (url, _),
        httpx.Client(base_url=url, timeout=30) as http,
    ):
        assert http.get("/dashboard").status_code == 200
        for path in ("/metrics", "/api/dashboard", "/monitoring/prometheus/metrics"):
            assert http.get(path).status_code == 401
            for scope, key in shown.items():
                reply = http.get(path, headers={"Authorization": f"Bearer {key}"})
                assert reply.status_code == (200 if scope == "metrics" else 403)
