"""Inputs and outputs that no bundle holds, made to tensors that it does: maps of classes, bfloat16.

skl2onnx ends classifiers with `ZipMap`, which makes a dictionary of every row; the tensor of probabilities
that it is made of says the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec
import numpy as np
from onnx import ModelProto, TensorProto, helper

from ..errors import BundleError, InputError, ParityFailed, Unsupported
from ..runtimes.onnxruntime import OnnxRuntime
from ..tensors import Signature, Tensors
from .batch import made_up, sizes_to_try
from .canonical import rename, signature_of


class Mapped(msgspec.Struct, frozen=True):
    """An output that was a list of dictionaries."""

    name: str
    classes: tuple[str | int, ...]
    """The dictionaries' keys, in the order of the tensor's columns."""


def as_tensors(model: ModelProto) -> tuple[ModelProto, tuple[Mapped, ...], tuple[str, ...]]:
    """The model without maps and without bfloat16 at its ends; what was mapped, and notes.

    Raises:
        Unsupported: operators inside compute in bfloat16, which ONNX Runtime does not on a CPU.
    """
    own = ModelProto()
    own.CopyFrom(model)
    notes: list[str] = []
    mapped = tuple(_unmap(own, notes))
    _widen(own, notes)
    return (own if notes else model), mapped, tuple(notes)


def labels_of(mapped: tuple[Mapped, ...]) -> tuple[str, ...]:
    """The classes that the only map names; none where there are several or none."""
    return tuple(str(label) for label in mapped[0].classes) if len(mapped) == 1 else ()


def check_maps(original: ModelProto, own: ModelProto, mapped: tuple[Mapped, ...]) -> None:
    """Run both, and compare the dictionaries with the tensors.

    Raises:
        ParityFailed: they are not the same numbers. InputError: the original does not run.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    weights = {tensor.name for tensor in own.graph.initializer}
    whole = signature_of(own)
    inputs = tuple(spec for spec in whole.inputs if spec.name not in weights)
    signature = Signature(inputs, whole.outputs)
    names = [value.name for value in original.graph.output]
    try:
        session = onnxruntime.InferenceSession(original.SerializeToString(), options)
        batch = _batch(signature)
        said = dict(zip(names, session.run(names, dict(batch)), strict=True))
    except Exception as problem:  # ONNX Runtime's exceptions have no base of their own
        raise InputError(f"the original does not run: {str(problem).splitlines()[0][:300]}") from problem
    tensors = OnnxRuntime().open(own.SerializeToString(), optimise=False).run(batch)
    for each in mapped:
        rows = said[each.name]
        want = np.array([[row[key] for key in each.classes] for row in rows], np.float32)
        if not np.array_equal(want, tensors[each.name]):
            raise ParityFailed(f"the map {each.name!r} is not the tensor that it is made of")


def _batch(signature: Signature) -> Tensors:
    first = signature.inputs[0].shape[:1]
    rows = first[0] if first and isinstance(first[0], int) else 1
    return made_up(signature, rows, next(sizes_to_try(signature)))


def _unmap(model: ModelProto, notes: list[str]) -> Iterator[Mapped]:
    """Take every ZipMap off that makes an output; the output becomes its tensor."""
    outputs = {value.name: value for value in model.graph.output}
    for node in list(model.graph.node):
        if node.op_type != "ZipMap" or node.domain != "ai.onnx.ml" or node.output[0] not in outputs:
            continue
        values: Mapping[str, list[str | int]] = {
            attribute.name: [text.decode() for text in attribute.strings] or list(attribute.ints)
            for attribute in node.attribute
        }
        classes = values.get("classlabels_strings") or values.get("classlabels_int64s") or []
        name, inner = node.output[0], node.input[0]
        rows = _rows(model)
        model.graph.node.remove(node)
        # An identity keeps both names, should the tensor be used elsewhere too.
        model.graph.node.append(helper.make_node("Identity", [inner], [name]))
        shape = [rows, len(classes)]
        outputs[name].CopyFrom(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        notes.append(f"the map {name!r} became a tensor of {len(classes)} classes")
        yield Mapped(name, tuple(classes))


def _rows(model: ModelProto) -> int | str:
    dims = model.graph.input[0].type.tensor_type.shape.dim
    return dims[0].dim_value or dims[0].dim_param or "batch" if dims else "batch"


def _widen(model: ModelProto, notes: list[str]) -> None:
    """float32 in place of bfloat16 at the ends, with a cast inside: NumPy has no bfloat16."""
    ends = [
        value
        for value in (*model.graph.input, *model.graph.output)
        if value.type.tensor_type.elem_type == TensorProto.BFLOAT16
    ]
    if not ends:
        return
    names = [value.name for value in ends]
    inputs = {value.name for value in model.graph.input}
    rename(model, names, [f"{name}.bfloat16" for name in names])
    casts = [
        helper.make_node("Cast", [name], [f"{name}.bfloat16"], to=TensorProto.BFLOAT16)
        for name in names
        if name in inputs
    ]
    nodes = [*casts, *model.graph.node]
    nodes += [
        helper.make_node("Cast", [f"{name}.bfloat16"], [name], to=TensorProto.FLOAT)
        for name in names
        if name not in inputs
    ]
    copied = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copied)
    for name, value in zip(names, ends, strict=True):
        value.name = name
        value.type.tensor_type.elem_type = TensorProto.FLOAT
    try:
        OnnxRuntime().open(model.SerializeToString(), optimise=False).close()
    except BundleError as problem:
        raise Unsupported(
            f"the network computes in bfloat16, which ONNX Runtime does not on a CPU: {problem.message}",
            hint="export it in float32 or float16",
        ) from problem
    notes.append(f"{', '.join(names)}: bfloat16 became float32 with a cast inside")
