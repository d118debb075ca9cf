"""LightGBM's own text files to ONNX; a file of the booster knows no class names."""

from __future__ import annotations

from typing import Any

import numpy as np

from .boosted import Boosted
from .converter import Refused
from .frames import Array
from .lightgbm_trees import of_booster
from .sklearn_pipeline import Converter as SklearnConverter


class Converter(SklearnConverter):
    """As for scikit-learn's estimators; the file is read by LightGBM."""

    def framework(self) -> str:
        """LightGBM with its version."""
        import lightgbm

        return f"lightgbm {lightgbm.__version__}"

    def read(self, path: str, trusted: bool) -> tuple[Any, str]:
        """The booster as an estimator.

        Raises:
            Refused: LightGBM does not take the file.
        """
        import lightgbm

        with open(path, encoding="utf-8", errors="replace") as file:
            text = file.read()
        # LightGBM ends the process where a file stops in the middle.
        if "end of trees" not in text:
            raise Refused("the file stops before its end", "it may be cut short; save it again")
        try:
            booster = lightgbm.Booster(model_str=text)
        except lightgbm.basic.LightGBMError as problem:
            raise Refused(f"LightGBM cannot read the file: {str(problem)[:200]}") from problem
        return LightGBMModel(booster), "lightgbm"


class LightGBMModel:
    """A booster with the questions that estimators answer."""

    def __init__(self, booster: Any) -> None:
        self._booster = booster
        self._trees = of_booster(booster)
        self._estimator_type = "classifier" if self._trees.classes else "regressor"
        self.n_features_in_ = int(booster.num_feature())
        names = booster.feature_name()
        if names != [f"Column_{index}" for index in range(len(names))]:
            self.feature_names_in_ = np.array(names, dtype=object)
        if self._trees.classes:
            self.classes_ = np.arange(self._trees.classes)

    def boosted_trees(self) -> Boosted:
        """The trees, up to the best iteration where early stopping found one."""
        return self._trees

    def predict_proba(self, rows: Any) -> Array:
        """Probabilities [rows, classes]."""
        given = np.asarray(self._booster.predict(rows))
        return np.stack([1 - given, given], axis=1) if given.ndim == 1 else given

    def predict(self, rows: Any) -> Array:
        """Class indices or values [rows]."""
        if self._trees.classes:
            return np.asarray(self.predict_proba(rows).argmax(axis=1))
        return np.asarray(self._booster.predict(rows))
