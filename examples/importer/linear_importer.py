"""An importer for a format of one's own: a linear classifier as a JSON file.

{"format": "linear-classifier", "version": 1, "labels": ["a", "b"], "weights": [[0.1, 0.2]], "bias": [0, 1]}
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from modelport.errors import InputError
from modelport.importers.batch import with_batch
from modelport.importers.canonical import canonical, signature_of
from modelport.importers.source import Imported, as_path, file_head
from modelport.tensors import Array, Signature, Tensors, TensorSpec

MARK = b'"format": "linear-classifier"'


class LinearImporter:
    """Asked in the order of `modelport.plugins`; the first importer that recognises a source takes it."""

    def recognises(self, source: Any) -> bool:
        """Told by the content, in a few microseconds, and without importing a framework."""
        return MARK in file_head(source, 256)

    def signature(self, source: Any, inputs: Sequence[TensorSpec]) -> Signature | None:
        """What the network takes and gives, as far as that is known before it is converted."""
        return signature_of(_graph(_read(source)))

    def load(
        self, source: Any, *, example: Mapping[str, Array] | None = None, inputs: Sequence[TensorSpec] = ()
    ) -> Imported:
        """The network as ONNX, and the source's own way of computing it, which golden cases come from."""
        said = _read(source)
        weights = np.array(said["weights"], np.float32)
        bias = np.array(said["bias"], np.float32)

        def reference(batch: Tensors) -> dict[str, Array]:
            return {"logits": batch["x"] @ weights + bias}

        model, notes = canonical(_graph(said))
        model, batch, more = with_batch(model, reference, example)
        return Imported(
            onnx=model.SerializeToString(),
            signature=signature_of(model),
            batch=batch,
            reference=reference,
            framework=f"linear {said['version']}",
            format="linear",
            notes=(*notes, *more),
            labels=tuple(said["labels"]),
        )


def _read(source: Any) -> dict[str, Any]:
    path = as_path(source) or Path()
    try:
        said: dict[str, Any] = json.loads(path.read_text())
        rows, classes = np.array(said["weights"], np.float32).shape
    except (ValueError, KeyError, TypeError) as problem:
        raise InputError(f"{path} is no linear classifier: {problem}") from problem
    if not rows or len(said.get("bias", ())) != classes or len(said.get("labels", ())) != classes:
        raise InputError(f"{path}: a bias and a label are needed for each of {classes} classes")
    return said


def _graph(said: Mapping[str, Any]) -> ModelProto:
    weights = np.array(said["weights"], np.float32)
    rows, classes = weights.shape
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "weights"], ["product"]),
            helper.make_node("Add", ["product", "bias"], ["logits"]),
        ],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", rows])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", classes])],
        [
            numpy_helper.from_array(weights, "weights"),
            numpy_helper.from_array(np.array(said["bias"], np.float32), "bias"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
