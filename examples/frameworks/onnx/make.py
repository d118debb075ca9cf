"""An ONNX file as it was written years ago: opset 9, weights among the inputs, a map of classes at the end.

python make.py OUT    writes OUT/iris.onnx, a linear classifier of scikit-learn's iris data, and OUT/samples
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_iris

STEPS, RATE = 400, 0.5


def fitted(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Weights [features, classes] by gradient descent on the cross entropy."""
    weights = np.zeros((x.shape[1], y.max() + 1))
    wanted = np.eye(y.max() + 1)[y]
    for _ in range(STEPS):
        logits = x @ weights
        chances = np.exp(logits - logits.max(axis=1, keepdims=True))
        chances /= chances.sum(axis=1, keepdims=True)
        weights -= RATE * x.T @ (chances - wanted) / len(x)
    return weights.astype(np.float32)


def main(out: Path) -> None:
    """Fit, and write the file."""
    data = load_iris()
    mean, deviation = data.data.mean(axis=0), data.data.std(axis=0)
    weights = {
        "mean": mean.astype(np.float32),
        "deviation": deviation.astype(np.float32),
        "weights": fitted((data.data - mean) / deviation, data.target),
    }
    nodes = [
        helper.make_node("Sub", ["measures", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "deviation"], ["scaled"]),
        helper.make_node("MatMul", ["scaled", "weights"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["chances"], axis=1),
        helper.make_node(
            "ZipMap",
            ["chances"],
            ["probability"],
            domain="ai.onnx.ml",
            classlabels_strings=[str(name) for name in data.target_names],
        ),
    ]
    key, value = TensorProto.STRING, helper.make_tensor_type_proto(TensorProto.FLOAT, [])
    rows = helper.make_sequence_type_proto(helper.make_map_type_proto(key, value))
    inputs = [helper.make_tensor_value_info("measures", TensorProto.FLOAT, ["N", 4])]
    inputs += [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, array.shape) for name, array in weights.items()
    ]
    graph = helper.make_graph(
        nodes,
        "iris",
        inputs,
        [helper.make_value_info("probability", rows)],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    opsets = [helper.make_opsetid("", 9), helper.make_opsetid("ai.onnx.ml", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=3), out / "iris.onnx")
    (out / "samples").mkdir()
    for number in range(0, len(data.data), 10):
        item = {"inputs": {"measures": data.data[number].tolist()}}
        (out / "samples" / f"{number:03d}.json").write_text(json.dumps(item))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
