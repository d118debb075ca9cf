"""Builds the models as ONNX, packs them and becomes `modelport serve`: FOLDER PORT GRPC_PORT."""

import os
import subprocess
import sys
from pathlib import Path

import models
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

KINDS = {"FP16": "FLOAT16", "FP32": "FLOAT", "FP64": "DOUBLE", "BYTES": "STRING"}


def graph(name: str) -> onnx.ModelProto:
    """A model as an ONNX graph."""
    taken, given = (
        [
            helper.make_tensor_value_info(
                each, TensorProto.DataType.Value(KINDS.get(kind, kind)), ["batch", size]
            )
            for each, kind, size in tensors
        ]
        for tensors in models.MODELS[name]
    )
    if name == "affine":
        nodes = [
            helper.make_node("MatMul", ["x", "weights"], ["scores"]),
            helper.make_node("ReduceSum", ["scores", "axis"], ["total"], keepdims=1),
        ]
        constants = [numpy_helper.from_array(models.WEIGHTS, "weights")]
        constants.append(numpy_helper.from_array(np.array([1]), "axis"))
    else:
        nodes = [helper.make_node("Identity", [i.name], [o.name]) for i, o in zip(taken, given, strict=True)]
        constants = []
    made = helper.make_graph(nodes, name, taken, given, constants)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def main() -> None:
    """Start it."""
    folder, port, grpc_port = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    folder.mkdir(parents=True)
    modelport = [sys.executable, "-m", "modelport"]
    for name in models.MODELS:
        onnx.save(graph(name), folder / f"{name}.onnx")
        pack = [*modelport, "pack", str(folder / f"{name}.onnx"), "-o", str(folder / "repo")]
        subprocess.run(pack, check=True, stdout=subprocess.DEVNULL)
    serve = [*modelport, "serve", str(folder / "repo"), "--port", port, "--grpc-port", grpc_port]
    os.execv(sys.executable, serve)


if __name__ == "__main__":
    main()
