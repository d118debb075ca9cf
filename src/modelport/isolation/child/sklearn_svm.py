"""Support vector machines in float64; skl2onnx's come in float32, and that of two classes wrong.

SVC without probabilities answers with the class that wins most contests of two classes, the first of equals;
its decision function breaks such ties otherwise. So the scores are the shares of contests won.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np

from .converter import NotConverted
from .frames import Array
from .onnx_writer import Block, Writer

MACHINES = ("SVC", "NuSVC", "SVR", "NuSVR")


def is_machine(model: Any) -> bool:
    """Whether it is one that is written here: probabilities are left to skl2onnx."""
    return type(model).__name__ in MACHINES and not hasattr(model, "predict_proba")


def contests(model: Any) -> int:
    """How many classes a machine decides between in pairs; 0 where it does not."""
    while getattr(model, "steps", None):
        model = model.steps[-1][1]
    counted = is_machine(model) and len(getattr(model, "classes_", ())) > 2 and not model.break_ties
    return len(model.classes_) if counted else 0


def won(decisions: Array, classes: int) -> Array:
    """Decisions float64 [rows, pairs] to the share of contests that each class won [rows, classes]."""
    votes = np.zeros((len(decisions), classes))
    for pair, (first, second) in enumerate(combinations(range(classes), 2)):
        votes[:, first] += decisions[:, pair] > 0
        votes[:, second] += decisions[:, pair] <= 0
    return np.asarray(votes / decisions.shape[1])


def in_pairs(model: Any) -> None:
    """Has `decision_function` give the decision of each pair."""
    while getattr(model, "steps", None):
        model = model.steps[-1][1]
    model.decision_function_shape = "ovo"


def machine(writer: Writer, model: Any, block: Block) -> Block:
    """Scores of classes or a value, float64 [batch, outputs].

    Raises:
        NotConverted: a kernel that is Python.
    """
    kernel = _kernel(writer, model, block)
    classes = len(getattr(model, "classes_", ()))
    if classes <= 2:
        weights = np.asarray(_dense(model.dual_coef_), np.float64)
        raw = writer.op("MatMul", kernel, writer.constant(weights.T))
        raw = writer.op("Add", raw, writer.constant(np.asarray(model.intercept_).reshape(1, -1)))
        if not classes:
            return Block(raw, False, 1)
        return Block(writer.op("Concat", writer.op("Neg", raw), raw, axis=1), False, 2)
    if model.break_ties:
        raise NotConverted(f"{type(model).__name__} with break_ties=True", "fit it with break_ties=False")
    raw = writer.op("MatMul", kernel, writer.constant(_pairs(model, classes)))
    raw = writer.op("Add", raw, writer.constant(np.asarray(model.intercept_).reshape(1, -1)))
    first = writer.cast(writer.op("Greater", raw, writer.constant(0.0)), "float64")
    second = writer.op("Sub", writer.constant(1.0), first)
    pairs = list(combinations(range(classes), 2))
    sides = np.zeros((2, len(pairs), classes))
    for at, (one, other) in enumerate(pairs):
        sides[0, at, one] = sides[1, at, other] = 1.0
    votes = writer.op(
        "Add",
        writer.op("MatMul", first, writer.constant(sides[0])),
        writer.op("MatMul", second, writer.constant(sides[1])),
    )
    return Block(writer.op("Div", votes, writer.constant(float(len(pairs)))), False, classes)


def _pairs(model: Any, classes: int) -> Array:
    """What each support vector weighs in each contest, float64 [vectors, pairs]."""
    dual = np.asarray(_dense(model.dual_coef_), np.float64)
    ends = np.cumsum([0, *model.n_support_])
    weights = np.zeros((dual.shape[1], classes * (classes - 1) // 2))
    for pair, (first, second) in enumerate(combinations(range(classes), 2)):
        ones, others = slice(ends[first], ends[first + 1]), slice(ends[second], ends[second + 1])
        weights[ones, pair] = dual[second - 1, ones]
        weights[others, pair] = dual[first, others]
    return weights


def _kernel(writer: Writer, model: Any, block: Block) -> str:
    """The kernel between rows and support vectors -> float64 [batch, vectors]."""
    vectors = np.asarray(_dense(model.support_vectors_), np.float64)
    if model.kernel not in ("linear", "rbf", "poly", "sigmoid"):
        raise NotConverted(
            f"{type(model).__name__} with the kernel {model.kernel!r}",
            "linear, rbf, poly and sigmoid are converted",
        )
    product = writer.op("MatMul", block.name, writer.constant(vectors.T))
    if model.kernel == "linear":
        return product
    if model.kernel == "rbf":
        squares = writer.op("ReduceSumSquare", block.name, axes=[1], keepdims=1)
        own = writer.constant((vectors**2).sum(axis=1).reshape(1, -1))
        apart = writer.op("Sub", writer.op("Add", squares, own), writer.op("Add", product, product))
        return writer.op("Exp", writer.op("Mul", apart, writer.constant(-float(model._gamma))))
    inner = writer.op("Mul", product, writer.constant(float(model._gamma)))
    inner = writer.op("Add", inner, writer.constant(float(model.coef0)))
    if model.kernel == "sigmoid":
        return writer.op("Tanh", inner)
    return writer.op("Pow", inner, writer.constant(float(model.degree)))


def _dense(value: Any) -> Any:
    return value.toarray() if hasattr(value, "toarray") else value
