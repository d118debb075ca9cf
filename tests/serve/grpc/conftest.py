"""Models for the gRPC tests: `colours`, `every` (each datatype, handed back) and `slow`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import modelport

from ...colours import pack_colours
from .running import grpc_served

DATATYPES = {
    "BOOL": (TensorProto.BOOL, np.bool_),
    "UINT8": (TensorProto.UINT8, np.uint8),
    "UINT16": (TensorProto.UINT16, np.uint16),
    "UINT32": (TensorProto.UINT32, np.uint32),
    "UINT64": (TensorProto.UINT64, np.uint64),
    "INT8": (TensorProto.INT8, np.int8),
    "INT16": (TensorProto.INT16, np.int16),
    "INT32": (TensorProto.INT32, np.int32),
    "INT64": (TensorProto.INT64, np.int64),
    "FP16": (TensorProto.FLOAT16, np.float16),
    "FP32": (TensorProto.FLOAT, np.float32),
    "FP64": (TensorProto.DOUBLE, np.float64),
    "BYTES": (TensorProto.STRING, np.object_),
}


def write_every(path: Path) -> Path:
    """Each datatype's input [N, 3] is handed back as its output."""
    names = [name.lower() for name in DATATYPES]
    nodes = [helper.make_node("Identity", [f"in_{n}"], [f"out_{n}"]) for n in names]
    values = {
        side: [
            helper.make_tensor_value_info(f"{side}_{n.lower()}", DATATYPES[n][0], ["N", 3]) for n in DATATYPES
        ]
        for side in ("in", "out")
    }
    graph = helper.make_graph(nodes, "every", values["in"], values["out"])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def write_slow(path: Path, rounds: int) -> Path:
    """y = x, after `rounds` rounds of a loop where a row is a whole number: about a microsecond each.

    What packing makes up to replay is none, and is computed at once.
    """
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["going"], ["go_on"]),
            helper.make_node("Abs", ["held"], ["kept"]),
        ],
        "round",
        [
            helper.make_tensor_value_info("round", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("held", TensorProto.FLOAT, ["N", 1]),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("kept", TensorProto.FLOAT, ["N", 1]),
        ],
    )
    graph = helper.make_graph(
        [
            helper.make_node("Floor", ["x"], ["floor"]),
            helper.make_node("Equal", ["x", "floor"], ["whole"]),
            helper.make_node("Cast", ["whole"], ["ones"], to=TensorProto.INT64),
            helper.make_node("ReduceMax", ["ones"], ["one"], keepdims=0),
            helper.make_node("Mul", ["one", "rounds"], ["times"]),
            helper.make_node("Loop", ["times", "yes", "x"], ["y"], body=body),
        ],
        "slow",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 1])],
        [
            helper.make_tensor("rounds", TensorProto.INT64, [], [rounds]),
            helper.make_tensor("yes", TensorProto.BOOL, [], [True]),
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture(scope="session")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack_colours(tmp_path_factory.mktemp("colours"))


@pytest.fixture(scope="session")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("grpc")
    pack_colours(folder, version="2")
    pack_colours(folder, version="10")
    for name, path in (
        ("every", write_every(folder / "every.onnx")),
        ("slow", write_slow(folder / "slow.onnx", 200_000)),
    ):
        modelport.pack(path, out=folder / "repo", name=name, version="1", recipe="raw")
    return folder / "repo"


@pytest.fixture(scope="session")
def address(repo: Path) -> Iterator[str]:
    with grpc_served(repo) as where:
        yield where
