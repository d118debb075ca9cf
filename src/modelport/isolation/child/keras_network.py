"""A Keras model: what it takes, what it gives, and its ONNX; for models in memory and for files alike.

The process that holds the model uses it: the host for an object, the other process for a file.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .converter import FAILURES, NotConverted, first_line
from .frames import Array
from .tensorflow_graph import OPSET, rename, to_onnx

Shape = tuple[str, Sequence[int | str | None]]
"""Datatype and sizes."""
NEVER_CALLED = "nothing says what the model takes: it was never called"


class KerasNetwork:
    """A model with names for its inputs and outputs."""

    def __init__(self, keras: Any, model: Any) -> None:
        self.keras, self.model = keras, model
        self.order: tuple[str, ...] = ()
        """The names of the inputs, in the order in which the model takes them."""

    def inputs(self) -> list[tuple[str, str, tuple[int | None, ...]]]:
        """Name, datatype and shape of each input, None where a size is open; empty for a model that was
        never called."""
        if not getattr(self.model, "built", False):
            return []
        own = self._tensors("inputs")
        # A name like keras_tensor_316 counts the tensors that the process made so far.
        plain = [f"input_{i}" if len(own) > 1 else "input" for i in range(len(own))]
        names = [
            name if re.fullmatch(r"keras_tensor(_\d+)?", tensor.name) else str(tensor.name)
            for name, tensor in zip(plain, own, strict=True)
        ]
        return [
            (name, str(tensor.dtype), tuple(tensor.shape)) for name, tensor in zip(names, own, strict=True)
        ]

    def outputs(self) -> list[tuple[str, tuple[int | None, ...]]]:
        """Datatype and shape of each output, as far as the model says."""
        return [(str(tensor.dtype), tuple(tensor.shape)) for tensor in self._tensors("outputs")]

    def call(self, tensors: Sequence[Array]) -> Any:
        """The model on tensors in the order of its inputs, in the structure that it was built with."""
        structure = getattr(self.model, "_inputs_struct", None)
        alone = len(tensors) == 1 and not isinstance(structure, (list, tuple, dict))
        value: Any = tensors[0] if alone else list(tensors)
        if isinstance(structure, dict):
            # Keras flattens mappings in the order of their keys.
            value = dict(zip(sorted(structure), tensors, strict=True))
        return self.model(value, training=False)

    def compute(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """Inputs to outputs by their names, `training=False`."""
        results = self.call([np.ascontiguousarray(arrays[name]) for name in self.order])
        flat = self.keras.tree.flatten(results)
        found = [np.array(self.keras.ops.convert_to_numpy(value)) for value in flat]
        if isinstance(results, dict) and len(results) == len(found):
            names = [str(key) for key in sorted(results)]
        else:
            names = ["output"] if len(found) == 1 else [f"output_{i}" for i in range(len(found))]
        return dict(zip(names, found, strict=True))

    def export(self, what: str, outputs: Sequence[str], shapes: Sequence[Shape]) -> Any:
        """The ONNX model with the names of the inputs and outputs.

        Args:
            what: the model, for messages.
            outputs: the names that `compute` gives.
            shapes: datatype and sizes of each input, in order; a size that is no number is open.

        Raises:
            NotConverted: it cannot be exported.
        """
        try:
            own = self.keras.backend.backend() == "tensorflow"
            model = self._traced(what, shapes) if own else self._exported()
        except (*FAILURES, OSError) as problem:
            raise NotConverted(
                f"Keras cannot export {what} to ONNX: {first_line(problem)}",
                "export it to ONNX yourself and pack the .onnx file",
            ) from problem
        if len(model.graph.input) != len(self.order) or len(model.graph.output) != len(outputs):
            raise NotConverted(
                f"the export has {len(model.graph.input)} inputs and {len(model.graph.output)} outputs, the "
                f"model {len(self.order)} and {len(outputs)}"
            )
        values = (*model.graph.input, *model.graph.output)
        rename(model, dict(zip((v.name for v in values), (*self.order, *outputs), strict=True)))
        return model

    def _traced(self, what: str, shapes: Sequence[Shape]) -> Any:
        """By tf2onnx, of the function that the model is with `training=False`. Keras's own export takes
        constants that layers hold for inputs, and keeps what augmentation does in training."""
        import tensorflow as tf
        from tf2onnx import tf_loader

        specs = [
            tf.TensorSpec([size if isinstance(size, int) else None for size in shape], dtype)
            for dtype, shape in shapes
        ]
        function = tf.function(lambda *tensors: self.keras.tree.flatten(self.call(tensors)))
        concrete = function.get_concrete_function(*specs)
        inputs = [tensor.name for tensor in concrete.inputs[: len(specs)]]
        results = [tensor.name for tensor in concrete.outputs]
        graph, tables = tf_loader.from_trackable(self.model, concrete, inputs, results, False)
        return to_onnx(what, graph, input_names=inputs, output_names=results, initialized_tables=tables)

    def _exported(self) -> Any:
        """By Keras, for its other backends."""
        import onnx

        with tempfile.TemporaryDirectory(prefix="modelport-") as folder:
            target = Path(folder) / "model.onnx"
            self.model.export(str(target), format="onnx", opset_version=OPSET, verbose=False)
            return onnx.load(target)

    def _tensors(self, side: str) -> list[Any]:
        try:
            return list(self.keras.tree.flatten(getattr(self.model, side, None) or []))
        except ValueError:  # a Sequential model that was never built
            return []
