"""Fitted models become networks that compute the same: every row's answer, and float64's digits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import ensemble, linear_model, svm, tree
from sklearn.compose import TransformedTargetRegressor, make_column_transformer
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.feature_selection import SelectKBest
from sklearn.impute import SimpleImputer
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    RobustScaler,
    SplineTransformer,
    StandardScaler,
    TargetEncoder,
)

from modelport.isolation.child.converter import NotConverted

from ..importers.tables import NUMBERS, answers, compared, opened, table, values

pytestmark = pytest.mark.frameworks

EXACT, SINGLE = 1e-12, 2e-7
"""Computed in float64 throughout; or given by an operator whose output is float32."""


def prepared(encoder: Any = None) -> Any:
    """Gaps filled, texts and whole numbers encoded, numbers scaled."""
    return make_column_transformer(
        (make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler()), NUMBERS),
        (
            make_pipeline(
                SimpleImputer(strategy="most_frequent"), encoder or OneHotEncoder(handle_unknown="ignore")
            ),
            ["city"],
        ),
        (OneHotEncoder(drop="if_binary"), ["member", "floor"]),
        sparse_threshold=0,
    )


CLASSIFIERS: dict[str, tuple[Callable[[], Any], float]] = {
    "logistic": (lambda: linear_model.LogisticRegression(max_iter=500), EXACT),
    "ridge": (linear_model.RidgeClassifier, EXACT),
    "sgd": (lambda: linear_model.SGDClassifier(loss="log_loss", random_state=0), EXACT),
    "discriminant": (LinearDiscriminantAnalysis, EXACT),
    "machine": (svm.SVC, EXACT),
    "linear machine": (svm.LinearSVC, EXACT),
    "tree": (lambda: tree.DecisionTreeClassifier(random_state=0), EXACT),
    "forest": (lambda: ensemble.RandomForestClassifier(20, random_state=0), EXACT),
    "extra trees": (lambda: ensemble.ExtraTreesClassifier(10, random_state=0), EXACT),
    "boosting": (lambda: ensemble.GradientBoostingClassifier(n_estimators=10), SINGLE),
    "binned boosting": (lambda: ensemble.HistGradientBoostingClassifier(max_iter=10), SINGLE),
    "network": (lambda: MLPClassifier((8,), max_iter=300, tol=1e-2, random_state=0), EXACT),
    "bayes": (GaussianNB, 1e-9),
    "vote": (
        lambda: ensemble.VotingClassifier(
            [("a", GaussianNB()), ("b", tree.DecisionTreeClassifier(max_depth=3))], voting="soft"
        ),
        1e-9,
    ),
}


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("name", list(CLASSIFIERS))
def test_every_answer_of_a_classifier_is_the_same(name: str, classes: int) -> None:
    rows = table()
    make, close = CLASSIFIERS[name]
    model = make_pipeline(prepared(), make()).fit(rows, answers(rows, classes))
    apart, differing, about = compared(model, table(1000, seed=7))
    assert apart <= close and differing == 0
    assert about["labels"] == [f"c{index}" for index in range(classes)]
    assert about["task"] == "tabular-classification"


REGRESSORS: dict[str, tuple[Callable[[], Any], float]] = {
    "ridge": (linear_model.Ridge, EXACT),
    "poisson": (lambda: linear_model.PoissonRegressor(alpha=10, max_iter=2000), EXACT),
    "machine": (lambda: svm.SVR(C=100), EXACT),
    "forest": (lambda: ensemble.RandomForestRegressor(10, random_state=0), EXACT),
    "boosting": (lambda: ensemble.GradientBoostingRegressor(n_estimators=10), SINGLE),
    "binned boosting": (lambda: ensemble.HistGradientBoostingRegressor(max_iter=10), SINGLE),
    "binned, of counts": (
        lambda: ensemble.HistGradientBoostingRegressor(loss="poisson", max_iter=10),
        SINGLE,
    ),
    "another scale": (
        lambda: TransformedTargetRegressor(linear_model.Ridge(), func=np.log1p, inverse_func=np.expm1),
        EXACT,
    ),
}


@pytest.mark.parametrize("name", list(REGRESSORS))
def test_the_numbers_of_a_regressor_are_the_same(name: str) -> None:
    rows = table()
    make, close = REGRESSORS[name]
    model = make_pipeline(prepared(TargetEncoder()), make()).fit(rows, values(rows))
    apart, _, about = compared(model, table(1000, seed=7))
    assert apart <= close
    assert about["task"] == "tabular-regression" and about["labels"] == []


ENCODERS: dict[str, Any] = {
    "rare ones together": OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=30),
    "the first left out": OneHotEncoder(drop="first", handle_unknown="ignore"),
    "numbered": OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1),
    "rare ones numbered": OrdinalEncoder(
        handle_unknown="use_encoded_value", unknown_value=-1, max_categories=3
    ),
}


@pytest.mark.filterwarnings("ignore:Found unknown categories")
@pytest.mark.parametrize("name", list(ENCODERS))
def test_texts_that_were_never_seen_are_what_the_encoder_makes_of_them(name: str) -> None:
    rows = table()
    model = make_pipeline(prepared(ENCODERS[name]), linear_model.Ridge()).fit(rows, values(rows))
    odd = table(50, seed=9)
    odd.loc[:20, "city"] = "Atlantis"
    apart, _, about = compared(model, odd)
    assert apart <= EXACT
    city = next(column for column in about["columns"] if column["name"] == "city")
    assert city["unseen"] and city["missing"] and city["categories"] == ["Bonn", "Köln", "Ulm", "Zürich"]


@pytest.mark.parametrize(
    "scaler", [MinMaxScaler(clip=True), MaxAbsScaler(), RobustScaler(), StandardScaler()]
)
def test_scalers_and_choices_of_columns(scaler: Any) -> None:
    rows = table().dropna()[["age", "income", "visits"]]
    both = FeatureUnion([("scaled", scaler), ("log", FunctionTransformer(np.log1p))])
    model = make_pipeline(both, SelectKBest(k=4), linear_model.LogisticRegression())
    model.fit(rows, answers(table().dropna()))
    apart, differing, _ = compared(model, table(500, seed=3).dropna()[["age", "income", "visits"]])
    assert apart <= EXACT and differing == 0


def test_a_missing_text_may_be_a_category_of_its_own() -> None:
    rows = table()
    encoder = make_column_transformer(
        (OneHotEncoder(), ["city"]), (OrdinalEncoder(encoded_missing_value=-7), ["city"]), remainder="drop"
    )
    apart, _, about = compared(make_pipeline(encoder, linear_model.Ridge()).fit(rows, values(rows)), rows)
    assert apart <= EXACT
    assert [column["name"] for column in about["columns"]] == ["city"]
    assert "left out: age, income, visits, member and 1 more" in about["notes"][0]


@pytest.mark.parametrize("asked", ["from_dtype", ["city"]])
def test_binned_boosting_knows_categories_itself(asked: Any) -> None:
    rows = table().drop(columns=["member"])
    rows["city"] = rows["city"].fillna("nowhere").astype("category")
    model = ensemble.HistGradientBoostingClassifier(max_iter=20, categorical_features=asked)
    apart, differing, about = compared(model.fit(rows, answers(table(), 3)), rows)
    assert apart <= SINGLE and differing == 0
    kinds = {column["name"]: column["dtype"] for column in about["columns"]}
    assert kinds["city"] == "string" and kinds["age"] == "float64"


def test_neighbours_that_are_not_equally_far() -> None:
    rows = table().dropna()[["age", "income"]]
    model = make_pipeline(StandardScaler(), KNeighborsClassifier(7)).fit(rows, answers(table().dropna(), 3))
    apart, differing, _ = compared(model, table(500, seed=4).dropna()[["age", "income"]])
    assert apart <= SINGLE and differing == 0


def test_a_row_on_a_threshold_goes_the_same_way() -> None:
    random = np.random.default_rng(0)
    rows = random.integers(0, 1000, (2000, 3)) / 10  # thresholds between tenths, which float32 moves
    labels = (rows.sum(axis=1) * 10).astype(int) % 2
    for model in (
        tree.DecisionTreeClassifier(random_state=0),
        ensemble.RandomForestClassifier(10, random_state=0),
        make_pipeline(StandardScaler(), ensemble.HistGradientBoostingClassifier(max_iter=30)),
    ):
        assert compared(model.fit(rows, labels), rows)[1] == 0


def test_equal_votes_of_machines_are_decided_alike_and_said() -> None:
    rows = table().dropna()
    model = make_pipeline(StandardScaler(), svm.SVC(C=0.05)).fit(rows[NUMBERS], answers(rows, 6))
    _, differing, about = compared(model, table(2000, seed=5).dropna()[NUMBERS])
    assert differing == 0
    assert "share of 15 contests" in about["notes"][-1]


@pytest.mark.filterwarnings("ignore:.*probability.*:FutureWarning")
def test_a_classifier_whose_answer_is_not_its_likeliest_class_is_told_of() -> None:
    rows = table().dropna()[NUMBERS]
    chance = np.random.default_rng(0).choice(["c0", "c1"], len(rows), p=[0.6, 0.4])
    model = make_pipeline(StandardScaler(), svm.SVC(probability=True, random_state=0)).fit(rows, chance)
    _, differing, about = compared(model, rows)
    assert differing > 0
    assert "made-up rows Pipeline.predict gives another class" in about["notes"][-1]


def test_a_search_gives_what_it_found() -> None:
    rows = table().dropna()[NUMBERS]
    search = GridSearchCV(tree.DecisionTreeClassifier(random_state=0), {"max_depth": [2, 3]}, cv=2)
    apart, differing, _ = compared(search.fit(rows, answers(table().dropna())).best_estimator_, rows)
    assert apart <= EXACT and differing == 0
    assert opened(search)[1]["task"] == "tabular-classification"


@pytest.mark.parametrize(
    ("steps", "says"),
    [
        ([SplineTransformer()], "SplineTransformer is not converted"),
        ([FunctionTransformer(lambda x: x * 2)], r"calls the function .*<lambda>, which is Python"),
    ],
)
def test_a_step_that_is_not_converted_is_named(steps: list[Any], says: str) -> None:
    rows = table().dropna()[NUMBERS]
    model = make_pipeline(*steps, linear_model.Ridge()).fit(rows, rows.age)
    with pytest.raises(NotConverted, match=says):
        opened(model)


def test_a_matrix_without_names_has_numbered_columns() -> None:
    rows = table().dropna()[NUMBERS].to_numpy(float)
    model = Pipeline([("scale", MinMaxScaler()), ("fit", linear_model.Ridge())]).fit(rows, rows[:, 0])
    apart, _, about = compared(model, rows)
    assert apart <= EXACT
    assert [column["name"] for column in about["columns"]] == ["x0", "x1", "x2"]
    first = about["columns"][0]
    assert first["minimum"] == pytest.approx(18, abs=1) and first["unseen"] and not first["missing"]


def test_what_the_pipeline_has_learnt_describes_its_columns() -> None:
    rows = table()
    model = make_pipeline(prepared(), linear_model.Ridge()).fit(rows, values(rows))
    columns = {column["name"]: column for column in opened(model)[1]["columns"]}
    assert list(columns) == list(rows.columns)
    assert columns["income"] == {
        "name": "income",
        "dtype": "float64",
        "missing": True,
        "typical": pytest.approx(rows.income.median()),
        "unseen": False,
    }
    assert columns["city"]["typical"] == "Bonn"
    assert columns["member"]["dtype"] == "bool" and columns["floor"]["dtype"] == "int64"
    assert (columns["floor"]["minimum"], columns["floor"]["maximum"]) == (-1, 3)
    assert not columns["floor"]["unseen"]


def test_pandas_own_kind_of_missing_is_one() -> None:
    from modelport.isolation.child.columns import is_missing

    assert is_missing(pd.NA) and is_missing(None) and is_missing(float("nan")) and not is_missing("")
