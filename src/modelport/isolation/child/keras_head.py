"""What a Keras model does to pixels itself, in its first layers: then it takes them as they are."""

from __future__ import annotations

from typing import Any

import numpy as np

BYTES = 255.0
MOST = 12
"""Layers looked at from the input on."""


def takes_pixels(keras: Any, model: Any) -> str:
    """Why pixels of 0 to 255 go into the model as they are, in a few words; empty where nothing says so.

    Layers that do something in training only are passed over.
    """
    try:
        inputs = list(keras.tree.flatten(getattr(model, "inputs", None) or []))
    except ValueError:
        return ""
    if len(inputs) != 1 or len(inputs[0].shape) != 4:
        return ""
    model = getattr(model, "_functional", None) or model  # what a Sequential model is inside
    tensor = inputs[0]
    for _ in range(MOST):
        readers = _readers(model, tensor)
        if len(readers) != 1:
            return ""
        layer, result = readers[0]
        name = type(layer).__name__
        if getattr(layer, "layers", None) and getattr(layer, "inputs", None):
            return takes_pixels(keras, layer)
        if name == "Rescaling":
            return _rescaling(layer)
        if name == "Normalization":
            return _normalization(keras, layer)
        if not name.startswith("Random"):
            return ""
        tensor = result
    return ""


def _readers(model: Any, tensor: Any) -> list[tuple[Any, Any]]:
    """The layers that take a tensor, each with what it makes of it."""
    own = {id(node) for nodes in getattr(model, "_nodes_by_depth", {}).values() for node in nodes}
    return [
        (operation, node.output_tensors[0])
        for operation in getattr(model, "operations", [])
        for node in operation._inbound_nodes
        if id(node) in own and any(each is tensor for each in node.input_tensors)
    ]


def _rescaling(layer: Any) -> str:
    """Pixels become at most about -1 to 1."""
    scale, offset = (np.asarray(value, np.float64) for value in (layer.scale, layer.offset))
    low, high = np.min(offset), np.max(offset + scale * BYTES)
    if np.min(scale) * BYTES < 0.9 or low < -1.1 or high > 1.1:
        return ""
    return f"the layer Rescaling at its head, which makes {low:.3g} to {high:.3g} of pixels from 0 to 255"


def _normalization(keras: Any, layer: Any) -> str:
    """The mean and the spread are those of pixels, not of numbers from 0 to 1."""
    try:
        mean = np.ravel(keras.ops.convert_to_numpy(layer.mean))
        spread = np.sqrt(np.ravel(keras.ops.convert_to_numpy(layer.variance)))
    except (AttributeError, TypeError, ValueError):
        return ""
    if mean.size > 4 or not (mean.min() > 20 and mean.max() < 235 and 10 < spread.min() <= 130):
        return ""
    return f"the layer Normalization at its head, with a mean of {mean.mean():.4g} of 0 to 255"
