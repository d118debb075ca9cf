"""Bundles of tables and texts are optimized as well, and what a report says can be measured again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import modelport
from modelport.bundle.store import Bundle
from modelport.cli.main import run
from modelport.errors import InputError, NotFound
from modelport.optimize import search as searching
from modelport.optimize.calibration import read_calibration
from modelport.optimize.outcome import Report
from modelport.optimize.passes.half import Half
from modelport.optimize.passes.int8 import StaticInt8
from modelport.optimize.plan import Plan
from modelport.optimize.repeat import read_report, repeat
from modelport.optimize.run import optimize
from modelport.optimize.search import Search
from modelport.runtimes.pipeline import Pipeline

from ..tables import networks as tables
from ..text import networks as texts

ROWS = 60


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rows")


@pytest.fixture(scope="module")
def houses(place: Path) -> Bundle:
    (place / "houses.toml").write_text(tables.HOUSES)
    network = tables.regressor(place / "houses.onnx")
    return modelport.pack(network, out=place / "repo", recipe=place / "houses.toml")


@pytest.fixture(scope="module")
def rows(place: Path) -> Path:
    random = np.random.default_rng(4)
    lines = ["rooms,age,income,near,garden,price"]
    for _ in range(ROWS):
        rooms, age, income = random.uniform(1, 9), int(random.integers(0, 60)), random.uniform(1, 9)
        garden = bool(random.integers(0, 2))
        price = 10 * rooms - age + 20 * income + 3 * garden + 50 + random.normal(0, 5)
        lines.append(f"{rooms:.2f},{age},{income:.2f},INLAND,{str(garden).lower()},{price:.2f}")
    path = place / "houses.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def report(houses: Bundle, rows: Path, place: Path) -> Report:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Search, "bases", lambda self: iter(()))
        patch.setattr(Search, "passes", lambda self: iter([Half(), StaticInt8()]))
        patch.setattr(searching, "ways", lambda candidate: iter(()))
        plan = Plan(gate="estimate", margin=5.0, evaluation={"target": "price"})
        return optimize(houses, rows, out=place / "out", labelled=rows, plan=plan)


def test_rows_of_a_table_are_calibrated_and_judged(report: Report) -> None:
    assert report.items == ROWS
    by_id = {entry.id: entry for entry in report.entries}
    for name in ("fp16", "static-int8-minmax-u8s8"):
        judgement = by_id[name].judgement
        assert judgement is not None and judgement.metric == "rmse" and judgement.items == ROWS
    assert by_id["fp16"].status != "refused"


def test_rows_are_prepared_as_the_network_takes_them(houses: Bundle, rows: Path) -> None:
    found = read_calibration(houses, rows)
    assert len(found.prepared) == ROWS and len({item["x"].shape for item in found.prepared}) == 1
    batch = next(found.batches(4))
    assert batch["x"].shape[0] == 4


def test_texts_are_searched_from_beginning_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Search, "passes", lambda self: iter([Half(), StaticInt8()]))
    monkeypatch.setattr(searching, "ways", lambda candidate: iter(()))
    (tmp_path / "words.txt").write_text("\n".join(texts.WORDS) + "\n", encoding="utf-8")
    (tmp_path / "mood.toml").write_text(texts.MOOD)
    network = texts.mood(tmp_path / "mood.onnx")
    bundle = modelport.pack(network, out=tmp_path / "repo", recipe=tmp_path / "mood.toml")
    random = np.random.default_rng(0)
    films = [" ".join(random.choice(["good", "bad", "film", "dull", "a"], 6)) for _ in range(ROWS)]
    with Pipeline.open(bundle) as pipeline:
        moods = [pipeline.answer(pipeline.decode(text.encode()))["labels"].ravel()[0] for text in films]
    data = tmp_path / "films.csv"
    data.write_text("\n".join(["text,mood", *map(",".join, zip(films, moods, strict=True))]) + "\n")
    command = ["optimize", str(bundle.path), "--data", str(data), "--eval", str(data), "--column", "mood"]
    code = run([*command, "--gate", "estimate", "-o", str(tmp_path / "out"), "--json"])
    found = json.loads(capfd.readouterr().out)
    by_id = {entry["id"]: entry for entry in found["entries"]}
    assert found["items"] == ROWS and code == (0 if found["written"] else 1)
    assert by_id["fp16"]["judgement"]["metric"] == "accuracy" and by_id["fp16"]["judgement"]["loss"] == 0
    assert by_id["fp16"]["figures"]["batch"] >= 1 and by_id["start"]["figures"]["p50_ms"] > 0
    rate = by_id["fp16"]["figures"]["throughput_interval"]
    assert rate["low"] <= by_id["fp16"]["figures"]["throughput"] + 0.01 and rate["value"] <= rate["high"]
    assert by_id["static-int8-minmax-u8s8"]["reason"].startswith("it has none of Conv")
    assert all(by_id[name]["reason"] for name in ("unused", "static-shapes", "simplify"))
    bundle.verify_files()
    assert (tmp_path / "out" / "mood" / "2.report" / "report.html").is_file()


def test_what_a_report_says_is_measured_again(report: Report, place: Path) -> None:
    folder = place / "out" / "houses" / "2.report"
    kept = read_report(folder)
    assert kept == read_report(folder / "report.json")
    entry = next(entry for entry in kept.entries if entry.id == "fp16")
    assert entry.command.endswith("2.report fp16") and entry.command.startswith("modelport repeat ")
    again = repeat(kept, "fp16")
    assert again.judgement == entry.judgement
    assert again.figures.size_bytes == (entry.figures.size_bytes if entry.figures else 0)
    start = next(each.figures for each in kept.entries if each.id == "start")
    assert start is not None and again.start_throughput_before == start.throughput
    assert again.start_throughput > 0
    with pytest.raises(NotFound, match="no candidate 'nothing'"):
        repeat(kept, "nothing")
    (place / "other.json").write_text("[]")
    with pytest.raises(InputError, match="no report of optimize"):
        read_report(place / "other.json")
    assert run(["repeat", str(place / "missing.json")]) == 3


def test_the_report_is_what_its_schema_says(report: Report, place: Path) -> None:
    import jsonschema

    written = json.loads((place / "out" / "houses" / "2.report" / "report.json").read_text())
    assert written["entries"][0]["id"] == report.entries[0].id

    schema = Path(__file__).parents[2] / "docs" / "reference" / "optimize-report.schema.json"
    jsonschema.Draft202012Validator(json.loads(schema.read_text())).validate(written)
