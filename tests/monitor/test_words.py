"""What the documentation says of metrics and alerts is so."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from modelport.monitor.declared import COUNTERS, FAULTS, REASONS, STAGES
from modelport.monitor.exposition import render
from modelport.monitor.metrics import Metrics
from modelport.monitor.process import Processes

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "how-to" / "watch.md").read_text()
ROWS = dict(re.findall(r"^\| `(modelport_\w+)` \| (.*) \|$", PAGE, re.M))


def exposed() -> set[str]:
    text, _ = render(Metrics(), extra=Processes().families())
    return set(re.findall(r"^# TYPE (modelport_\w+) ", text.decode(), re.M))


def test_every_metric_is_in_the_table_and_nothing_else() -> None:
    assert set(ROWS) == exposed()


def test_the_labels_values_are_those_that_there_are() -> None:
    for metric, values in {
        "modelport_refused_total": REASONS,
        "modelport_failed_total": FAULTS,
        "modelport_stage_seconds": STAGES,
        "modelport_requests_total": ("answered", "refused", "failed"),
        **{
            f"{metric}_total": tuple(c.result for c in COUNTERS.values() if c.metric == metric)
            for metric in {counter.metric for counter in COUNTERS.values()}
        },
    }.items():
        assert f": {', '.join(values)} |" in ROWS[metric], metric


def test_the_alerts_are_rules_that_prometheus_takes(tmp_path: Path) -> None:
    if not shutil.which("promtool"):
        pytest.skip("promtool is not installed (it comes with prometheus)")
    (block,) = re.findall(r"```yaml\n(groups:\n.*?)```", PAGE, re.S)
    file = tmp_path / "alerts.yml"
    file.write_text(block)
    done = subprocess.run(
        ["promtool", "check", "rules", str(file)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and "5 rules found" in done.stdout, done.stdout + done.stderr
    assert set(re.findall(r"modelport_\w+?(?=_bucket|\b)", block)) <= exposed()
