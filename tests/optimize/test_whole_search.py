"""A search from the command line with a small budget: what it tries, what it reports, and what is served."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import pytest

from modelport.bundle.store import Bundle
from modelport.cli.main import run
from modelport.optimize.clock import SPENT
from modelport.optimize.measure import BATCHES
from modelport.runtimes.pipeline import Pipeline

from ..colours import served
from .networks import LABELS, pictures
from .test_search import what_passes_is_faster

SCHEMA = Path(__file__).parents[2] / "docs" / "reference" / "optimize-report.schema.json"
BUDGET = 12
LATE = re.compile(rf"not tried: (the last \d+ s of the time budget are kept for measuring|{SPENT})")


@pytest.fixture(scope="module")
def data(place: Path) -> Path:
    return pictures(place / "pictures", 90)


@pytest.fixture(scope="module")
def report(start: Bundle, data: Path) -> dict[str, Any]:
    """What the search wrote, beside the bundle in its repository."""
    words = ["optimize", str(start.path), "--data", str(data), "--eval", str(data), "--budget", f"{BUDGET}s"]
    with pytest.MonkeyPatch.context() as patch:
        what_passes_is_faster(patch)
        repository = start.path.parents[1]
        assert run([*words, "--gate", "estimate", "--max-drop", "2", "-o", str(repository)]) == 0
    folder = start.path.with_name("2.report")
    found: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return found


def test_a_small_budget_tries_something_and_says_what_it_had_no_time_for(report: dict[str, Any]) -> None:
    tried = [each["id"] for each in report["entries"] if each["judgement"] is not None]
    late = [each["id"] for each in report["entries"] if LATE.fullmatch(each["reason"])]
    assert "static-int8-minmax-u8s8" in tried
    assert "ort-offline" in late and not set(tried) & set(late)
    assert {each["status"] for each in report["entries"] if each["id"] in late} == {"skipped"}
    assert report["asked"]["seconds"] == BUDGET and 0 < report["seconds"] < 10 * BUDGET


def test_the_report_has_every_figure_of_all_that_passed(report: dict[str, Any], start: Bundle) -> None:
    jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text())).validate(report)
    by_status = {each["id"]: each["status"] for each in report["entries"]}
    assert by_status["start"] == "start" and by_status[report["chosen"]] == "chosen"
    measured = [each for each in report["entries"] if each["figures"] is not None]
    passed = {name for name, status in by_status.items() if status in ("start", "chosen", "kept", "tie")}
    assert passed <= {each["id"] for each in measured}
    for entry in measured:
        own = entry["figures"]
        assert 0 < own["p50_ms"] <= own["p95_ms"]
        rate, ratio = own["throughput_interval"], own["ratio"]
        assert 0 < rate["low"] <= own["throughput"] + 0.01 and own["throughput"] - 0.01 <= rate["high"]
        assert 0 < ratio["low"] <= ratio["value"] <= ratio["high"]
        assert own["batch"] in BATCHES
        assert own["peak_bytes"] > own["size_bytes"] > 0 and own["start_seconds"] > 0
        assert f"{start.path.parent}/2.report {entry['id']}" in entry["command"]
    by_id = {each["id"]: each["figures"] for each in measured}
    assert by_id["start"]["ratio"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert by_id["start"]["size_bytes"] == len(start.graph("net"))
    new = Bundle.open(start.path.with_name("2"))
    for variant in new.manifest.variants:
        assert len(new.read(variant.file)) == by_id[variant.name]["size_bytes"]


def test_the_server_answers_with_the_variant_that_was_chosen(
    report: dict[str, Any], start: Bundle, data: Path
) -> None:
    new = Bundle.open(start.path.with_name("2"))
    items = {label: next((data / label).iterdir()).read_bytes() for label in LABELS}
    with (
        served(start.path.parents[1], "--executors", "1") as (url, _),
        httpx.Client(base_url=url, timeout=60) as http,
    ):
        about = http.get("/api/models/colours").json()
        answers = {label: http.post("/predict/colours", content=item) for label, item in items.items()}
        metrics = http.get("/metrics").text
    variant = next(each for each in new.manifest.variants if each.name == report["chosen"])
    assert (about["version"], about["variant"], about["runtime"]) == ("2", variant.name, variant.runtime)
    assert f'variant="{variant.name}"' in next(
        line for line in metrics.splitlines() if line.startswith("modelport_model_info{")
    )
    with Pipeline.open(new, variant=variant.name) as pipeline:
        for label, reply in answers.items():
            best = reply.json()["answer"][0]
            scores = pipeline.answer(pipeline.decode(items[label]))["scores"]
            assert best["label"] == label
            assert best["score"] == pytest.approx(float(scores.max()), abs=1e-5)
