"""A torch network to ONNX: by torch.export, and by tracing where that fails, with the reason."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from .converter import NotConverted
from .frames import Array

OPSET = 18
Axes = Sequence[dict[int, str]]
"""For each input, its open axes and what they are called."""


def export(
    torch: Any,
    network: Any,
    example: Sequence[Any],
    axes: Axes,
    inputs: Sequence[str],
    outputs: Sequence[str],
    limits: dict[str, int] | None = None,
) -> tuple[Array, list[str]]:
    """The network as one ONNX file (uint8[bytes]), and notes.

    Args:
        network: in evaluation mode; takes the inputs one after another, gives a tensor or several.
        example: tensors to export with, with two or more of whatever is open.
        axes: the open axes of each input; an axis of the same name is as long in all of them.
        limits: the most that an open axis may be.

    Raises:
        NotConverted: neither way makes ONNX of it; the message names the operator where torch does.
    """
    made = None
    try:
        made, lost = _dynamo(torch, network, example, axes, inputs, outputs, limits or {})
        if not lost:
            return made, []
        reason = f"it fixes the axis {lost[0]!r}, which is open"
    except Exception as problem:  # noqa: BLE001  # any step of the exporter; told in the note
        reason = _reason(problem)
    try:
        traced = _traced(torch, network, example, axes, inputs, outputs)
    except Exception as problem:  # whatever torch raises for an operator that it cannot write
        if made is not None:
            return made, [f"torch.export works, but {reason}; tracing fails: {_reason(problem)}"]
        raise NotConverted(
            f"torch.onnx makes no ONNX of it: {_reason(problem)} (torch.export: {reason})",
            "replace the operator, or export it to ONNX yourself and pack that",
        ) from problem
    return traced, [f"exported by tracing, because torch.export failed: {reason}"]


def _dynamo(
    torch: Any,
    network: Any,
    example: Sequence[Any],
    axes: Axes,
    inputs: Sequence[str],
    outputs: Sequence[str],
    limits: dict[str, int],
) -> tuple[Array, list[str]]:
    """The network, and the names of open axes that it has of one size only."""
    names = sorted({name for each in axes for name in each.values()})
    dims = {name: torch.export.Dim(name, max=limits.get(name)) for name in names}
    open_axes = tuple({axis: dims[name] for axis, name in each.items()} for each in axes)
    with contextlib.redirect_stdout(io.StringIO()):  # the exporter tells of its progress
        program = torch.onnx.export(
            network,
            tuple(example),
            dynamo=True,
            # One entry for each positional argument; a network with *arguments has them in one tuple.
            dynamic_shapes=(open_axes,),
            input_names=list(inputs),
            output_names=list(outputs),
            opset_version=OPSET,
            verbose=False,
        )
    model = program.model_proto
    given = {value.name: value.type.tensor_type.shape.dim for value in model.graph.input}
    lost = [
        called
        for name, each in zip(inputs, axes, strict=True)
        for axis, called in each.items()
        if not given[name][axis].dim_param
    ]
    return np.frombuffer(model.SerializeToString(), np.uint8), lost


def _traced(
    torch: Any,
    network: Any,
    example: Sequence[Any],
    axes: Axes,
    inputs: Sequence[str],
    outputs: Sequence[str],
) -> Array:
    buffer = io.BytesIO()
    torch.onnx.export(
        network,
        tuple(example),
        buffer,
        dynamo=False,
        opset_version=17,
        input_names=list(inputs),
        output_names=list(outputs),
        dynamic_axes=dict(zip(inputs, map(dict, axes), strict=True))
        | {name: {0: axes[0][0]} for name in outputs if 0 in axes[0]},
    )
    return np.frombuffer(buffer.getvalue(), np.uint8)


def _reason(problem: BaseException) -> str:
    """The innermost sentence: torch wraps the operator's name in pages of advice."""
    while problem.__cause__ is not None:
        problem = problem.__cause__
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    return f"{type(problem).__name__}: {lines[0][:300]}" if lines else type(problem).__name__
