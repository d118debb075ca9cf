"""Tiny networks made by hand, and recipes with columns, for tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

ML = "ai.onnx.ml"

HOUSES = """
task = "tabular-regression"
description = "The price of a house from five columns."
post = [{ predicted = {} }]

[decode]
kind = "table"
max_bytes = 65536

[[columns]]
name = "rooms"
dtype = "float32"
minimum = 1
maximum = 40
typical = 5.0
description = "Rooms in the block, per household"

[[columns]]
name = "age"
dtype = "int64"
minimum = 0
maximum = 120
typical = 28

[[columns]]
name = "income"
dtype = "float32"
missing = true
typical = 3.5

[[columns]]
name = "near"
dtype = "string"
categories = ["INLAND", "NEAR BAY", "ISLAND"]
missing = true
typical = "INLAND"

[[columns]]
name = "garden"
dtype = "bool"
typical = true
"""

FLOWERS = """
task = "tabular-classification"
labels = ["setosa", "versicolor", "virginica"]
pre = ["vector", { normalize = { mean = [5.8, 3.0], std = [0.8, 0.4] } }]
post = [{ softmax = {} }, { top_k = {} }, "labels"]

[decode]
kind = "table"

[[columns]]
name = "sepal length (cm)"
dtype = "float32"
minimum = 4
maximum = 8
typical = 5.8

[[columns]]
name = "sepal width (cm)"
dtype = "float32"
minimum = 2
maximum = 5
typical = 3.0
"""

PEOPLE = """
task = "tabular-classification"
labels = ["no", "yes"]
post = [{ sigmoid = {} }, { binary = {} }, { top_k = {} }, "labels"]

[decode]
kind = "table"

[[columns]]
name = "age"
dtype = "int64"
minimum = 0
maximum = 120
typical = 40

[[columns]]
name = "job"
dtype = "string"
categories = ["clerk", "smith", "baker"]
unseen = true
typical = "smith"
"""


def regressor(path: Path) -> Path:
    """Five numbers [batch, 5] to one, with NaN as 0: weights 10, -1, 20, 5, 3 and 50."""
    nodes = [
        helper.make_node("IsNaN", ["x"], ["lost"]),
        helper.make_node("Where", ["lost", "zero", "x"], ["clean"]),
        helper.make_node("Gemm", ["clean", "w", "b"], ["price"]),
    ]
    weights = {
        "zero": np.float32(0),
        "w": np.array([[10], [-1], [20], [5], [3]], np.float32),
        "b": np.array([50], np.float32),
    }
    return _saved(path, nodes, weights, [_float("x", 5)], [_float("price", 1)])


def classifier(path: Path) -> Path:
    """Two numbers [batch, 2] to three logits."""
    weights = {
        "w": np.array([[-3, 0.2, 2.5], [1, -1, 0.1]], np.float32),
        "b": np.array([0, 0.5, 0], np.float32),
    }
    node = helper.make_node("Gemm", ["x", "w", "b"], ["logits"])
    return _saved(path, [node], weights, [_float("x", 2)], [_float("logits", 3)])


def by_name(path: Path) -> Path:
    """Columns `age` float32 [batch, 1] and `job` string [batch, 1] to one logit; other jobs are 0."""
    nodes = [
        helper.make_node(
            "LabelEncoder",
            ["job"],
            ["pay"],
            domain=ML,
            keys_strings=["clerk", "smith", "baker"],
            values_floats=[-1.0, 2.0, 1.0],
            default_float=0.0,
        ),
        helper.make_node("Mul", ["age", "slope"], ["aged"]),
        helper.make_node("Add", ["aged", "pay"], ["sum"]),
        helper.make_node("Add", ["sum", "offset"], ["logit"]),
    ]
    job = helper.make_tensor_value_info("job", TensorProto.STRING, ["batch", 1])
    weights = {"slope": np.float32(0.05), "offset": np.float32(-2)}
    return _saved(path, nodes, weights, [_float("age", 1), job], [_float("logit", 1)])


def _float(name: str, width: int) -> Any:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", width])


def _saved(
    path: Path, nodes: list[Any], weights: dict[str, Any], inputs: list[Any], outputs: list[Any]
) -> Path:
    constants = [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, path.stem, inputs, outputs, constants)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid(ML, 3)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path
