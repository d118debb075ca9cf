"""The Grafana dashboard asks only for what is there: by name, by label, and of a real Prometheus."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse_text

from modelport.cli.main import run
from modelport.monitor.exposition import render
from modelport.monitor.metrics import Metrics
from modelport.monitor.process import Processes

from ..colours import LABELS, pack_colours, picture, served
from .test_metrics import busy

FILE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "grafana-modelport.json"
DASHBOARD: dict[str, Any] = json.loads(FILE.read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
QUERIES = [(panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"]]
ON_DEMAND = {"Refused, by reason", "Failed, by fault", "Versions ready"}
"""Panels with a query that has no answer while all is well."""


def filled(query: str) -> str:
    """A query as Grafana sends it with every model and version chosen."""
    return query.replace("$model", ".*").replace("$version", ".*").replace("$__rate_interval", "10s").strip()


def exposed() -> dict[str, set[str]]:
    """Every name in an exposition, with the labels that it has."""
    metrics = Metrics()
    model = busy(metrics)
    model.gauge("shadow_max_difference", 0.1)
    text, _ = render(metrics, extra=Processes().families())
    found: dict[str, set[str]] = {}
    for family in parse_text(text.decode()):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def test_every_metric_and_label_that_is_asked_for_is_exposed() -> None:
    there = exposed()
    for title, query in QUERIES:
        names = re.findall(r"\b(?:modelport|process)_\w+", query)
        assert names, title
        known = {"le"}
        for name in names:
            assert name in there, (title, name)
            known |= there[name]
        inside = re.findall(r"[{,](\w+)[!=]~?", query)
        grouped = re.findall(r"(?:by|ignoring)\s*\(([\w, ]+)\)", query)
        asked = {*inside, *(label.strip() for group in grouped for label in group.split(","))}
        assert asked <= known, (title, asked - known)


def test_legends_name_labels_that_the_query_keeps() -> None:
    for panel in PANELS:
        for target in panel["targets"]:
            wanted = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            by = re.search(r"by \(([\w, ]+)\)", target["expr"])
            if by:
                assert wanted <= {label.strip() for label in by[1].split(",")} - {"le"}, panel["title"]
            else:
                assert wanted <= {"model", "version"}, panel["title"]


def test_every_metric_of_a_model_is_on_the_dashboard() -> None:
    text = " ".join(query for _, query in QUERIES)
    for name in exposed():
        family = re.sub(r"_(bucket|sum|count|total)$", "", name)
        facts = ("modelport_build_info", "modelport_model_info", "modelport_start_time_seconds")
        if name.startswith("modelport_") and name not in facts:
            assert family in text, name


def test_panels_do_not_overlap_and_have_unique_ids() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert place["x"] + place["w"] <= 24 and not cells & taken, panel["title"]
        taken |= cells
        assert panel["type"] == "row" or panel["description"].endswith(".")


def test_the_queries_are_promql(tmp_path: Path) -> None:
    if not shutil.which("promtool"):
        pytest.skip("promtool is not installed (it comes with prometheus)")
    rules = [
        {"record": f"query_{number}", "expr": filled(query)} for number, (_, query) in enumerate(QUERIES)
    ]
    file = tmp_path / "rules.json"  # JSON is YAML
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    done = subprocess.run(
        ["promtool", "check", "rules", str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(QUERIES)} rules found" in done.stdout


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextmanager
def prometheus(folder: Path, target: str) -> Iterator[str]:
    """A real Prometheus that asks `target` every second: its address."""
    if not shutil.which("prometheus"):
        pytest.skip("prometheus is not installed (apt install prometheus)")
    scrape = {"job_name": "modelport", "scrape_interval": "1s", "static_configs": [{"targets": [target]}]}
    (folder / "prometheus.yml").write_text(json.dumps({"scrape_configs": [scrape]}))
    address = f"127.0.0.1:{free_port()}"
    process = subprocess.Popen(
        [
            "prometheus",
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={address}",
            "--log.level=error",
        ]
    )
    try:
        yield f"http://{address}"
    finally:
        process.terminate()
        assert process.wait(60) is not None


def asked(address: str, query: str) -> list[dict[str, Any]]:
    """The series that a query gives now; none while Prometheus starts."""
    url = f"{address}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
    try:
        with urllib.request.urlopen(url, timeout=10) as reply:
            answer = json.load(reply)
    except ConnectionError:
        return []
    except urllib.error.HTTPError as problem:
        if problem.code == 503:
            return []
        raise AssertionError(f"{query}: {problem.read().decode()}") from problem
    except urllib.error.URLError as problem:
        if isinstance(problem.reason, ConnectionError):
            return []
        raise
    assert answer["status"] == "success"
    found: list[dict[str, Any]] = answer["data"]["result"]
    return found


def eventually(address: str, query: str) -> list[dict[str, Any]]:
    """The series of a query as soon as there are any."""
    for _ in range(120):
        found = asked(address, query)
        if found:
            return found
        time.sleep(0.25)
    raise AssertionError(f"no answer to {query}")


@contextmanager
def traffic(url: str) -> Iterator[list[int]]:
    """Some requests a second until the block ends; how many were answered."""
    stop, answered = threading.Event(), [0]
    pictures = [picture(colour) for colour in LABELS]

    def ask() -> None:
        while not stop.wait(0.02):
            request = urllib.request.Request(url, data=pictures[answered[0] % 3])
            with urllib.request.urlopen(request, timeout=30) as reply:
                assert reply.status == 200
            answered[0] += 1

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield answered
    finally:
        stop.set()
        thread.join(30)


def test_a_real_prometheus_gets_the_numbers_and_answers_every_panel(tmp_path: Path) -> None:
    pack_colours(tmp_path, version="1")
    repo = pack_colours(tmp_path, version="2")
    plan = ["--stable", "1", "--canary", "2", "--weight", "0.3", "--shadow", "2"]
    assert run(["rollout", str(repo / "colours"), *plan]) == 0
    with served(repo) as (url, _), prometheus(tmp_path, url.removeprefix("http://")) as address:
        eventually(address, 'up{job="modelport"} == 1')
        with traffic(f"{url}/predict/colours") as answered:
            eventually(address, "sum(rate(modelport_request_seconds_count[10s])) > 0")
            eventually(address, "modelport_shadow_agreement_ratio == 1")
            for title, query in QUERIES:
                if title in ON_DEMAND:
                    asked(address, filled(query))
                    continue
                found = eventually(address, filled(query))
                assert all(series["value"][1] != "NaN" for series in found), title
        # The shadow answers too, and is counted where it did.
        count = 'sum(modelport_requests_total{model="colours",outcome="answered"})'
        shadowed = 'sum(modelport_shadow_compared_total{model="colours"})'
        eventually(address, f"{count} - {shadowed} == {answered[0]}")
