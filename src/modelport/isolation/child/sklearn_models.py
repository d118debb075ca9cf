"""scikit-learn's estimators as ONNX nodes: linear ones and trees written here in float64, others by skl2onnx.

A classifier gives scores [batch, classes] whose largest is the answer; a regressor values [batch, targets].
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .converter import NotConverted
from .frames import Array
from .onnx_writer import Block, Frame, Writer
from .sklearn_borrowed import borrowed
from .sklearn_steps import elementwise, transform
from .sklearn_svm import contests, is_machine, machine, won
from .sklearn_trees import TREES, tree_model

WRAPPERS = ("GridSearchCV", "RandomizedSearchCV", "HalvingGridSearchCV", "HalvingRandomSearchCV")


def unwrapped(model: Any) -> Any:
    """The estimator that a search found, in place of the search."""
    while type(model).__name__ in WRAPPERS and hasattr(model, "best_estimator_"):
        model = model.best_estimator_
    return model


def kind_of_model(model: Any) -> str:
    """`classifier`, `regressor`, `ranker`, `clusterer`, ..., as scikit-learn has it."""
    if getattr(model, "steps", None):
        return kind_of_model(unwrapped(model.steps[-1][1]))
    kind = getattr(model, "_estimator_type", None)
    if kind is None and hasattr(model, "__sklearn_tags__"):
        kind = model.__sklearn_tags__().estimator_type
    if kind is None and type(model).__name__.endswith("Ranker"):
        kind = "ranker"
    return str(kind or "transformer")


def is_classifier(model: Any) -> bool:
    """Whether it has classes; a pipeline has its last step's."""
    return kind_of_model(model) == "classifier"


def classes_of(model: Any) -> Array:
    """The classes in the order of the scores [classes]."""
    return np.asarray(model.classes_)


def scores(model: Any, rows: Any) -> Array:
    """What the network gives, computed by the framework: float64 [rows, classes or targets].

    Probabilities where there are any; else the decision function, that of two classes as [-d, d].
    """
    if not is_classifier(model):
        value = np.asarray(model.predict(rows), np.float64)
        return value.reshape(len(value), -1)
    given = np.asarray(probabilities(model)(rows), np.float64)
    if classes := contests(model):
        return won(given, classes)
    return np.stack([-given, given], axis=1) if given.ndim == 1 else given


def probabilities(model: Any) -> Any:
    """`predict_proba` where the fitted model has it, else `decision_function`.

    Raises:
        NotConverted: it has neither, so that there is nothing to rank classes by.
    """
    for name in ("predict_proba", "decision_function"):
        function = getattr(model, name, None)
        if function is not None:
            return function
    raise NotConverted(
        f"{type(model).__name__} gives neither probabilities nor a decision function",
        "fit it with them, for example inside CalibratedClassifierCV",
    )


def predict(writer: Writer, model: Any, frame: Frame) -> Block:
    """The model's scores or values for columns, float64 or float32 [batch, outputs].

    Raises:
        NotConverted: a step that cannot be converted, by name.
    """
    model = unwrapped(model)
    name = type(model).__name__
    if hasattr(model, "steps"):
        for _, step in model.steps[:-1]:
            frame = transform(writer, step, frame)
        return predict(writer, model.steps[-1][1], frame)
    if name == "TransformedTargetRegressor":
        return _transformed_target(writer, model, frame)
    if name in ("VotingClassifier", "VotingRegressor") and getattr(model, "voting", "soft") == "soft":
        return _voting(writer, model, frame)
    if name in TREES or name.startswith(("XGB", "LGBM", "CatBoost")) or hasattr(model, "boosted_trees"):
        return tree_model(writer, model, frame, name)
    block = _numbers(writer, model, frame)
    if is_machine(model):
        return machine(writer, model, block)
    if hasattr(model, "coef_") and (linear := _linear(writer, model, block)) is not None:
        return linear
    classifier = is_classifier(model)
    return borrowed(writer, model, block, classifier=classifier, want=lambda rows: scores(model, rows))


def _numbers(writer: Writer, model: Any, frame: Frame) -> Block:
    if any(block.text for block in frame):
        raise NotConverted(
            f"{type(model).__name__} is given a column of text",
            "put an encoder before it: a ColumnTransformer with OneHotEncoder or OrdinalEncoder",
        )
    return writer.matrix(frame)


def _linear(writer: Writer, model: Any, block: Block) -> Block | None:
    """`x coef' + intercept` and the link behind it; None where the link is none of those known here."""
    coefficients = np.atleast_2d(np.asarray(_dense(model.coef_), np.float64))
    if coefficients.shape[1] != block.width or getattr(model, "kernel", "linear") != "linear":
        return None
    if hasattr(model, "dual_coef_") or type(model).__name__.startswith("PLS"):
        return None
    link = _link(model)
    if link is None:
        return None
    raw = writer.op("MatMul", block.name, writer.constant(coefficients.T))
    intercept = np.broadcast_to(np.asarray(getattr(model, "intercept_", 0.0), np.float64), len(coefficients))
    raw = writer.op("Add", raw, writer.constant(intercept.reshape(1, -1)))
    width = len(coefficients)
    if is_classifier(model) and width == 1:
        return Block(two_classes(writer, raw, link), False, 2)
    functions = {"sigmoid": "Sigmoid", "exp": "Exp"}
    if link != "none":
        raw = writer.op("Softmax", raw, axis=1) if link == "softmax" else writer.op(functions[link], raw)
    if link == "sigmoid" and width > 1:
        total = writer.op("ReduceSum", raw, writer.constant([1], "int64"), keepdims=1)
        raw = writer.op("Div", raw, total)
    return Block(raw, False, width)


def two_classes(writer: Writer, raw: str, link: str) -> str:
    """One decision value [batch, 1] to the scores of two classes."""
    if link == "none":
        return writer.op("Concat", writer.op("Neg", raw), raw, axis=1)
    if link == "softmax":  # a multinomial fit of two classes has coefficients for one, halved
        raw = writer.op("Mul", raw, writer.constant(2.0))
    second = writer.op("Sigmoid", raw)
    return writer.op("Concat", writer.op("Sub", writer.constant(1.0), second), second, axis=1)


def _link(model: Any) -> str | None:
    name = type(model).__name__
    if not is_classifier(model):
        loss = getattr(model, "_base_loss", None)
        if loss is None:
            return "none"
        return {"LogLink": "exp", "IdentityLink": "none"}.get(type(loss.link).__name__)
    if name in ("LogisticRegression", "LogisticRegressionCV"):
        more, multi = len(model.classes_) > 2, str(getattr(model, "multi_class", "deprecated"))
        if multi == "multinomial":
            return "softmax"
        ovr = multi == "ovr" or getattr(model, "solver", "") == "liblinear"
        return "softmax" if more and not ovr else "sigmoid"
    if name == "LinearDiscriminantAnalysis":
        return "softmax" if len(model.classes_) > 2 else "sigmoid"
    if name == "SGDClassifier":
        if model.loss == "log_loss":
            return "sigmoid"
        return None if model.loss == "modified_huber" else "none"
    known = ("RidgeClassifier", "RidgeClassifierCV", "LinearSVC", "Perceptron", "PassiveAggressiveClassifier")
    return "none" if name in known else None


def _dense(value: Any) -> Any:
    return value.toarray() if hasattr(value, "toarray") else value


def _transformed_target(writer: Writer, model: Any, frame: Frame) -> Block:
    inner = predict(writer, model.regressor_, frame)
    block = Block(writer.cast(inner.name, "float64"), False, inner.width)
    back = model.transformer_
    name = type(back).__name__
    if name == "FunctionTransformer":
        if back.inverse_func is None:
            return block
        where = "a TransformedTargetRegressor"
        return Block(elementwise(writer, back.inverse_func, block.name, where), False, block.width)
    if name == "StandardScaler":
        block = writer.rows("Mul", block, back.scale_) if back.with_std else block
        return writer.rows("Add", block, back.mean_) if back.with_mean else block
    raise NotConverted(
        f"a TransformedTargetRegressor with {name} is not converted", "a function or StandardScaler is"
    )


def _voting(writer: Writer, model: Any, frame: Frame) -> Block:
    members = [predict(writer, each, frame) for each in model.estimators_]
    weights = model._weights_not_none
    shares = np.ones(len(members)) if weights is None else np.asarray(weights, np.float64)
    parts = []
    for member, share in zip(members, shares, strict=True):
        name = writer.cast(member.name, "float64")
        parts.append(writer.op("Mul", name, writer.constant(float(share))))
    total = writer.op("Div", writer.op("Sum", *parts), writer.constant(float(shares.sum())))
    return Block(total, False, members[0].width)
