"""What the tests of `modelport bench` measure, and how quickly."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import TensorProto, helper

import modelport
from modelport.bundle.manifest import Variant
from modelport.bundle.store import Bundle

from .networks import packed

QUICK = {"runtimes": ("onnxruntime",), "batches": (1, 3), "threads": (1,), "seconds": 0.5}


def twice(folder: Path) -> Bundle:
    """The colours, with a variant `other` that is its network under another name."""
    start = packed(folder)
    variants = (Variant("other", "other.onnx"),)
    return start.derive(folder / "2", {"other.onnx": start.graph("net")}, version="2", variants=variants)


def fixed(folder: Path) -> Bundle:
    """Rows of tensors whose network takes two at a time: their shape depends on the values."""
    nodes = [
        helper.make_node("NonZero", ["x"], ["at"]),
        helper.make_node("Cast", ["at"], ["y"], to=TensorProto.FLOAT),
    ]
    graph = helper.make_graph(
        nodes,
        "fixed",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, None])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "fixed.onnx")
    return modelport.pack(folder / "fixed.onnx", out=folder / "repo", recipe="raw")
