"""Classifiers that take a picture's pixels as they are, since they scale them themselves."""

from __future__ import annotations

from math import prod

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, numpy_helper

from ..steps.recipe import Recipe
from ..tensors import Array, Signature, TensorSpec

BYTES = 255.0
FARTHEST, LEAST = 3.5, 0.9
"""What scaled pixels are at most, either way, and how far apart black and white are at least."""
MOST = 8
"""Nodes looked at from the input on."""
ASSUMED = (
    "the file says what happens to the pixels, not how a picture gets its size: the whole picture, bilinear, "
    "as Keras's own data sets are read (--set kernel=… takes another; modelport fit-steps finds out which it "
    "was)"
)


def pixels_recipe(name: str, dtype: str = "float32") -> Recipe:
    """A classifier that takes pixels as numbers from 0 to 255, of `dtype`: float32 or uint8."""
    return Recipe(
        name=name,
        task="image-classification",
        description="The whole picture resized, its pixels as they are: the network scales them itself.",
        parameters={"size": 224, "kernel": "opencv-linear", "layout": "auto", "output": "", "top_k": 5},
        pre=(
            {"resize": {"size": "$size", "kernel": "$kernel"}},
            *([{"cast": {"to": dtype}}] if dtype != "uint8" else []),
            {"layout": {"order": "$layout"}},
        ),
        post=({"softmax": {"of": "$output"}}, {"top_k": {"k": "$top_k"}}, "labels"),
    )


def classifies(signature: Signature) -> bool:
    """Whether a colour picture goes in and a row of scores comes out."""
    if len(signature.inputs) != 1 or len(signature.outputs) != 1:
        return False
    picture, scores = signature.inputs[0].shape, signature.outputs[0].shape
    if len(picture) != 4 or len(scores) != 2:
        return False
    return 3 in (picture[1], picture[3]) and isinstance(scores[1], int) and scores[1] > 1


def scaled_inside(model: ModelProto, taken: TensorSpec) -> str:
    """Why pixels of 0 to 255 go into a network as they are, in a few words; empty where nothing says so.

    It takes bytes, or its first nodes bring 0 and 255 to small numbers a good way apart.
    """
    if taken.dtype == "uint8":
        return "which takes whole pixels (uint8)"
    if taken.dtype != "float32":
        return ""
    constants = {each.name: each for each in model.graph.initializer}
    ends = np.array([[0.0], [BYTES]])
    tensor, steps = taken.name, 0
    for _ in range(MOST):
        readers = [node for node in model.graph.node if tensor in node.input]
        if len(readers) != 1 or (made := _applied(readers[0], tensor, constants, ends)) is None:
            break
        steps += made is not ends
        tensor, ends = readers[0].output[0], made
    low, high = float(ends.min()), float(ends.max())
    if not steps or max(-low, high) > FARTHEST or float(np.abs(ends[1] - ends[0]).min()) < LEAST:
        return ""
    return f"which makes {low:.3g} to {high:.3g} of pixels from 0 to 255 at its head"


def _applied(node: NodeProto, tensor: str, constants: dict[str, TensorProto], ends: Array) -> Array | None:
    """What a node makes of black and white, [2, channels]; None where it does something else to them."""
    if node.op_type in ("Identity", "Cast", "Transpose"):
        return ends
    if node.op_type not in ("Mul", "Div", "Add", "Sub") or len(node.input) != 2:
        return None
    first = node.input[0] == tensor
    other = constants.get(node.input[1 if first else 0])
    if other is None or prod(other.dims) not in (1, 3) or (not first and node.op_type in ("Div", "Sub")):
        return None
    number = numpy_helper.to_array(other).astype(np.float64).reshape(1, -1)
    if node.op_type in ("Mul", "Div"):
        return np.asarray(ends * number if node.op_type == "Mul" else ends / number)
    return np.asarray(ends + number if node.op_type == "Add" else ends - number)
