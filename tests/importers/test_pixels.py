"""Whether a network scales pixels itself, told by its first nodes."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from modelport.importers.pixels import scaled_inside
from modelport.tensors import TensorSpec

Steps = list[tuple[str, float | list[float]]]


def network(steps: Steps, twice: bool = False) -> ModelProto:
    """Nodes one after another on `x`, and a mean at the end; `twice`: another node reads the input too."""
    nodes, constants, tensor = [], [], "x"
    for index, (kind, number) in enumerate(steps):
        constants.append(numpy_helper.from_array(np.array(number, np.float32), f"c{index}"))
        nodes.append(helper.make_node(kind, [tensor, f"c{index}"], [f"t{index}"]))
        tensor = f"t{index}"
    nodes.append(helper.make_node("GlobalAveragePool", [tensor], ["y"]))
    if twice:
        nodes.append(helper.make_node("GlobalMaxPool", ["x"], ["z"]))
    value = helper.make_tensor_value_info
    inputs = [value("x", TensorProto.FLOAT, ["batch", 3, 8, 8])]
    return helper.make_model(
        helper.make_graph(nodes, "g", inputs, [value("y", TensorProto.FLOAT, None)], constants)
    )


@pytest.mark.parametrize(
    ("steps", "why"),
    [
        ([("Mul", 1 / 255)], "makes 0 to 1 of pixels"),
        ([("Div", 127.5), ("Sub", 1.0)], "makes -1 to 1 of pixels"),
        ([("Sub", [123.7, 116.3, 103.5]), ("Div", [58.4, 57.1, 57.4])], "makes -2.12 to 2.64"),
        ([], ""),
        ([("Sub", [0.485, 0.456, 0.406]), ("Div", [0.229, 0.224, 0.225])], ""),  # takes 0 to 1
        ([("Mul", 2.0), ("Sub", 1.0)], ""),  # takes 0 to 1
        ([("Sub", [104.0, 117.0, 123.0])], ""),  # bytes or not, nothing says
        ([("Mul", 0.001)], ""),
    ],
    ids=str,
)
def test_what_becomes_of_black_and_white_tells(steps: Steps, why: str) -> None:
    taken = TensorSpec("x", "float32", ("batch", 3, 8, 8))
    said = scaled_inside(network(steps), taken)
    assert why in said and bool(said) == bool(why)
    assert scaled_inside(network(steps, twice=True), taken) == ""


def test_bytes_are_pixels() -> None:
    assert "uint8" in scaled_inside(network([]), TensorSpec("x", "uint8", ("batch", 3, 8, 8)))
    assert scaled_inside(network([]), TensorSpec("x", "int64", ("batch", 3, 8, 8))) == ""
