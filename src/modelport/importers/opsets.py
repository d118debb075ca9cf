"""Models of old opsets, brought to one that every engine runs well; proven by running both.

onnx's own converter is not always right (the linear `Upsample` of opset 9 becomes another resize), so what it
makes is taken only where the answers stay the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import onnx
import onnx.version_converter
from onnx import ModelProto, NodeProto, helper

from ..errors import BundleError, InputError, ModelFailed, ModelportError, Unsupported
from ..runtimes.onnxruntime import OnnxRuntime
from ..tensors import Array, Tensors
from .batch import close_rows, made_up, run_session, sizes_to_try
from .canonical import check, opset_of, signature_of

OLD = 13
"""Opsets below this are brought to it."""
FIRST_RUN = 7
"""The first opset that ONNX Runtime knows whole."""
_BROADCASTS = frozenset({"Add", "Sub", "Mul", "Div", "Pow", "And", "Or", "Xor", "Equal", "Less", "Greater"})
"""Until opset 6 these took a second operand from `axis` on, and only where `broadcast` said so."""

Run = Callable[[Tensors], dict[str, Array]]


def upgraded(
    own: ModelProto, run: Run, example: Mapping[str, Array] | None = None
) -> tuple[ModelProto, tuple[str, ...]]:
    """The model at opset `OLD`, or as it is where its answers would change or onnx cannot; and notes.

    Args:
        own: in canonical form; not altered.
        run: the original, to compare with.
        example: a prepared batch, where the caller has one.

    Raises:
        Unsupported: it can neither be brought there nor be run as it is; the operator is named.
    """
    opset = opset_of(own)
    if opset >= OLD:
        return own, ()
    reason = ""
    for candidate in _candidates(own):
        if isinstance(candidate, str):
            reason = candidate
            continue
        reason = _difference(candidate, run, example)
        if not reason:
            return candidate, (f"opset {opset} became {OLD}, with the same answers",)
    problem = _not_run(own)
    if problem is None:
        return own, (f"opset {opset} is kept: {reason}",)
    raise Unsupported(
        f"opset {opset} is too old: ONNX Runtime does not run it ({problem}), and bringing it to {OLD} "
        f"failed: {reason}",
        at=_operator(problem) or _operator(reason),
        hint="export the network again with opset_version=18",
    )


def first_runnable(original: ModelProto) -> ModelProto | None:
    """A model of before opset 7 brought to it; None where onnx cannot."""
    try:
        converted = onnx.version_converter.convert_version(_without_axes(original), FIRST_RUN)
        del converted.graph.value_info[:]
    except (RuntimeError, ValueError, onnx.version_converter.ConvertError):
        return None
    return converted if opset_of(original) < FIRST_RUN and _not_run(converted) is None else None


def _candidates(own: ModelProto) -> Iterator[ModelProto | str]:
    """Upgrades to be proven, or why there is none."""
    try:
        converted = onnx.version_converter.convert_version(_without_axes(own), OLD)
        # It leaves shapes of values that it made, which can be wrong.
        del converted.graph.value_info[:]
        check(converted)
    except (RuntimeError, ValueError, InputError, onnx.version_converter.ConvertError) as problem:
        # Its messages have a format string in them that nobody filled in.
        text = re.sub(r"^.*?(?=Assertion)|%\w+ ?", "", " ".join(str(problem).split()))
        yield f"onnx does not convert it: {text[-200:]}"
        return
    yield converted
    resizes = [node for node in converted.graph.node if node.op_type == "Resize"]
    if resizes:
        # What Upsample, and Resize of opset 10, did; from 11 on another way is the default.
        for node in resizes:
            _set(node, "coordinate_transformation_mode", "asymmetric")
            _set(node, "nearest_mode", "floor")
        yield converted


def _difference(candidate: ModelProto, run: Run, example: Mapping[str, Array] | None) -> str:
    """Why the candidate is not the same model, or an empty text."""
    try:
        session = OnnxRuntime().open(candidate.SerializeToString())
    except BundleError as problem:
        return problem.message
    try:
        reason = "no input was found that the original runs on"
        for batch in _batches(candidate, example):
            try:
                want = run(batch)
            except (ModelFailed, InputError) as problem:
                reason = problem.message
                continue
            got = run_session(session)(batch)
            for name, array in want.items():
                if name not in got or not close_rows(got[name], array):
                    return f"at opset {OLD} its output {name!r} is another ({_apart(got.get(name), array)})"
            return ""
        return reason
    except ModelportError as problem:
        return problem.message
    finally:
        session.close()


def _batches(model: ModelProto, example: Mapping[str, Array] | None) -> Iterator[dict[str, Array]]:
    if example is not None:
        yield dict(example)
    signature = signature_of(model)
    first = signature.inputs[0].shape[:1]
    rows = first[0] if first and isinstance(first[0], int) else 1
    for sizes in sizes_to_try(signature):
        yield made_up(signature, rows, sizes)


def _apart(got: Array | None, want: Array) -> str:
    if got is None or got.shape != want.shape or want.dtype.kind != "f":
        return "in shape or in kind"
    return f"apart by {float(np.abs(got.astype(np.float64) - want).max()):.2g}"


def _not_run(model: ModelProto) -> str | None:
    """Why ONNX Runtime does not take the model as it is; None where it does."""
    try:
        OnnxRuntime().open(model.SerializeToString()).close()
    except BundleError as problem:
        return problem.message
    return None


def _operator(text: str) -> str | None:
    """The operator that a message of onnx or ONNX Runtime is about."""
    found = re.search(r"implementation for (\w+)\(|[Aa]dapter (?:for|\S+) (\w+)|schema; .*?\.(\w+)", text)
    return next((group for group in found.groups() if group), None) if found else None


def _without_axes(own: ModelProto) -> ModelProto:
    """A copy in which the second operand of an old broadcast has the axes that `axis` stands for.

    onnx's converter gives it one axis too many.
    """
    model = ModelProto()
    model.CopyFrom(own)
    if opset_of(model) >= FIRST_RUN:
        return model
    ranks = _ranks(model)
    nodes: list[NodeProto] = []
    for number, node in enumerate(model.graph.node):
        values = {attribute.name: attribute.i for attribute in node.attribute}
        if node.op_type in _BROADCASTS and values.get("broadcast") and "axis" in values:
            left, right = (ranks.get(name) for name in node.input[:2])
            if left is not None and right is not None:
                behind = left - values["axis"] % left - right
                if behind > 0:
                    grown = f"modelport_broadcast_{number}"
                    axes = list(range(right, right + behind))
                    nodes.append(helper.make_node("Unsqueeze", [node.input[1]], [grown], axes=axes))
                    node.input[1] = grown
                kept = [attribute for attribute in node.attribute if attribute.name != "axis"]
                del node.attribute[:]
                node.attribute.extend(kept)
        nodes.append(node)
    copied = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copied)
    return model


def _ranks(model: ModelProto) -> dict[str, int]:
    inferred = onnx.shape_inference.infer_shapes(model).graph
    values = (*inferred.value_info, *inferred.input, *inferred.output)
    ranks = {
        value.name: len(value.type.tensor_type.shape.dim)
        for value in values
        if value.type.tensor_type.HasField("shape")
    }
    return ranks | {tensor.name: len(tensor.dims) for tensor in model.graph.initializer}


def _set(node: NodeProto, name: str, value: str) -> None:
    kept = [attribute for attribute in node.attribute if attribute.name != name]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute(name, value)])
