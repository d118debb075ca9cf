"""The text that Prometheus reads: its grammar, its names, its labels, and what may never be among them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from modelport.monitor.exposition import OPENMETRICS, TEXT, families, render, wants_openmetrics
from modelport.monitor.metrics import Metrics
from modelport.monitor.process import Processes, Usage, read

from .test_metrics import busy


@pytest.fixture
def metrics() -> Metrics:
    """Two versions with counts of every kind."""
    metrics = Metrics()
    busy(metrics)
    busy(metrics, version="2").ready = False
    metrics.refused("unauthorized")
    return metrics


def values(text: str, name: str, **labels: str) -> list[float]:
    """The samples called `name` whose labels include `labels`."""
    return [
        sample.value
        for family in parse_text(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]


def test_what_was_counted_is_read_by_the_parser_of_another_house(metrics: Metrics) -> None:
    text = metrics.render().decode()
    assert values(text, "modelport_requests_total", version="1", outcome="answered") == [50]
    assert values(text, "modelport_requests_total", version="1", outcome="refused") == [2]
    assert values(text, "modelport_refused_total", version="1", reason="deadline") == [1]
    assert values(text, "modelport_refused_total", model="", reason="unauthorized") == [1]
    assert values(text, "modelport_failed_total", version="1", fault="model") == [1]
    assert values(text, "modelport_rows_total", version="1") == [100]
    assert values(text, "modelport_request_seconds_count", version="1") == [50]
    assert values(text, "modelport_stage_seconds_count", version="1", stage="queue") == [50]
    assert values(text, "modelport_batch_rows_bucket", version="1", le="8.0") == [3]
    assert values(text, "modelport_batch_rows_sum", version="1") == [49]
    assert values(text, "modelport_batch_seconds_count", version="1") == [4]
    assert values(text, "modelport_model_ready", version="1") == [1]
    assert values(text, "modelport_model_ready", version="2") == [0]
    assert values(text, "modelport_model_info", digest="abc", version="2") == [1]
    assert values(text, "modelport_waiting_rows", version="1") == [5]
    assert values(text, "modelport_executors", version="1") == [2]
    assert values(text, "modelport_golden_replay_ok", version="1") == [1]
    assert values(text, "modelport_golden_replays_total", version="1", result="ok") == [1]
    assert values(text, "modelport_canary_weight_ratio", version="1") == [0.1]
    assert values(text, "modelport_shadow_compared_total", version="1", result="agreed") == [7]


def test_histograms_are_cumulative_and_end_in_their_count(metrics: Metrics) -> None:
    text = metrics.render().decode()
    for name in ("modelport_request_seconds", "modelport_batch_seconds", "modelport_batch_rows"):
        counts = values(text, f"{name}_bucket", version="1")
        assert counts == sorted(counts) and counts[-1] == values(text, f"{name}_count", version="1")[0] > 0


def test_names_and_units_are_conventional(metrics: Metrics) -> None:
    for family in families(metrics):
        assert re.fullmatch(r"modelport_[a-z_]+", family.name), family.name
        assert family.documentation.endswith(".")
        assert not re.search(r"_(ms|us|milliseconds|total|count|sum|bucket|info)$", family.name)
        if family.type == "histogram":
            assert family.name.endswith(("_seconds", "_rows"))


def test_promtool_has_nothing_to_say(metrics: Metrics) -> None:
    if not shutil.which("promtool"):
        pytest.skip("promtool is not installed (it comes with prometheus)")
    text, _ = render(metrics, extra=Processes().families())
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


@pytest.mark.parametrize(
    ("accept", "openmetrics"),
    [
        ("", False),
        ("*/*", False),
        ("text/plain", False),
        ("application/openmetrics-text", True),
        # What Prometheus 2.4x and 3.x send.
        (
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
            "text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            True,
        ),
        (
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
            "text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
            True,
        ),
        ("text/plain;q=1,application/openmetrics-text;version=1.0.0;q=0.3", False),
        ("application/openmetrics-text;version=0.0.1", False),
        ("application/openmetrics-text;q=0", False),
        ("application/openmetrics-text;q=nan,text/plain", False),
        ("application/openmetrics-text;version=1.0.0\r\nx: y;q=zzz", False),
    ],
)
def test_the_format_is_the_one_that_was_asked_for(metrics: Metrics, accept: str, openmetrics: bool) -> None:
    assert wants_openmetrics(accept) == openmetrics
    body, kind = render(metrics, accept)
    assert kind == (OPENMETRICS if openmetrics else TEXT)
    assert body.endswith(b"# EOF\n") == openmetrics


def test_openmetrics_is_read_by_its_strict_parser(metrics: Metrics) -> None:
    body = metrics.render("application/openmetrics-text; version=1.0.0").decode()
    read_back = {family.name: family for family in parse_openmetrics(body)}
    assert read_back["modelport_request_seconds"].type == "histogram"
    assert read_back["modelport_requests"].type == "counter"


def test_hostile_names_stay_inside_their_label() -> None:
    metrics = Metrics()
    evil = 'a"} 1\nevil_total{x="\\'
    metrics.model(evil, "1").answered(0.1)
    text = metrics.render().decode()
    assert not re.search(r"^evil", text, re.M)
    assert values(text, "modelport_requests_total", model=evil, outcome="answered") == [1]


def test_the_series_of_a_version_are_a_fixed_number(metrics: Metrics) -> None:
    def lines() -> int:
        return metrics.render().count(b'version="1"')

    before = lines()
    for number in range(100):
        metrics.models()[0].refused(f"reason {number}")
        metrics.models()[0].answered(number / 10)
        metrics.models()[0].batch(number + 1, number / 10)
    assert lines() == before


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """A process that has used some processor time and waits."""
    code = "import sys; sum(range(3_000_000)); print(flush=True); sys.stdin.read()"
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def test_children_are_seen_and_what_they_used_stays_counted(child: subprocess.Popen[bytes]) -> None:
    if read(os.getpid()) is None:
        pytest.skip("no /proc here")
    pids = [child.pid]
    processes = Processes(lambda: {"executor": pids})
    server, executor = processes.usage()
    assert (server.role, server.processes) == ("server", 1)
    assert server.resident_bytes > 1 << 20 and server.open_fds > 2
    assert (executor.role, executor.processes) == ("executor", 1)
    assert executor.cpu_seconds > 0 and executor.resident_bytes > 1 << 20
    text, _ = render(Metrics(), extra=processes.families())
    assert values(text.decode(), "modelport_processes", role="executor") == [1]
    assert values(text.decode(), "process_resident_memory_bytes")[0] > 1 << 20
    child.kill()
    child.wait()
    _, gone = processes.usage()
    assert gone.processes == 0 == gone.resident_bytes and gone.cpu_seconds >= executor.cpu_seconds
    pids.clear()
    pids.append(os.getpid())
    assert processes.usage()[1].cpu_seconds > gone.cpu_seconds


def test_reading_the_figures_imports_no_web_framework() -> None:
    code = "import modelport.monitor.metrics, sys; print(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"prometheus_client", "starlette", "numpy", "onnxruntime"} & set(out.stdout.split())


def test_of_several_servers_what_was_written_down_is_told_and_no_more() -> None:
    """What a server took since then is lost where it dies: a counter that had it would fall."""
    said: list[Usage] = []
    processes = Processes(said=lambda: said)
    assert processes.usage()[0].cpu_seconds > 0, "nothing was said: this process alone"
    said += [Usage("server", 1, 0.25, 100, 3), Usage("executor", 1, 1.0), Usage("server", 1, 0.5, 50, 2)]
    assert processes.usage() == [Usage("server", 2, 0.75, 150, 5), Usage("executor", 1, 1.0)]
    assert said[0].processes == 1, "what was said stays"
