"""A table with text, gaps, whole numbers and truth values; models of tables beside their networks."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pandas as pd

from modelport.isolation.child.columns import Column
from modelport.isolation.child.sklearn_models import is_classifier, scores
from modelport.isolation.child.sklearn_pipeline import Converter

ROWS = 400
NUMBERS = ["age", "income", "visits"]


def table(rows: int = ROWS, seed: int = 0) -> pd.DataFrame:
    """Columns of every kind; `income` and `city` have gaps."""
    random = np.random.default_rng(seed)
    made = pd.DataFrame(
        {
            "age": random.uniform(18, 90, rows).round(1),
            "income": random.gamma(3.0, 900.0, rows),
            "visits": random.poisson(3.0, rows),
            "city": random.choice(["Bonn", "Köln", "Ulm", "Zürich"], rows, p=[0.5, 0.3, 0.19, 0.01]),
            "member": random.random(rows) < 0.4,
            "floor": random.integers(-1, 4, rows),
        }
    )
    made.loc[random.random(rows) < 0.1, "income"] = np.nan
    made.loc[random.random(rows) < 0.1, "city"] = np.nan
    return made


def answers(rows: pd.DataFrame, classes: int = 2) -> np.ndarray[Any, Any]:
    """Classes that depend on every column, and on chance."""
    random = np.random.default_rng(1)
    leaning = rows.age / 30 + rows.income.fillna(0) / 3000 + (rows.city == "Ulm") + rows.member
    leaning = leaning + random.standard_normal(len(rows)) * 0.5
    return np.asarray(pd.qcut(leaning, classes, labels=[f"c{index}" for index in range(classes)]), dtype=str)


def values(rows: pd.DataFrame) -> np.ndarray[Any, Any]:
    """Numbers that depend on the columns."""
    return np.asarray(rows.age * 3 + rows.income.fillna(0) / 10 + 40 * rows.member + 5 * rows.floor)


def opened(model: Any) -> tuple[Converter, dict[str, Any], onnxruntime.InferenceSession]:
    """The converter with a fitted model in it, what it tells, and its network."""

    class Given(Converter):
        def read(self, path: str, trusted: bool) -> tuple[Any, str]:
            return model, "given"

    converter = Given()
    about, onnx = converter.open("", trusted=True)
    session = onnxruntime.InferenceSession(onnx.tobytes(), providers=["CPUExecutionProvider"])
    return converter, about, session


def fed(columns: list[Column], rows: Any) -> dict[str, Any]:
    """The network's inputs for rows of a DataFrame or a matrix."""
    kinds = {"int64": np.int64, "bool": np.bool_, "float64": np.float64}
    given = {}
    for place, column in enumerate(columns):
        held = rows[column.name] if hasattr(rows, "columns") else pd.Series(rows[:, place])
        if column.dtype == "string":
            array = held.astype(object).where(held.notna(), "").to_numpy(object)
        else:
            array = held.to_numpy(kinds[column.dtype])
        if column.used:
            given[column.name] = array.reshape(-1, 1)
    return given


def compared(model: Any, rows: Any) -> tuple[float, int, dict[str, Any]]:
    """The largest difference as a share of the largest number, how many answers differ, and what is told."""
    converter, about, session = opened(model)
    got = session.run(None, fed(converter.columns, rows))[0]
    want = scores(model, rows)
    got = got.reshape(want.shape)
    differing = 0
    if is_classifier(model):
        said = np.asarray(model.predict(rows)).reshape(-1)
        differing = int((np.asarray(model.classes_)[got.argmax(axis=1)] != said).sum())
    return float(np.abs(got - want).max() / np.abs(want).max()), differing, about
