"""Models of tables and texts, trained on real data, packed, and compared on every row with the framework.

    python benchmarks/tabular.py DATA

DATA is a folder with `tabular/elec.csv` (45,312 half hours of an electricity market),
`tabular/housing_clean.csv` (20,640 districts of California, with a column of text and gaps) and
`text/rt-polarity.*` (10,662 reviews). Half of the rows train, all are compared. Prints TABULAR.md's table.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import catboost
import joblib
import lightgbm
import numpy as np
import onnxruntime
import pandas as pd
import xgboost
from sklearn.compose import make_column_transformer
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import LinearSVC

from modelport.importers.pack import pack
from modelport.importers.source import Permission

HEADER = "| data | model | rows | answers that differ | largest difference | of the largest value | bundle |"
PART = 2000
BOOSTED: dict[str, Any] = {"n_estimators": 200, "n_jobs": 2, "random_state": 0}

CAT: dict[str, Any] = {"n_estimators": 200, "verbose": 0, "random_seed": 0, "allow_writing_files": False}


class Case(NamedTuple):
    """A model to fit, with what it is fitted on."""

    data: str
    name: str
    model: Any
    rows: Any
    target: Any


def prepared(rows: pd.DataFrame) -> Any:
    """Gaps filled and numbers scaled, texts to one column for each category."""
    texts = [name for name in rows if not pd.api.types.is_numeric_dtype(rows[name])]
    numbers = [name for name in rows if name not in texts]
    filled = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    encoded = OneHotEncoder(handle_unknown="ignore")
    return make_column_transformer((filled, numbers), (encoded, texts), sparse_threshold=0)


def cases(folder: Path) -> Iterator[Case]:
    """Every data set with every model for it."""
    market = pd.read_csv(folder / "tabular" / "elec.csv")
    target = np.where(market.pop("class") == 1, "up", "down")
    classifiers: dict[str, Callable[[], Any]] = {
        "logistic regression": lambda: LogisticRegression(max_iter=500),
        "random forest, 100 trees": lambda: RandomForestClassifier(100, random_state=0, n_jobs=2),
        "histogram boosting": lambda: HistGradientBoostingClassifier(max_iter=200, random_state=0),
        "neural network": lambda: MLPClassifier((32,), max_iter=20, random_state=0),
        "XGBoost": lambda: xgboost.XGBClassifier(**BOOSTED),
        "LightGBM": lambda: lightgbm.LGBMClassifier(**BOOSTED, verbose=-1),
        "CatBoost": lambda: catboost.CatBoostClassifier(**CAT),
    }
    for name, make in classifiers.items():
        own = np.asarray(target == "up", int) if name == "XGBoost" else target
        yield Case("electricity", name, make_pipeline(prepared(market), make()), market, own)
    homes = pd.read_csv(folder / "tabular" / "housing_clean.csv")
    price = homes.pop("median_house_value")
    regressors: dict[str, Callable[[], Any]] = {
        "ridge regression": Ridge,
        "random forest, 50 trees": lambda: RandomForestRegressor(50, random_state=0, n_jobs=2),
        "histogram boosting": lambda: HistGradientBoostingRegressor(max_iter=200, random_state=0),
        "XGBoost": lambda: xgboost.XGBRegressor(**BOOSTED),
        "LightGBM": lambda: lightgbm.LGBMRegressor(**BOOSTED, verbose=-1),
    }
    for name, make in regressors.items():
        yield Case("housing", name, make_pipeline(prepared(homes), make()), homes, price.to_numpy())
    named = homes.astype({"ocean_proximity": "category"})
    yield Case("housing", "LightGBM, its own categories", regressors["LightGBM"](), named, price.to_numpy())
    classes = np.asarray(pd.qcut(price, 5, labels=list("abcde")), str)
    forest = RandomForestClassifier(100, random_state=0, n_jobs=2)
    yield Case("housing, 5 classes", "random forest", make_pipeline(prepared(homes), forest), homes, classes)
    boosted = HistGradientBoostingClassifier(max_iter=100, random_state=0, categorical_features="from_dtype")
    yield Case("housing, 5 classes", "histogram boosting, its own categories", boosted, named, classes)
    kinds = {"up": "pos", "down": "neg"}
    texts = {
        label: (folder / "text" / f"rt-polarity.{end}").read_text("utf-8", "replace").splitlines()
        for label, end in kinds.items()
    }
    reviews = np.array([text for held in texts.values() for text in held], dtype=object)
    opinions = np.array([label for label, held in texts.items() for _ in held])
    for name, words in {
        "words": TfidfVectorizer(),
        "pairs": TfidfVectorizer(ngram_range=(1, 2), min_df=3),
    }.items():
        last = LogisticRegression() if name == "words" else LinearSVC()
        called = f"TF-IDF of {name}, {type(last).__name__}"
        yield Case("reviews", called, make_pipeline(words, last), reviews, opinions)


def network_answers(session: Any, rows: Any) -> np.ndarray[Any, Any]:
    """The network's output for all rows, in parts."""
    names = [given.name for given in session.get_inputs()]
    made = []
    for start in range(0, len(rows), PART):
        part = rows[start : start + PART]
        if isinstance(part, pd.DataFrame):
            fed = {name: column_of(part[name.removeprefix("net_")]) for name in names}
        else:
            fed = {names[0]: part.reshape(-1, 1)}
        made.append(session.run(None, fed)[0])
    return np.concatenate(made)


def column_of(values: pd.Series) -> np.ndarray[Any, Any]:
    """[rows, 1]: numbers as float64, texts with "" for what is missing."""
    if pd.api.types.is_numeric_dtype(values):
        return values.to_numpy(np.float64).reshape(-1, 1)
    return values.astype(object).where(values.notna(), "").to_numpy(object).reshape(-1, 1)


def compared(case: Case, folder: Path) -> str:
    """A line of the table."""
    half = np.random.default_rng(0).permutation(len(case.rows))[::2]
    given = case.rows.iloc[half] if isinstance(case.rows, pd.DataFrame) else case.rows[half]
    model = case.model.fit(given, case.target[half])
    joblib.dump(model, folder / "model.joblib")
    bundle = pack(folder / "model.joblib", out=folder / "repo", permission=Permission(trust=True))
    session = onnxruntime.InferenceSession(str(bundle.path / "net.onnx"), providers=["CPUExecutionProvider"])
    got = network_answers(session, case.rows)
    differing = "–"
    if hasattr(model, "predict_proba") or hasattr(model, "decision_function"):
        ask = getattr(model, "predict_proba", None) or model.decision_function
        want = np.asarray(ask(case.rows), np.float64)
        want = np.stack([-want, want], axis=1) if want.ndim == 1 else want
        answers = np.asarray(model.classes_)[got.argmax(axis=1)]
        differing = str(int((answers != np.asarray(model.predict(case.rows)).reshape(-1)).sum()))
    else:
        want = np.asarray(model.predict(case.rows), np.float64)
    apart = float(np.abs(got.reshape(want.shape) - want).max())
    share = apart / float(np.abs(want).max())
    size = sum(path.stat().st_size for path in bundle.path.rglob("*") if path.is_file()) / 1e6
    cells = [
        case.data,
        case.name,
        f"{len(case.rows):,}",
        differing,
        f"{apart:.1e}",
        f"{share:.1e}",
        f"{size:.1f} MB",
    ]
    return f"| {' | '.join(cells)} |"


def main(data: Path) -> None:
    """Print the table, a line as soon as it is known."""
    begun = time.monotonic()
    print(HEADER)
    print("|---|---|--:|--:|--:|--:|--:|")
    for case in cases(data):
        with tempfile.TemporaryDirectory() as folder:
            print(compared(case, Path(folder)), flush=True)
    print(f"\n{time.monotonic() - begun:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
