"""A frozen graph of TensorFlow (`.pb`, a GraphDef whose variables are constants) to ONNX, by tf2onnx."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .converter import NotConverted, Refused, Unclear
from .frames import Array
from .tensorflow_graph import (
    FORBIDDEN,
    Said,
    import_tensorflow,
    in_blocks,
    name_open_axes,
    optimised,
    packed,
    shapes_said,
    to_onnx,
)

VARIABLES = frozenset({"Variable", "VariableV2", "VarHandleOp", "AutoReloadVariable"})
SILENT = frozenset(
    {"Const", "NoOp", "Assert", "Placeholder", "PlaceholderWithDefault", "SaveV2", "RestoreV2"}
)
"""Nodes that nothing reads and that are no output."""
SHOWN = 12


class Converter:
    """`open` converts; `run` computes a batch with TensorFlow."""

    def __init__(self) -> None:
        self.tf: Any = None
        self.function: Any = None
        self.inputs: list[str] = []
        self.outputs: list[str] = []
        self.rows: int | None = None

    def answer(
        self, fields: dict[str, Any], arrays: dict[str, Array]
    ) -> tuple[dict[str, Any], dict[str, Array]]:
        """One request to its answer; the request's `do` says which."""
        if fields["do"] == "open":
            return self.open(Path(fields["path"]), str(fields.get("signature", "")), fields["inputs"])
        return {}, in_blocks(self.run, arrays, self.rows)

    def open(self, path: Path, wanted: str, said: Said) -> tuple[dict[str, Any], dict[str, Array]]:
        """What the graph is (JSON), and the ONNX file as uint8[bytes].

        Args:
            path: the file.
            wanted: names of its outputs with commas between them; empty where they are to be found.
            said: what the user says that it takes.

        Raises:
            Refused: damaged, or not frozen. NotConverted: tf2onnx has no counterpart of an operator.
            Unclear: the user has to say which outputs, or what it takes.
        """
        tf = self.tf = import_tensorflow()
        graph = _read(path)
        notes: list[str] = []
        _fix_switches(tf, graph, notes)
        said = [{**each, "name": _bare(each["name"])} for each in said]
        shapes = _inputs(tf, graph, said)
        self.inputs, self.outputs = list(shapes), _outputs(graph, wanted)
        notes.append(f"inputs {', '.join(self.inputs)}, outputs {', '.join(self.outputs)}: from the graph")
        self.function = _function(tf, graph, self.inputs, self.outputs)
        feeds = [f"{name}:0" for name in self.inputs]
        fetches = [f"{name}:0" for name in self.outputs]
        model = to_onnx(
            "the graph",
            optimised(tf, graph, feeds, fetches),
            input_names=feeds,
            output_names=fetches,
            shape_override={f"{name}:0": shape for name, shape in shapes_said(said).items()},
            tensors_to_rename={f"{name}:0": name for name in (*self.inputs, *self.outputs)},
        )
        name_open_axes(model, said)
        firsts = {shape[0] if shape else -1 for shape in shapes.values()}
        self.rows = firsts.pop() if len(firsts) == 1 and min(firsts) > 0 else None
        about = {"kind": "graphdef", "framework": f"tensorflow {tf.__version__}", "notes": notes}
        return about, packed(model)

    def run(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """Inputs to outputs by the names of their nodes, as TensorFlow computes them."""
        results = self.function(*(self.tf.constant(arrays[name]) for name in self.inputs))
        return {name: np.array(each.numpy()) for name, each in zip(self.outputs, results, strict=True)}


def _bare(name: str) -> str:
    return str(name).removesuffix(":0")


def _read(path: Path) -> Any:
    from google.protobuf.message import DecodeError
    from tensorflow.core.framework import graph_pb2

    graph = graph_pb2.GraphDef()
    try:
        graph.ParseFromString(path.read_bytes())
    except DecodeError as problem:
        raise Refused(f"{path.name} is a damaged graph: {problem}", "it may be cut short") from problem
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    variables = [node.name for node in nodes if node.op in VARIABLES]
    if variables:
        raise Refused(
            f"{path.name} is not frozen: it has {len(variables)} variables without values ({variables[0]})",
            "give the SavedModel, or freeze it: convert_variables_to_constants_v2(function)",
        )
    if found := sorted({node.op for node in nodes} & FORBIDDEN):
        raise Refused(f"{path.name} has the operator {found[0]}, which runs Python or touches files")
    return graph


def _fix_switches(tf: Any, graph: Any, notes: list[str]) -> None:
    """Placeholders that switch training on become the constant false."""
    for node in graph.node:
        kind = tf.as_dtype(node.attr["dtype"].type) if "dtype" in node.attr else None
        if not node.op.startswith("Placeholder") or kind != tf.bool:
            continue
        shape = node.attr["shape"].shape
        if shape.dim and node.op == "Placeholder":
            continue
        node.op = "Const"
        del node.input[:]
        node.attr.clear()
        node.attr["dtype"].type = tf.bool.as_datatype_enum
        node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(False))
        notes.append(f"the switch {node.name!r} is off: the network is packed for inference")


def _inputs(tf: Any, graph: Any, said: Said) -> dict[str, list[int]]:
    """Names and sizes of what the graph takes: its placeholders, or those that the user names."""
    there = {node.name: node for node in graph.node if node.op == "Placeholder"}
    given = {str(each["name"]): each for each in said}
    if strange := sorted(set(given) - set(there)):
        raise Unclear(f"the graph has no placeholder {strange[0]!r}; it has {', '.join(there)}")
    if not there:
        raise NotConverted(
            "the graph has no placeholder, so nothing says what goes in",
            "freeze the function that takes the tensors",
        )
    shapes: dict[str, list[int]] = {}
    for name, node in there.items():
        if given and name not in given:
            continue
        shape = node.attr["shape"].shape
        sizes = [dim.size for dim in shape.dim]
        if node.attr["dtype"].type == tf.string.as_datatype_enum:
            raise NotConverted(
                f"the graph takes text or encoded pictures ({name!r}) and decodes them itself",
                "freeze it from behind the decoding, or name other inputs with --input",
            )
        if name in given:
            sizes = [size if isinstance(size, int) else -1 for size in given[name]["shape"]]
        elif shape.unknown_rank or not sizes:
            raise Unclear(
                f"the graph does not say which axes its input {name!r} has",
                f"--input '{name}:{tf.as_dtype(node.attr['dtype'].type).name}[batch,…]'",
            )
        shapes[name] = sizes
    return shapes


def _outputs(graph: Any, wanted: str) -> list[str]:
    """The nodes whose result nobody reads; more than one kind of them is a question."""
    names = {node.name: node.op for node in graph.node}
    if wanted:
        chosen = [_bare(each.strip()) for each in wanted.split(",") if each.strip()]
        if strange := [name for name in chosen if name not in names]:
            last = ", ".join(list(names)[-SHOWN:])
            raise Unclear(f"the graph has no node {strange[0]!r}; the last ones are {last}")
        return chosen
    read = {_bare(each.lstrip("^").split(":")[0]) for node in graph.node for each in node.input}
    found = [name for name, op in names.items() if name not in read and op not in SILENT]
    # What Keras writes: the results go through an Identity that is called like this.
    found = [name for name in found if not names[name].startswith(("Summary", "Scalar", "Histogram"))]
    if not found:
        raise NotConverted("the graph has no output: every result is read by another node")
    if len(found) > 1 and not all(names[name] == "Identity" for name in found):
        said = ", ".join(f"{name} ({names[name]})" for name in found[:SHOWN])
        raise Unclear(
            f"nothing says which of the graph's ends are its outputs: {said}",
            f"--signature {found[-1]} (several with commas between them)",
        )
    return found


def _function(tf: Any, graph: Any, inputs: list[str], outputs: list[str]) -> Any:
    def whole() -> None:
        tf.compat.v1.import_graph_def(graph, name="")

    try:
        wrapped = tf.compat.v1.wrap_function(whole, [])
        own = wrapped.graph
        return wrapped.prune(
            [own.as_graph_element(f"{name}:0") for name in inputs],
            [own.as_graph_element(f"{name}:0") for name in outputs],
        )
    except Exception as problem:
        reason = " ".join(str(problem).split())[:300]
        raise Refused(f"TensorFlow does not take the graph: {reason}") from problem
