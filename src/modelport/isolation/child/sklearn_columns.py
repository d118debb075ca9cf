"""The columns of a fitted pipeline, from what it has learnt: names, kinds, categories, ranges."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .boosted import Boosted
from .columns import Column, is_missing, kind_of, plain
from .sklearn_steps import is_identity

Places = list[Column | None] | None
"""What each column behind a step is: one of the table's, or something else; None where it cannot be told."""


def columns_of(model: Any) -> list[Column]:
    """The columns in the order that the model was fitted with."""
    names = getattr(model, "feature_names_in_", None)
    if names is None:
        names = _names_of_catboost(model)
    if names is None:
        names = [f"x{index}" for index in range(int(model.n_features_in_))]
    columns = [Column(str(name)) for name in names]
    _visit(model, list(columns))
    for column in columns:
        column.settle()
    return columns


def is_named(model: Any) -> bool:
    """Whether the model was fitted with named columns."""
    return getattr(model, "feature_names_in_", None) is not None or _names_of_catboost(model) is not None


def _names_of_catboost(model: Any) -> list[str] | None:
    """CatBoost makes up `0`, `1`, ... where there were none."""
    names = getattr(model, "feature_names_", None)
    if not isinstance(names, list) or names == [str(index) for index in range(len(names))]:
        return None
    return names


def _visit(step: Any, places: Places) -> Places:
    """Learn from a step, and tell what is behind it."""
    if step is None or isinstance(step, str):
        return [] if step == "drop" else places
    if hasattr(step, "steps"):
        for _, inner in step.steps:
            places = _visit(inner, places)
        return places
    if hasattr(step, "transformers_"):
        return _visit_columns(step, places)
    if hasattr(step, "transformer_list"):
        parts = [_visit(inner, places) for _, inner in step.transformer_list]
        return None if None in parts else [place for part in parts if part is not None for place in part]
    for name in ("best_estimator_", "regressor_"):
        if getattr(step, name, None) is not None:
            return _visit(getattr(step, name), places)
    if places is None:
        return None
    if hasattr(step, "get_support"):
        return [places[int(index)] for index in step.get_support(indices=True)]
    return _learner(step)(step, places)


def _visit_columns(step: Any, places: Places) -> Places:
    if places is None:
        return None
    parts: list[Places] = []
    for label, inner, _ in step.transformers_:
        taken = [int(index) for index in step._transformer_to_input_indices.get(label, [])]
        if taken and not (isinstance(inner, str) and inner == "drop"):
            parts.append(_visit(inner, [places[index] for index in taken]))
    return None if None in parts else [place for part in parts if part is not None for place in part]


def _known(places: Sequence[Column | None], values: Any) -> list[tuple[Column, Any]]:
    return [(place, value) for place, value in zip(places, values, strict=False) if place is not None]


def _from_categories(step: Any, places: list[Column | None]) -> Places:
    """Encoders: what was seen in training, and whether more is taken."""
    taken = getattr(step, "handle_unknown", "ignore") not in ("error", "warn_error")
    for column, known in _known(places, step.categories_):
        values = list(known)
        column.unseen = taken
        for value in values:
            if is_missing(value):
                column.missing, column.mark = True, value
        present = [value for value in values if not is_missing(value)]
        column.categories = values
        column.dtype = kind_of(present)
        if column.typical is None and present:
            column.typical = plain(present[0])
        if column.dtype in ("int64", "float64"):
            column.minimum, column.maximum = float(min(present)), float(max(present))
    if type(step).__name__ == "OneHotEncoder":
        return [None] * len(step.get_feature_names_out())
    return [None] * len(places)


def _from_imputer(step: Any, places: list[Column | None]) -> Places:
    for column, value in _known(places, step.statistics_):
        if is_missing(step.missing_values):
            column.missing, column.mark = True, step.missing_values
        if not is_missing(value):
            column.typical = plain(value)
            column.dtype = "string" if isinstance(value, str) else column.dtype
    kept = [
        place
        for place, value in zip(places, step.statistics_, strict=True)
        if not is_missing(value) or getattr(step, "keep_empty_features", False)
    ]
    extra = [] if step.indicator_ is None else [None] * len(step.indicator_.features_)
    return [*kept, *extra]


def _from_scaler(step: Any, places: list[Column | None]) -> Places:
    middle = next(
        (value for name in ("mean_", "center_") if (value := getattr(step, name, None)) is not None), None
    )
    scale = getattr(step, "scale_", None)
    if hasattr(step, "data_min_"):
        for column, (least, most) in _known(places, zip(step.data_min_, step.data_max_, strict=True)):
            if not column.scaled:
                column.minimum, column.maximum, column.unseen = float(least), float(most), True
                _typical(column, (least + most) / 2)
    elif middle is not None:
        wide = np.ones(len(middle)) if scale is None else scale
        for column, (value, share) in _known(places, zip(middle, wide, strict=True)):
            if not column.scaled:
                _typical(column, value)
                column.spread = (float(value - 2 * share), float(value + 2 * share))
    for place in places:
        if place is not None:
            place.scaled = True
    return places


def _typical(column: Column, value: Any) -> None:
    if column.typical is None and column.dtype != "string":
        column.typical = float(value)


def _from_trees(step: Any, places: list[Column | None]) -> Places:
    asked: dict[int, list[float]] = {}
    for each in np.asarray(getattr(step, "estimators_", [step]), dtype=object).reshape(-1):
        for feature, threshold in zip(each.tree_.feature, each.tree_.threshold, strict=True):
            if feature >= 0:
                asked.setdefault(int(feature), []).append(float(threshold))
    _from_thresholds(places, asked)
    return None


def _from_binned(step: Any, places: list[Column | None]) -> Places:
    after = places
    if step._preprocessor is not None:
        after = _visit(step._preprocessor, places) or []
    for place in after:
        if place is not None:
            place.missing = True
    bins = step._bin_mapper.bin_thresholds_
    _from_thresholds(after, {at: [float(b) for b in each] for at, each in enumerate(bins) if len(each)})
    return None


def _from_boosted(step: Any, places: list[Column | None]) -> Places:
    model = _boosted(step)
    asked: dict[int, list[float]] = {}
    for tree in model.trees:
        for feature, threshold in zip(tree.feature, tree.threshold, strict=True):
            if feature >= 0 and np.isfinite(threshold):
                asked.setdefault(feature, []).append(threshold)
    for place in places:
        if place is not None:
            place.missing = True
    for at, known in model.categories.items():
        column = places[at]
        if column is not None:
            column.categories, column.pandas = list(known), list(known)
            column.dtype = kind_of(list(known))
            column.unseen = model.takes_unseen
            asked.pop(at, None)
    _from_thresholds(places, asked)
    return None


def _boosted(step: Any) -> Boosted:
    from .sklearn_trees import reader_of

    return reader_of(step)


def _from_thresholds(places: list[Column | None], asked: dict[int, list[float]]) -> None:
    """What trees ask for lies within what was seen: its middle is typical, and rows are made up around it."""
    for at, thresholds in asked.items():
        column = places[at] if at < len(places) else None
        if column is not None and not column.scaled and not column.categories:
            values = np.sort(thresholds)
            values = values[np.isfinite(values)]
            if values.size:
                _typical(column, values[len(values) // 2])
                room = 0.1 * (values[-1] - values[0]) or 1.0
                column.spread = (float(values[0] - room), float(values[-1] + room))


def _from_nothing(step: Any, places: list[Column | None]) -> Places:
    if type(step).__name__ == "FunctionTransformer":
        if not is_identity(step):
            for place in places:
                if place is not None:
                    place.scaled = True
        return places
    return None


Learner = Callable[[Any, list[Column | None]], Places]
LEARNERS: dict[str, Learner] = {
    "OneHotEncoder": _from_categories,
    "OrdinalEncoder": _from_categories,
    "TargetEncoder": _from_categories,
    "SimpleImputer": _from_imputer,
    "StandardScaler": _from_scaler,
    "RobustScaler": _from_scaler,
    "MinMaxScaler": _from_scaler,
    "MaxAbsScaler": _from_scaler,
}


def _learner(step: Any) -> Learner:
    name = type(step).__name__
    if name in LEARNERS:
        return LEARNERS[name]
    if name.startswith("HistGradientBoosting"):
        return _from_binned
    if name.startswith(("XGB", "LGBM", "CatBoost")) or hasattr(step, "boosted_trees"):
        return _from_boosted
    forests = ("RandomForest", "ExtraTree", "DecisionTree", "GradientBoosting")
    return _from_trees if name.startswith(forests) else _from_nothing
