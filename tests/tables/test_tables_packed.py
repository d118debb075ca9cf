"""Tables from packing to the command line: golden cases, verify, inspect, predict, evaluate."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import modelport
from modelport.bundle.store import Bundle
from modelport.cli.main import run
from modelport.errors import UsageError
from modelport.runtimes.pipeline import Pipeline

from . import networks

HOUSE = {"rooms": 3, "age": 3, "near": "ISLAND", "garden": True}


def price(rooms: float, age: int, income: float, near: int, garden: int) -> float:
    """What the regressor computes."""
    return 10 * rooms - age + 20 * income + 5 * near + 3 * garden + 50


def test_a_table_is_packed_with_its_columns_and_replays(tables: Path) -> None:
    bundle = Bundle.open(tables / "houses")
    manifest = bundle.manifest
    assert manifest.decode.kind == "table"
    assert [column.name for column in manifest.columns] == ["rooms", "age", "income", "near", "garden"]
    assert manifest.steps.pre == ({"vector": {"dtype": "float32"}},)
    assert [spec.name for spec in manifest.inputs] == [column.name for column in manifest.columns]
    assert modelport.verify(bundle).ok
    assert manifest.golden is not None and manifest.golden.generated
    with Pipeline.open(bundle) as pipeline:
        row = pipeline.decode(json.dumps(HOUSE).encode())
        assert pipeline.answer(row)["value"] == price(3, 3, 0, 2, 1)


def test_columns_go_to_inputs_of_their_names_whatever_their_type(tables: Path) -> None:
    bundle = Bundle.open(tables / "people")
    inputs = bundle.manifest.graphs.net.signature.inputs
    assert [(spec.name, spec.dtype) for spec in inputs] == [("net_age", "float32"), ("job", "string")]
    with Pipeline.open(bundle) as pipeline:
        answer = pipeline.answer(pipeline.decode(b'{"age": 40, "job": "smith"}'))
        chance = 1 / (1 + np.exp(-2.0))
        assert answer["labels"].tolist() == ["yes", "no"]
        np.testing.assert_allclose(answer["scores"], [chance, 1 - chance], rtol=1e-6)
        # Not seen in training, and the network takes it.
        assert pipeline.answer(pipeline.decode(b'{"age": 40, "job": "pilot"}'))["scores"][0] == 0.5


def test_many_rows_are_prepared_together_as_the_graph_prepares_each(tables: Path) -> None:
    with Pipeline.open(tables / "flowers") as pipeline:
        items = [pipeline.decode(f"{4 + i % 4},{2 + i % 3}".encode()) for i in range(3000)]
        together = pipeline.answer_many(items)
        for place in (0, 1, 1500, 2999):
            alone = pipeline.post(pipeline.net({n: a[None] for n, a in pipeline.pre(items[place]).items()}))
            for name, array in together[place].items():
                np.testing.assert_array_equal(array, alone[name][0])


def test_golden_rows_come_from_the_users_csv(tmp_path: Path) -> None:
    (tmp_path / "houses.toml").write_text(networks.HOUSES)
    lines = [f"{1 + i % 9},{i % 90},{i / 7:.4f},INLAND,{i % 2},{i}" for i in range(50)]
    (tmp_path / "rows.csv").write_text("\n".join(["rooms,age,income,near,garden,price", *lines]))
    network = networks.regressor(tmp_path / "houses.onnx")
    bundle = modelport.pack(
        network, out=tmp_path / "repo", recipe=tmp_path / "houses.toml", golden=tmp_path / "rows.csv"
    )
    golden = bundle.manifest.golden
    assert golden is not None and not golden.generated
    assert len(golden.cases) == 16
    assert json.loads(bundle.read(golden.cases[0].input)) == {
        "rooms": 1, "age": 0, "income": 0.0, "near": "INLAND", "garden": False,
    }  # fmt: skip
    (tmp_path / "wrong.csv").write_text("rooms,age,income,near,garden\n1,200,1,INLAND,1\n")
    with pytest.raises(modelport.errors.InputError, match=r"200.*wrong.csv:2"):
        modelport.pack(
            network,
            out=tmp_path / "repo",
            name="b",
            recipe=tmp_path / "houses.toml",
            golden=tmp_path / "wrong.csv",
        )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (('dtype = "bool"', 'dtype = "boolean"'), "boolean"),
        (('[[columns]]\nname = "garden"\ndtype = "bool"\ntypical = true\n', ""), r"5\] .*|float32\[4\]"),
        (("typical = 28", "typical = 280"), "beyond its range"),
        (('pre = ["vector"', 'pre = ["lower"'), "first step of a table"),
    ],
)
def test_recipes_that_do_not_fit_are_refused(tmp_path: Path, change: tuple[str, str], said: str) -> None:
    text = networks.HOUSES.replace("post = [", 'pre = ["vector"]\npost = [', 1).replace(*change)
    (tmp_path / "houses.toml").write_text(text)
    with pytest.raises(UsageError, match=said):
        modelport.pack(
            networks.regressor(tmp_path / "houses.onnx"),
            out=tmp_path / "repo",
            recipe=tmp_path / "houses.toml",
        )


def test_a_table_without_columns_asks_for_them(tmp_path: Path) -> None:
    (tmp_path / "bare.toml").write_text(
        'task = "tabular-regression"\npost = [{predicted = {}}]\n[decode]\nkind = "table"'
    )
    with pytest.raises(UsageError, match="needs columns"):
        modelport.pack(
            networks.regressor(tmp_path / "houses.onnx"), out=tmp_path / "repo", recipe=tmp_path / "bare.toml"
        )


def test_inspect_shows_the_columns(tables: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", str(tables / "houses")]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "rooms: float32, a number from 1 to 40, typically 5 — Rooms in the block, per household" in shown
    assert 'near: string, one of INLAND, NEAR BAY, ISLAND, or nothing, typically "INLAND"' in shown


def lines_of(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """The JSON lines that were printed."""
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_predict_answers_files_of_rows(
    tables: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = tmp_path / "rows.csv"
    rows.write_text(
        "id,rooms,age,income,near,garden,value\na,3,3,,ISLAND,yes,1\nb,3,400,,ISLAND,0,2\nc,4,3,1,INLAND,0,3\n"
    )
    saved = tmp_path / "out" / "answers.csv"
    assert run(["predict", str(tables / "houses"), str(rows), "--json", "--save", str(saved)]) == 3
    first, second, third = lines_of(capsys)
    assert (first["row"], first["answer"]) == (2, {"value": price(3, 3, 0, 2, 1)})
    assert second["error"] == (
        "the column 'age' takes a whole number from 0 to 120, got 400, which is out of range"
    )
    assert third["answer"] == {"value": price(4, 3, 1, 0, 0)}
    with saved.open() as file:
        kept = list(csv.DictReader(file))
    assert [row["id"] for row in kept] == ["a", "b", "c"]
    assert [row["value"] for row in kept] == ["1", "2", "3"]
    assert float(kept[0]["predicted_value"]) == price(3, 3, 0, 2, 1)
    assert kept[1]["error"]

    for name, text in {
        "row.json": json.dumps(HOUSE),
        "rows.json": json.dumps([HOUSE]),
        "rows.jsonl": json.dumps(HOUSE) + "\n",
        "columns.json": json.dumps({key: [value] for key, value in HOUSE.items()}),
        "bare.csv": "3,3,,ISLAND,1",
    }.items():
        (tmp_path / name).write_text(text)
        assert run(["predict", str(tables / "houses"), str(tmp_path / name), "--json"]) == 0, name
        (line,) = lines_of(capsys)
        assert line["answer"] == {"value": price(3, 3, 0, 2, 1)}
    assert run(["predict", str(tables / "houses"), "--row", json.dumps(HOUSE)]) == 0
    assert f"{price(3, 3, 0, 2, 1):g}" in capsys.readouterr().out

    import io
    import sys

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(json.dumps(HOUSE).encode() + b"\n")))
    assert run(["predict", str(tables / "houses"), "-", "--json"]) == 0
    assert lines_of(capsys)[0]["answer"] == {"value": price(3, 3, 0, 2, 1)}


def test_files_of_rows_are_found_by_folder_and_glob(
    tables: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "row.json").write_text(json.dumps(HOUSE))
    (tmp_path / "empty").mkdir()
    pattern, empty = str(tmp_path / "*.csv"), str(tmp_path / "empty")
    assert run(["predict", str(tables / "houses"), pattern, str(tmp_path / "*.json"), empty, "--json"]) == 3
    first, second, third = lines_of(capsys)
    assert first["error"] == f"nothing matches {pattern}"
    assert second["answer"] == {"value": price(3, 3, 0, 2, 1)}
    assert third["error"].startswith(f"nothing matches {empty}: no .")
    assert run(["predict", str(tables / "houses"), empty]) == 3
    printed = capsys.readouterr()
    assert "nothing matches" in printed.err
    assert not printed.out


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--text", "hello"], 2, "takes rows, not texts"),
        (["--row", "{}", "--save-txt", "x"], 2, "--save-txt is for pictures"),
        (["nothing.csv"], 3, "no such file"),
        ([], 2, "Missing argument"),
    ],
)
def test_predict_refuses_what_makes_no_sense(
    tables: Path, arguments: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["predict", str(tables / "houses"), *arguments]) == code
    out = capsys.readouterr()
    assert said in out.out + out.err


def test_evaluate_measures_a_table(tables: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    random = np.random.default_rng(1)
    rows, truth, answers = [], [], []
    for _ in range(60):
        rooms, age = float(random.integers(1, 20)), int(random.integers(0, 100))
        wanted = price(rooms, age, 0, 0, 1) + float(random.normal(0, 10))
        rows.append(f"{rooms},{age},,INLAND,1,{wanted}")
        truth.append(wanted)
        answers.append(price(rooms, age, 0, 0, 1))
    data = tmp_path / "houses.csv"
    data.write_text("\n".join(["rooms,age,income,near,garden,price", *rows]))
    assert run(["evaluate", str(tables / "houses"), "--data", str(data), "--bootstrap", "0", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    error = np.array(answers) - np.array(truth)
    assert found["task"] == "regression"
    assert found["metrics"]["rmse"]["value"] == pytest.approx(np.sqrt((error**2).mean()), rel=1e-5)
    assert found["metrics"]["mae"]["value"] == pytest.approx(np.abs(error).mean(), rel=1e-5)


def test_evaluate_gives_log_loss_and_auc_as_scikit_learn_does(tables: Path, tmp_path: Path) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    random = np.random.default_rng(2)
    ages = random.integers(0, 120, 80)
    truth = (random.random(80) < 1 / (1 + np.exp(1 - ages * 0.05))).astype(int)
    data = tmp_path / "people.jsonl"
    data.write_text(
        "".join(
            json.dumps({"age": int(age), "job": "baker", "label": ["no", "yes"][said]}) + "\n"
            for age, said in zip(ages, truth, strict=True)
        )
    )
    found = modelport.evaluate(tables / "people", data, replicates=0)
    chance = 1 / (1 + np.exp(-(ages * 0.05 + 1 - 2)))
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(truth, chance > 0.5))
    assert found["auc"] == pytest.approx(metrics.roc_auc_score(truth, chance))
    assert found["log_loss"] == pytest.approx(metrics.log_loss(truth, chance), rel=1e-5)
    assert found["f1"] == pytest.approx(metrics.f1_score(truth, chance > 0.5, average="macro"))
