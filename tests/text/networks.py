"""Tiny networks made by hand, and recipes, for texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

WORDS = ("good", "bad", "film", "dull", "straße")
MOOD = """
task = "text-classification"
description = "Whether somebody liked a film."
labels = ["liked", "disliked"]
pre = [
  "lower",
  { split = { separators = " \\t\\n\\r.,!?" } },
  { vocabulary = { words = "words.txt", first = 2, unknown = 1 } },
  { truncate = { size = 6 } },
  { pad_to = { size = 6 } },
]
post = ["softmax", "top_k", "labels"]

[decode]
kind = "text"
max_bytes = 2000
"""
TOKENS = """
task = "text-classification"
labels = ["short", "long"]
post = ["softmax", "top_k", "labels"]

[decode]
kind = "text"
tokenizer = "tokenizer.json"
max_length = 8
padding = "PADDING"
pad_token = "<pad>"
"""


def mood(path: Path) -> Path:
    """Sums of words' weights: int64 [batch, 6] to logits [batch, 2]; 0 is no word."""
    weights = np.zeros((2 + len(WORDS), 2), np.float32)
    weights[2], weights[3], weights[5] = [2, 0], [0, 2], [0, 1]
    nodes = [
        helper.make_node("Gather", ["weights", "ids"], ["each"]),
        helper.make_node("ReduceSum", ["each", "axis"], ["logits"], keepdims=0),
    ]
    return _saved(path, nodes, {"weights": weights, "axis": np.array([1])}, [_ids("ids", 6)])


def counter(path: Path, length: int | str = "length") -> Path:
    """Tokens n counted by their mask: `input_ids`, `attention_mask` [batch, length] to 3 - n and n - 3."""
    nodes = [
        helper.make_node("Mul", ["input_ids", "attention_mask"], ["kept"]),
        helper.make_node("Sub", ["kept", "input_ids"], ["lost"]),
        helper.make_node("ReduceSum", ["lost", "axis"], ["zero"], keepdims=1),
        helper.make_node("ReduceSum", ["attention_mask", "axis"], ["n"], keepdims=1),
        helper.make_node("Sub", ["n", "three"], ["over"]),
        helper.make_node("Sub", ["three", "n"], ["under"]),
        helper.make_node("Concat", ["under", "over"], ["both"], axis=1),
        helper.make_node("Add", ["both", "zero"], ["sum"]),
        helper.make_node("Cast", ["sum"], ["logits"], to=TensorProto.FLOAT),
    ]
    weights = {"axis": np.array([1]), "three": np.array([3])}
    return _saved(path, nodes, weights, [_ids("input_ids", length), _ids("attention_mask", length)])


def echo(path: Path) -> Path:
    """Takes the text itself, string [batch, 1]: logits by whether it is `yes`."""
    nodes = [
        helper.make_node("Equal", ["text", "yes"], ["same"]),
        helper.make_node("Where", ["same", "one", "zero"], ["hit"]),
        helper.make_node("Neg", ["hit"], ["miss"]),
        helper.make_node("Concat", ["hit", "miss"], ["logits"], axis=1),
    ]
    weights = {"yes": np.array(["yes"], object), "one": np.float32(1), "zero": np.float32(-1)}
    text = helper.make_tensor_value_info("text", TensorProto.STRING, ["batch", 1])
    return _saved(path, nodes, weights, [text])


def _ids(name: str, length: int | str) -> Any:
    return helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", length])


def _saved(path: Path, nodes: list[Any], weights: dict[str, Any], inputs: list[Any]) -> Path:
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])
    constants = [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, path.stem, inputs, [logits], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9), path)
    return path
