"""A SavedModel of TensorFlow 1 or 2: one of its signatures to ONNX, by tf2onnx."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .converter import NotConverted, Refused, Unclear
from .frames import Array
from .tensorflow_graph import (
    FORBIDDEN,
    OPSET,
    Said,
    import_tensorflow,
    in_blocks,
    name_open_axes,
    optimised,
    packed,
    shapes_said,
    to_onnx,
)
from .tensorflow_session import Session, unloadable

DEFAULT = "serving_default"
STRING = 7
"""TensorFlow's number for strings."""


class Converter:
    """`open` converts a signature; `run` computes a batch with TensorFlow."""

    def __init__(self) -> None:
        self.compute: Callable[[Mapping[str, Array]], dict[str, Array]] | None = None
        self.rows: int | None = None

    def answer(
        self, fields: dict[str, Any], arrays: dict[str, Array]
    ) -> tuple[dict[str, Any], dict[str, Array]]:
        """One request to its answer; the request's `do` says which."""
        if fields["do"] == "open":
            return self.open(Path(fields["path"]), str(fields.get("signature", "")), fields["inputs"])
        assert self.compute is not None
        return {}, in_blocks(self.compute, arrays, self.rows)

    def open(self, folder: Path, wanted: str, said: Said) -> tuple[dict[str, Any], dict[str, Array]]:
        """What the model is (JSON), and the ONNX file as uint8[bytes].

        Raises:
            Refused: damaged, or it runs Python. NotConverted: tf2onnx has no counterpart of an operator.
            Unclear: the user has to say which signature, or what it takes.
        """
        tf = import_tensorflow()
        tags, graph = _graph(folder)
        name, notes = _chosen(graph, wanted)
        signature = graph.signature_def[name]
        _check_said(signature, said, name)
        shapes = {key: _sizes(info) for key, info in signature.inputs.items()}
        newer = graph.HasField("object_graph_def")
        if newer:
            self.compute, model = _by_function(tf, folder, tags, name, signature, said)
        else:
            self.compute, model = _by_session(tf, folder, tags, signature, said, shapes)
        _check_shapes(shapes, said, name)
        name_open_axes(model, said)
        _check_names(model, signature)
        firsts = {(shape or [-1])[0] for shape in shapes.values()}
        self.rows = firsts.pop() if len(firsts) == 1 and min(firsts) > 0 else None
        version = graph.meta_info_def.tensorflow_version or "?"
        notes.append(
            f"signature {name!r} of a SavedModel of TensorFlow {2 if newer else 1}, written by {version}"
        )
        about = {"kind": "savedmodel", "framework": f"tensorflow {tf.__version__}", "notes": notes}
        return about, packed(model)


def _graph(folder: Path) -> tuple[list[str], Any]:
    """The tags and the graph for serving."""
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    saved = saved_model_pb2.SavedModel()
    try:
        saved.ParseFromString((folder / "saved_model.pb").read_bytes())
    except DecodeError as problem:
        raise Refused(
            f"saved_model.pb is damaged: {problem}", "it may be cut short; copy the folder again"
        ) from problem
    graphs = list(saved.meta_graphs)
    if not graphs:
        raise Refused("saved_model.pb holds no graph", "save it again with tf.saved_model.save")
    serving = [graph for graph in graphs if "serve" in graph.meta_info_def.tags]
    graph = (serving or graphs)[0]
    found = sorted({node.op for node in _nodes(graph.graph_def)} & FORBIDDEN)
    if found:
        raise Refused(
            f"the SavedModel has the operator{'s' * (len(found) > 1)} {', '.join(found)}, which "
            "run Python or touch files",
            "export the network without them",
        )
    return list(graph.meta_info_def.tags), graph


def _nodes(graph_def: Any) -> Iterator[Any]:
    yield from graph_def.node
    for function in graph_def.library.function:
        yield from function.node_def


def _chosen(graph: Any, wanted: str) -> tuple[str, list[str]]:
    """The signature to convert, and notes; those with a leading underscore are TensorFlow's own."""
    public = {name: found for name, found in graph.signature_def.items() if not name.startswith("_")}
    if not public:
        raise NotConverted(
            "the SavedModel has no signature, so nothing says what goes in and out",
            "tf.saved_model.save(model, folder, signatures=model.__call__.get_concrete_function(…))",
        )
    if wanted and wanted not in public:
        raise Unclear(
            f"the SavedModel has no signature {wanted!r}; it has {', '.join(sorted(public))}",
            "--signature NAME takes one of them",
        )
    if wanted:
        _check_text(wanted, public[wanted], public)
        return wanted, []
    tensors = sorted(name for name, found in public.items() if not _takes_text(found))
    if DEFAULT in tensors:
        others = [name for name in tensors if name != DEFAULT]
        return DEFAULT, [f"other signatures: {', '.join(others)} (--signature takes another)"] * bool(others)
    if len(tensors) == 1:
        left = sorted(set(public) - set(tensors))
        said = f"the signature {tensors[0]!r} is taken: {', '.join(left)} take text, which is parsed inside"
        return tensors[0], [said] * bool(left)
    if not tensors:
        name = DEFAULT if DEFAULT in public else sorted(public)[0]
        _check_text(name, public[name], public)
    raise Unclear(
        f"the SavedModel has no {DEFAULT} that takes tensors; which signature is meant: "
        f"{'; '.join(_described(name, public[name]) for name in tensors)}?",
        f"--signature {tensors[0]}",
    )


def _takes_text(signature: Any) -> bool:
    return any(info.dtype == STRING for info in signature.inputs.values())


def _check_text(name: str, signature: Any, public: Mapping[str, Any]) -> None:
    """Refuses a signature that is fed with serialized tf.Example or other text."""
    if not _takes_text(signature):
        return
    others = sorted(each for each, found in public.items() if not _takes_text(found))
    which = ", ".join(key for key, info in signature.inputs.items() if info.dtype == STRING)
    raise NotConverted(
        f"the signature {name!r} takes text ({which}), such as serialized tf.Example, and parses it itself; "
        "ONNX has no operator for that",
        f"--signature takes one with tensors: {', '.join(others)}"
        if others
        else "export a signature that takes the tensors behind the parsing",
    )


def _described(name: str, signature: Any) -> str:
    inputs = ", ".join(f"{key}{_sizes(info) or ''}" for key, info in sorted(signature.inputs.items()))
    return f"{name} ({inputs} -> {', '.join(sorted(signature.outputs))})"


def _sizes(info: Any) -> list[int] | None:
    return None if info.tensor_shape.unknown_rank else [dim.size for dim in info.tensor_shape.dim]


def _check_said(signature: Any, said: Said, name: str) -> None:
    """Refuses names of inputs that there are not."""
    if strange := sorted({str(each["name"]) for each in said} - set(signature.inputs)):
        raise Unclear(
            f"the signature {name!r} has no input {strange[0]!r}; "
            f"it has {', '.join(sorted(signature.inputs))}"
        )


def _check_shapes(shapes: Mapping[str, list[int] | None], said: Said, name: str) -> None:
    """Asks for the axes of inputs that have none."""
    given = {str(each["name"]) for each in said}
    for key, shape in shapes.items():
        if key not in given and not shape:
            raise Unclear(
                f"the signature {name!r} does not say which axes its input {key!r} has",
                f"--input '{key}:float32[batch]', or with the axes that it was trained with",
            )


def _by_function(
    tf: Any, folder: Path, tags: list[str], name: str, signature: Any, said: Said
) -> tuple[Callable[[Mapping[str, Array]], dict[str, Array]], Any]:
    """TensorFlow 2: the signature is a function."""
    try:
        loaded = tf.saved_model.load(str(folder), tags=tags)
    except Exception as problem:
        raise unloadable(problem) from problem
    kinds = {key: tf.as_dtype(info.dtype) for key, info in signature.inputs.items()}

    def compute(arrays: Mapping[str, Array]) -> dict[str, Array]:
        feeds = {key: tf.constant(arrays[key], dtype=kind) for key, kind in kinds.items()}
        return {key: np.array(value.numpy()) for key, value in loaded.signatures[name](**feeds).items()}

    return compute, _converted(folder, tags, name, said)


def _by_session(
    tf: Any,
    folder: Path,
    tags: list[str],
    signature: Any,
    said: Said,
    shapes: dict[str, list[int] | None],
) -> tuple[Callable[[Mapping[str, Array]], dict[str, Array]], Any]:
    """TensorFlow 1: the signature is a part of one graph, which knows more of shapes than the signature."""
    session = Session(tf, folder, tags)
    inputs = {key: info.name for key, info in signature.inputs.items()}
    outputs = {key: info.name for key, info in signature.outputs.items()}
    shapes.update({key: session.sizes(tensor) for key, tensor in inputs.items() if not shapes[key]})
    names = list(inputs.values()), list(outputs.values())
    model = to_onnx(
        "the SavedModel",
        optimised(tf, session.frozen(inputs, outputs), *names),
        input_names=names[0],
        output_names=names[1],
        shape_override={inputs[key]: shape for key, shape in shapes_said(said).items()},
        tensors_to_rename={tensor: key for key, tensor in (*inputs.items(), *outputs.items())},
    )
    return lambda arrays: session.run(inputs, outputs, arrays), model


def _converted(folder: Path, tags: list[str], name: str, said: Said) -> Any:
    from tf2onnx import tf_loader

    try:
        graph_def, inputs, outputs, tables, renamed = tf_loader.from_saved_model(
            str(folder), None, None, tags, [name], None, large_model=False,
            return_initialized_tables=True, return_tensors_to_rename=True,
        )  # fmt: skip
    except Exception as problem:
        reason = " ".join(str(problem).split())[:300]
        raise NotConverted(f"tf2onnx cannot freeze the signature {name!r}: {reason}") from problem
    by_name = {own: tensor for tensor, own in renamed.items()}
    shapes = {by_name.get(key, key): shape for key, shape in shapes_said(said).items()}
    return to_onnx(
        "the SavedModel", graph_def, input_names=inputs, output_names=outputs, shape_override=shapes,
        initialized_tables=tables, tensors_to_rename=renamed,
    )  # fmt: skip


def _check_names(model: Any, signature: Any) -> None:
    """The conversion must have the signature's inputs, which are fed by name, and its outputs."""
    inputs = {value.name for value in model.graph.input}
    outputs = {value.name for value in model.graph.output}
    if not inputs <= set(signature.inputs) or outputs != set(signature.outputs):
        raise NotConverted(
            f"tf2onnx (opset {OPSET}) made {sorted(inputs)} -> {sorted(outputs)} of a signature "
            f"{sorted(signature.inputs)} -> {sorted(signature.outputs)}"
        )
