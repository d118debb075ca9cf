"""CatBoost's own files, .cbm and JSON, to ONNX; they know their classes."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from .boosted import Boosted
from .catboost_trees import of_model
from .converter import Refused
from .frames import Array
from .sklearn_pipeline import Converter as SklearnConverter


class Converter(SklearnConverter):
    """As for scikit-learn's estimators; the file is read by CatBoost."""

    def framework(self) -> str:
        """CatBoost with its version."""
        import catboost

        return f"catboost {catboost.__version__}"

    def read(self, path: str, trusted: bool) -> tuple[Any, str]:
        """The model as an estimator.

        Raises:
            Refused: CatBoost does not take the file.
        """
        import catboost

        with open(path, "rb") as file:
            form = "cbm" if file.read(4) == b"CBM1" else "json"
        if form == "json":
            _check_json(path)
        model = catboost.CatBoost()
        try:
            model.load_model(path, format=form)
        except catboost.CatBoostError as problem:
            lines = str(problem).splitlines() or ["it gives no reason"]
            raise Refused(
                f"CatBoost cannot read the file: {lines[0][-200:]}", "it may be cut short"
            ) from problem
        return CatBoostModel(model), "catboost"


class CatBoostModel:
    """A model with the questions that estimators answer."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._trees = of_model(model)
        self._estimator_type = "classifier" if self._trees.classes else "regressor"
        names = [str(name) for name in model.feature_names_]
        self.n_features_in_ = len(names)
        if names != [str(index) for index in range(len(names))]:
            self.feature_names_in_ = np.array(names, dtype=object)
        if self._trees.classes:
            self.classes_ = np.asarray(model.classes_)

    def boosted_trees(self) -> Boosted:
        """The trees."""
        return self._trees

    def predict_proba(self, rows: Any) -> Array:
        """Probabilities [rows, classes]."""
        return np.asarray(self._model.predict(rows, prediction_type="Probability"))

    def predict(self, rows: Any) -> Array:
        """Classes or values [rows]."""
        if self._trees.classes:
            return np.asarray(self.classes_[self.predict_proba(rows).argmax(axis=1)])
        exponent = self._trees.link == "exp"
        return np.asarray(
            self._model.predict(rows, prediction_type="Exponent" if exponent else "RawFormulaVal")
        )


def _check_json(path: str) -> None:
    """CatBoost takes JSON that is cut short, and then gives wrong numbers."""
    try:
        with open(path, encoding="utf-8") as file:
            json.load(file)
    except ValueError as problem:
        raise Refused(f"the file is no whole JSON: {problem}", "it may be cut short") from problem
