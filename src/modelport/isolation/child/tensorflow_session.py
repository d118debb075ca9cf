"""SavedModels of TensorFlow 1: a graph with variables in a session; a signature is a part of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .converter import NotConverted, Refused
from .frames import Array

Names = Mapping[str, str]
"""A signature's inputs or outputs: its name for them -> the tensor."""


class Session:
    """A graph with its variables restored."""

    def __init__(self, tf: Any, folder: Path, tags: list[str]) -> None:
        """Load it.

        Raises:
            Refused: TensorFlow does not.
        """
        self.tf = tf
        self.graph = tf.Graph()
        self.session = tf.compat.v1.Session(graph=self.graph)
        try:
            with self.graph.as_default():
                tf.compat.v1.saved_model.loader.load(self.session, tags, str(folder))
        except Exception as problem:
            raise unloadable(problem) from problem

    def sizes(self, tensor: str) -> list[int] | None:
        """A tensor's axes as the graph knows them, -1 for any size; None where it knows nothing."""
        shape = self.graph.get_tensor_by_name(tensor).shape
        return None if shape.rank is None else [-1 if size is None else int(size) for size in shape]

    def dtype(self, tensor: str) -> str:
        """A tensor's datatype."""
        return str(self.graph.get_tensor_by_name(tensor).dtype.name)

    def run(self, inputs: Names, outputs: Names, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """Arrays by the signature's names to arrays by its names."""
        feeds = {tensor: arrays[name] for name, tensor in inputs.items()}
        results = self.session.run(dict(outputs), feed_dict=feeds)
        return {name: np.array(value) for name, value in results.items()}

    def frozen(self, inputs: Names, outputs: Names) -> Any:
        """The graph from the inputs to the outputs, its variables as constants; what is fed may have been
        the result of parsing, and becomes a placeholder."""
        tf = self.tf
        ends = [tensor.split(":")[0] for tensor in outputs.values()]
        try:
            with self.graph.as_default():
                frozen = tf.compat.v1.graph_util.convert_variables_to_constants(
                    self.session, self.graph.as_graph_def(), ends
                )
        except Exception as problem:
            reason = " ".join(str(problem).split())[:300]
            raise NotConverted(f"TensorFlow cannot freeze the signature: {reason}") from problem
        fed = {tensor.split(":")[0]: tensor for tensor in inputs.values()}
        for node in frozen.node:
            if node.name in fed:
                self._open(node, fed[node.name])
        return tf.compat.v1.graph_util.extract_sub_graph(frozen, ends)

    def _open(self, node: Any, tensor: str) -> None:
        if not tensor.endswith(":0"):
            raise NotConverted(f"the signature feeds {tensor}, one of several results of a node")
        own = self.graph.get_tensor_by_name(tensor)
        node.op = "Placeholder"
        del node.input[:]
        node.attr.clear()
        node.attr["dtype"].type = own.dtype.as_datatype_enum
        node.attr["shape"].shape.CopyFrom(own.shape.as_proto())


def unloadable(problem: Exception) -> Refused | NotConverted:
    """What is said of a SavedModel that TensorFlow does not load."""
    reason = " ".join(str(problem).split())[:300]
    if "Failed to find any matching files" in reason:
        reason = "the values of its variables are not there"
    if "not registered" in reason:
        return NotConverted(f"TensorFlow lacks an operator of the SavedModel: {reason}")
    return Refused(
        f"TensorFlow does not load the SavedModel: {reason}",
        "the folder must be whole: saved_model.pb and variables/ with its index and data",
    )
