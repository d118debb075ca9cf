"""Models of XGBoost, LightGBM and CatBoost become networks with the frameworks' own thresholds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from modelport.isolation.child.converter import NotConverted, Refused

from ..importers.tables import answers, compared, fed, opened, table, values

pytestmark = pytest.mark.frameworks

catboost = pytest.importorskip("catboost")
lightgbm = pytest.importorskip("lightgbm")
xgboost = pytest.importorskip("xgboost")

CLOSE = 1e-6
"""XGBoost adds in float32, and the networks' sums come as float32."""
FEW = {"n_estimators": 12, "n_jobs": 1, "random_state": 0}
CAT: dict[str, Any] = {"iterations": 12, "thread_count": 1, "verbose": 0, "allow_writing_files": False}


def light(kind: str, **settings: Any) -> Any:
    return getattr(lightgbm, kind)(**FEW, verbose=-1, min_child_samples=5, **settings)


def numbers(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[["age", "income", "visits", "floor"]]


def grouped(rows: pd.DataFrame) -> pd.DataFrame:
    """With the columns `city` and `floor` as pandas' categories."""
    names = {"Köln": "Trier", "Zürich": "Basel"}
    return rows.assign(
        city=pd.Categorical(rows.city.replace(names), categories=["Bonn", "Trier", "Ulm", "Basel"]),
        floor=pd.Categorical(rows.floor, categories=[-1, 0, 1, 2, 3]),
    ).drop(columns=["member"])


CLASSIFIERS: dict[str, Callable[[], Any]] = {
    "xgboost": lambda: xgboost.XGBClassifier(**FEW),
    "xgboost forest": lambda: xgboost.XGBRFClassifier(**FEW),
    "xgboost, -1 is missing": lambda: xgboost.XGBClassifier(**FEW, missing=-1),
    "lightgbm": lambda: light("LGBMClassifier"),
    "lightgbm forest": lambda: light(
        "LGBMClassifier", boosting_type="rf", bagging_freq=1, bagging_fraction=0.7
    ),
    "lightgbm, zero is missing": lambda: light("LGBMClassifier", zero_as_missing=True),
    "catboost": lambda: catboost.CatBoostClassifier(**CAT),
    "catboost, grown by leaves": lambda: catboost.CatBoostClassifier(**CAT, grow_policy="Lossguide"),
}


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("name", list(CLASSIFIERS))
def test_every_answer_of_a_classifier_is_the_same(name: str, classes: int) -> None:
    rows = table()
    labels = np.array([int(label[1:]) for label in answers(rows, classes)])
    apart, differing, about = compared(
        CLASSIFIERS[name]().fit(numbers(rows), labels), numbers(table(2000, 7))
    )
    assert apart <= CLOSE and differing == 0
    assert about["labels"] == [str(index) for index in range(classes)]
    assert all(column["missing"] for column in about["columns"])


REGRESSORS: dict[str, Callable[[], Any]] = {
    "xgboost": lambda: xgboost.XGBRegressor(**FEW),
    "xgboost, dropped out": lambda: xgboost.XGBRegressor(**FEW, booster="dart", rate_drop=0.3),
    "xgboost, of counts": lambda: xgboost.XGBRegressor(**FEW, objective="count:poisson"),
    "xgboost, two quantiles": lambda: xgboost.XGBRegressor(
        **FEW, objective="reg:quantileerror", quantile_alpha=[0.1, 0.9]
    ),
    "lightgbm": lambda: light("LGBMRegressor"),
    "lightgbm, of counts": lambda: light("LGBMRegressor", objective="poisson"),
    "lightgbm, of roots": lambda: light("LGBMRegressor", reg_sqrt=True),
    "catboost": lambda: catboost.CatBoostRegressor(**CAT),
    "catboost, of counts": lambda: catboost.CatBoostRegressor(**CAT, loss_function="Poisson"),
}


@pytest.mark.parametrize("name", list(REGRESSORS))
def test_the_numbers_of_a_regressor_are_the_same(name: str) -> None:
    rows = table()
    target = values(rows) / 100 + 3
    apart, _, about = compared(REGRESSORS[name]().fit(numbers(rows), target), numbers(table(2000, seed=7)))
    assert apart <= CLOSE and about["task"] == "tabular-regression"


@pytest.mark.parametrize(
    "make",
    [
        lambda: xgboost.XGBClassifier(**FEW, enable_categorical=True),
        lambda: xgboost.XGBClassifier(**FEW, enable_categorical=True, max_cat_to_onehot=1),
        lambda: light("LGBMClassifier", min_data_per_group=1, cat_smooth=0),
    ],
    ids=["xgboost", "xgboost, in groups", "lightgbm"],
)
def test_categories_are_columns_of_text(make: Callable[[], Any]) -> None:
    rows = table()
    labels = np.array([int(label[1:]) for label in answers(rows, 3)])
    model = make().fit(grouped(rows), labels)
    apart, differing, about = compared(model, grouped(table(2000, seed=7)))
    assert apart <= CLOSE and differing == 0
    city = next(column for column in about["columns"] if column["name"] == "city")
    assert city["dtype"] == "string" and city["categories"][:2] == ["Bonn", "Trier"] and city["missing"]


def test_names_that_xgboost_does_not_keep_are_refused() -> None:
    rows = table()[["age", "city"]].astype({"city": "category"})
    model = xgboost.XGBRegressor(**FEW, enable_categorical=True).fit(rows, values(table()))
    with pytest.raises(NotConverted, match="letters beyond ASCII"):
        opened(model)


def test_what_catboost_hashes_is_refused() -> None:
    rows = table().assign(city="Bonn")[["age", "city"]]
    model = catboost.CatBoostRegressor(**CAT, cat_features=["city"]).fit(rows, values(table()))
    with pytest.raises(NotConverted, match="a CatBoost model with categorical features"):
        opened(model)


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (lambda: xgboost.XGBClassifier(**FEW, objective="binary:hinge"), "objective binary:hinge"),
        (lambda: xgboost.XGBRegressor(**FEW, booster="gblinear"), "booster gblinear"),
        (lambda: light("LGBMRegressor", linear_tree=True), "linear_tree"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_what_is_not_converted_is_named(model: Callable[[], Any], says: str) -> None:
    rows = numbers(table()).fillna(0)
    with pytest.raises(NotConverted, match=says):
        opened(model().fit(rows, (rows.age > 50).astype(int)))


def test_early_stopping_is_kept_to() -> None:
    rows, labels = numbers(table()), (answers(table()) == "c1").astype(int)
    stops = {"early_stopping_rounds": 2, "learning_rate": 0.9}
    model = xgboost.XGBClassifier(n_estimators=60, n_jobs=1, **stops)
    model.fit(rows[::2], labels[::2], eval_set=[(rows[1::2], labels[1::2])], verbose=False)
    assert model.best_iteration < 57
    apart, differing, _ = compared(model, numbers(table(500, seed=7)))
    assert apart <= CLOSE and differing == 0


def saved(kind: str, folder: Path) -> tuple[Path, Any]:
    """A classifier's own file, and the classifier."""
    rows, labels = numbers(table()), (answers(table()) == "c1").astype(int)
    path = folder / f"model.{kind}"
    if kind in ("json", "ubj"):
        model: Any = xgboost.XGBClassifier(**FEW).fit(rows, labels)
        model.save_model(path)
    elif kind == "txt":
        model = light("LGBMClassifier").fit(rows, labels)
        model.booster_.save_model(path)
    else:
        model = catboost.CatBoostClassifier(**CAT).fit(rows, labels)
        model.save_model(str(path), format="json" if kind == "cat.json" else "cbm")
    return path, model


CONVERTERS = {
    "json": "xgboost",
    "ubj": "xgboost",
    "txt": "lightgbm",
    "cbm": "catboost",
    "cat.json": "catboost",
}


def converter_of(kind: str) -> Any:
    import importlib

    module = importlib.import_module(f"modelport.isolation.child.{CONVERTERS[kind]}_model")
    return module.Converter()


@pytest.mark.parametrize("kind", list(CONVERTERS))
def test_the_frameworks_own_files_give_what_their_wrappers_give(kind: str, tmp_path: Path) -> None:
    path, model = saved(kind, tmp_path)
    converter = converter_of(kind)
    about, _ = converter.open(str(path), trusted=False)
    assert about["framework"].startswith(CONVERTERS[kind]) and about["labels"] == ["0", "1"]
    rows = numbers(table(200, seed=7))
    got = converter.run(fed(converter.columns, rows))["scores"]
    assert np.allclose(got, model.predict_proba(rows), rtol=0, atol=1e-7)


@pytest.mark.parametrize("kind", list(CONVERTERS))
def test_a_file_that_is_cut_short_is_refused(kind: str, tmp_path: Path) -> None:
    path, _ = saved(kind, tmp_path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(Refused) as refused:
        converter_of(kind).open(str(path), trusted=False)
    assert "cut short" in str(refused.value.hint) and "\n" not in str(refused.value)
