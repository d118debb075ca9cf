"""Files of scikit-learn and of boosted trees, packed as a user packs them: trusted or not, whole or not."""

from __future__ import annotations

import importlib
import json
import os
import pickle
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.compose import make_column_transformer
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from modelport.bundle.store import Bundle
from modelport.cli.main import run
from modelport.errors import InputError, ModelportError, Unsupported
from modelport.importers.pack import pack
from modelport.importers.sklearn import SklearnImporter
from modelport.importers.source import Permission, find_importer
from modelport.isolation.child.converter import NotConverted, Refused
from modelport.isolation.child.sklearn_pipeline import Converter

from .tables import answers, table, values

pytestmark = pytest.mark.frameworks

TRUSTED = Permission(trust=True)


class Attack:
    """What runs a program where it is opened."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("echo attacked > attacked",)


def skops_io() -> Any:
    """Not imported above: it imports all of scikit-learn, and torch, in every process that collects tests."""
    return importlib.import_module("skops.io")


def pipeline(last: Any = None) -> Any:
    rows = table()
    columns = make_column_transformer(
        (make_pipeline(SimpleImputer(), StandardScaler()), ["age", "income"]),
        (make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder()), ["city"]),
        sparse_threshold=0,
    )
    target = answers(rows, 3) if last is None else values(rows)
    return make_pipeline(columns, last or LogisticRegression(max_iter=500)).fit(rows, target)


def rows_file(folder: Path, count: int = 20) -> Path:
    path = folder / "rows.csv"
    table(count, seed=5)[["age", "income", "city"]].to_csv(path, index=False)
    return path


def test_a_skops_file_needs_no_trust_and_gives_the_columns(tmp_path: Path) -> None:
    skops_io().dump(pipeline(), tmp_path / "people.skops")
    told: list[str] = []
    bundle = pack(
        tmp_path / "people.skops", out=tmp_path / "repo", golden=rows_file(tmp_path), progress=told.append
    )
    manifest = bundle.manifest
    assert manifest.task == "tabular-classification" and manifest.decode.kind == "table"
    assert [column.name for column in manifest.columns] == ["age", "income", "city"]
    city = manifest.columns[2]
    assert city.categories == ("Bonn", "Köln", "Ulm", "Zürich") and city.missing and not city.unseen
    assert bundle.labels() == ("c0", "c1", "c2")
    assert manifest.lineage.source.format == "skops"
    assert any("256 of 256 answers agree" in note for note in told)
    assert any("were left out: visits, member, floor" in note for note in told)


def test_the_packed_rows_are_answered_as_by_the_pipeline(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, file = pipeline(), rows_file(tmp_path)
    skops_io().dump(model, tmp_path / "people.skops")
    pack(tmp_path / "people.skops", out=tmp_path / "repo", golden=file)
    assert run(["predict", str(tmp_path / "repo" / "people"), str(file), "--json"]) == 0
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    said = [row["answer"][0]["label"] for row in printed]
    assert said == model.predict(table(20, seed=5)).tolist()


def test_a_number_is_predicted(tmp_path: Path) -> None:
    joblib.dump(pipeline(Ridge()), tmp_path / "spending.joblib", compress=("gzip", 3))
    bundle = pack(tmp_path / "spending.joblib", out=tmp_path / "repo", permission=TRUSTED)
    assert bundle.manifest.task == "tabular-regression"
    assert [spec.name for spec in bundle.manifest.graphs.post.signature.outputs] == ["value"]


def test_a_fitted_object_is_packed(tmp_path: Path) -> None:
    bundle = pack(pipeline(), out=tmp_path, name="people")
    assert bundle.labels() == ("c0", "c1", "c2")
    assert isinstance(find_importer(pipeline()), SklearnImporter)


def test_texts_are_told_apart(tmp_path: Path) -> None:
    texts = ["a good film", "a bad film", "good and warm", "dull and bad"] * 5
    model = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(texts, ["up", "down"] * 10)
    skops_io().dump(model, tmp_path / "films.skops")
    bundle = pack(tmp_path / "films.skops", out=tmp_path / "repo")
    assert bundle.manifest.task == "text-classification" and bundle.manifest.decode.kind == "text"
    assert Bundle.open(bundle.path).labels() == ("down", "up")


@pytest.mark.parametrize("compress", [0, ("zlib", 3), ("xz", 3)], ids=str)
def test_a_pickle_is_refused_with_what_it_names(compress: Any, tmp_path: Path) -> None:
    path = tmp_path / "people.joblib"
    joblib.dump(pipeline(), path, compress=compress)
    with pytest.raises(Unsupported, match=r"opening it runs what it names \(sklearn") as refused:
        pack(path, out=tmp_path / "repo")
    assert "sklearn.pipeline.Pipeline" in refused.value.message
    assert "--trust" in str(refused.value.hint)
    assert not (tmp_path / "repo").exists()


@pytest.mark.parametrize("trust", [False, True])
@pytest.mark.parametrize("compress", [0, ("gzip", 3)], ids=str)
def test_a_pickle_that_runs_a_program_never_does(compress: Any, trust: bool, tmp_path: Path) -> None:
    path = tmp_path / "people.joblib"
    joblib.dump([pipeline(), Attack()], path, compress=compress)
    with pytest.raises(ModelportError, match=r"posix\.system") as refused:
        pack(path, out=tmp_path / "repo", permission=Permission(trust=trust))
    assert "do not open it" in str(refused.value.hint)
    assert not list(tmp_path.rglob("attacked"))


def test_a_class_of_the_users_own_is_named(tmp_path: Path) -> None:
    model = make_pipeline(FunctionTransformer(np.log1p), Ridge()).fit(np.ones((9, 2)), np.arange(9))
    path = tmp_path / "model.pkl"
    data = pickle.dumps(model, protocol=2).replace(b"_function_transformer\n", b"_function_transformed\n")
    path.write_bytes(data)
    with pytest.raises(NotConverted, match=r"needs sklearn\.preprocessing\._function_transformed"):
        Converter().open(str(path), trusted=True)


WRONG: dict[str, tuple[Any, str]] = {
    "groups": (lambda: KMeans(2, n_init=1).fit(np.eye(4)), "KMeans is a clusterer"),
    "nothing to predict": (lambda: make_pipeline(PCA(1)).fit(np.eye(4)), "which predicts nothing"),
    "not fitted": (RandomForestClassifier, "was never fitted"),
    "a dict": (lambda: {"model": Ridge().fit(np.eye(4), range(4)), "mean": 1.0}, "a dict .'model': Ridge"),
}


@pytest.mark.parametrize("name", list(WRONG))
def test_what_is_no_fitted_model_is_said_in_one_line(name: str, tmp_path: Path) -> None:
    make, says = WRONG[name]
    joblib.dump(make(), tmp_path / "model.joblib")
    with pytest.raises((NotConverted, Refused), match=says) as refused:
        Converter().open(str(tmp_path / "model.joblib"), trusted=True)
    assert "\n" not in str(refused.value) and refused.value.hint


@pytest.mark.parametrize("kind", ["gz", "skops"])
def test_a_file_that_is_cut_short_is_damaged(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"model.{kind}"
    if kind == "skops":
        skops_io().dump(pipeline(), path)
    else:
        joblib.dump(pipeline(), path, compress=("gzip", 3))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(InputError, match=r"cut short|cannot be read|damaged"):
        pack(path, out=tmp_path / "repo", permission=TRUSTED)


def test_an_archive_under_a_password_is_said_to_be_one(tmp_path: Path) -> None:
    path = tmp_path / "model.skops"
    skops_io().dump(pipeline(), path)
    data = bytearray(path.read_bytes())
    for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = data.find(mark)
        while at >= 0:
            data[at + flags] |= 1
            at = data.find(mark, at + 4)
    path.write_bytes(data)
    with pytest.raises(InputError, match="password"):
        pack(path, out=tmp_path / "repo")


def test_types_that_skops_does_not_know_are_listed(tmp_path: Path) -> None:
    model = make_pipeline(FunctionTransformer(os.path.join), Ridge())
    model.steps[1][1].fit(np.eye(4), range(4))
    skops_io().dump(model, tmp_path / "model.skops")
    with pytest.raises(Unsupported, match=r"does not know to be harmless: posixpath\.join") as refused:
        pack(tmp_path / "model.skops", out=tmp_path / "repo")
    assert "--trust" in str(refused.value.hint)


@pytest.mark.parametrize(
    ("head", "found"),
    [
        (b'{"learner":{"attributes":{}', "xgboost"),
        (b"{L\x00\x00\x00\x00\x00\x00\x00\x07learner{", "xgboost"),
        (b"tree\nversion=v4\n", "lightgbm"),
        (b"tree\r\nversion=v4\r\n", "lightgbm"),
        (b"CBM1\x00\x00", "catboost"),
        (b'{"ctr_data": {}, "features_info": {}, "model_info": {}}', "catboost"),
    ],
)
def test_boosted_trees_are_told_by_their_content(head: bytes, found: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(head)
    assert type(find_importer(path)).__module__.endswith(found)


def test_the_old_binary_format_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"binf" + bytes(64))
    with pytest.raises(Unsupported, match="old binary format"):
        pack(tmp_path / "model.bin", out=tmp_path / "repo")
