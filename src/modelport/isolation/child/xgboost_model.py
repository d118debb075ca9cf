"""XGBoost's own files, JSON and UBJSON, to ONNX; a file of the booster knows no class names."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np

from .boosted import Boosted
from .converter import Refused
from .frames import Array
from .sklearn_pipeline import Converter as SklearnConverter
from .xgboost_trees import of_booster


class Converter(SklearnConverter):
    """As for scikit-learn's estimators; the file is read by XGBoost."""

    def framework(self) -> str:
        """XGBoost with its version."""
        import xgboost

        return f"xgboost {xgboost.__version__}"

    def read(self, path: str, trusted: bool) -> tuple[Any, str]:
        """The booster as an estimator.

        Raises:
            Refused: XGBoost does not take the file.
        """
        import xgboost

        booster = xgboost.Booster()
        try:
            booster.load_model(path)
        except (xgboost.core.XGBoostError, ValueError) as problem:
            reason = re.sub(r"^\[[\d:]+\]\s*\S+:\d+:\s*", "", str(problem).strip()).split("\n")[0]
            raise Refused(
                f"XGBoost cannot read the file: {reason[:200]}",
                "it may be cut short, or not what `save_model` wrote",
            ) from problem
        return XGBoostModel(xgboost, booster), "xgboost"


class XGBoostModel:
    """A booster with the questions that estimators answer."""

    def __init__(self, xgboost: Any, booster: Any) -> None:
        self._xgboost, self._booster = xgboost, booster
        self._trees = of_booster(booster)
        self._estimator_type = "classifier" if self._trees.classes else "regressor"
        self.n_features_in_ = int(booster.num_features())
        if booster.feature_names:
            self.feature_names_in_ = np.array(booster.feature_names, dtype=object)
        if self._trees.classes:
            self.classes_ = np.arange(self._trees.classes)
        best = booster.attr("best_iteration")
        self._last = int(best) + 1 if best is not None else 0
        if self._last:
            self._trees = of_booster(booster[: self._last])

    def boosted_trees(self) -> Boosted:
        """The trees, up to the best iteration where early stopping found one."""
        return self._trees

    def predict_proba(self, rows: Any) -> Array:
        """Probabilities [rows, classes]."""
        given = np.asarray(self._given(rows))
        return np.stack([1 - given, given], axis=1) if given.ndim == 1 else given

    def predict(self, rows: Any) -> Array:
        """Class indices or values [rows]."""
        return (
            self.predict_proba(rows).argmax(axis=1) if self._trees.classes else np.asarray(self._given(rows))
        )

    def _given(self, rows: Any) -> Any:
        if not hasattr(rows, "columns"):
            names = self._booster.feature_names
            matrix = self._xgboost.DMatrix(np.asarray(rows, np.float32), feature_names=names)
        else:
            matrix = self._xgboost.DMatrix(rows, enable_categorical=True)
        objective = json.loads(self._booster.save_config())["learner"]["objective"]["name"]
        given = self._booster.predict(matrix, iteration_range=(0, self._last))
        if objective == "multi:softmax":  # gives the class alone, of which there are no scores
            margins = self._booster.predict(matrix, iteration_range=(0, self._last), output_margin=True)
            shares = np.exp(margins - margins.max(axis=1, keepdims=True))
            given = shares / shares.sum(axis=1, keepdims=True)
        return given
