"""What the converters of TensorFlow's formats have in common: tf2onnx, its complaints, and blocks of rows."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .converter import NotConverted
from .frames import Array

OPSET = 18
SHOWN = 6
FORBIDDEN = frozenset({"PyFunc", "EagerPyFunc", "PyFuncStateless", "ReadFile", "WriteFile", "MatchingFiles"})
"""Operators that run Python or touch files, which no network needs."""
UNSUPPORTED = re.compile(r"op \[(?P<name>[^\]]*?): (?P<op>[^\]:]+)\] is not supported")

# Keras imports them where they are installed, for wrappers and pictures that no conversion has; that takes as
# long as TensorFlow's own import.
UNNEEDED = ("sklearn", "pandas", "matplotlib")

Said = Sequence[Mapping[str, Any]]
"""What the user says that the network takes: name, dtype, shape."""


def import_tensorflow() -> Any:
    """TensorFlow, without its banners."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    os.environ["TF2_BEHAVIOR"] = "1"
    for name in UNNEEDED:
        # None is how Python notes that there is no such module. The annotation does not know of it.
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]
    import tensorflow as tf

    tf.get_logger().setLevel(logging.CRITICAL)
    return tf


class Complaints(logging.Handler):
    """What tf2onnx says of operators while it converts; the exception says less."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.operators: dict[str, list[str]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Keep what names an operator."""
        if found := UNSUPPORTED.search(record.getMessage()):
            self.operators.setdefault(found["op"].strip(), []).append(found["name"].strip())

    def sentence(self) -> str:
        """The operators and where they are; empty where there was no complaint."""
        said = [f"{op} (node {names[0]})" for op, names in self.operators.items()]
        return ", ".join(said[:SHOWN]) + (f" and {len(said) - SHOWN} more" if len(said) > SHOWN else "")


def to_onnx(what: str, graph_def: Any, **options: Any) -> Any:
    """The ONNX model as tf2onnx makes it.

    Args:
        what: the source, for messages.
        graph_def: a frozen graph; None for TensorFlow Lite.
        options: of tf2onnx's conversion: names of inputs and outputs, shapes, tables.

    Raises:
        NotConverted: an operator has no counterpart; which, and where.
    """
    from tf2onnx import convert

    complaints = Complaints()
    loggers = [logging.getLogger(name) for name in ("tf2onnx", "tf2onnx.tfonnx", "tf2onnx.tflite_utils")]
    for logger in loggers:
        logger.addHandler(complaints)
    try:
        handlers: dict[str, Any] = {"Erfc": (_one_less_erf, [])}
        model, _ = convert._convert_common(
            graph_def, name=what, opset=OPSET, custom_op_handlers=handlers, **options
        )
    except Exception as problem:
        if complaints.operators:
            raise _lacking(what, complaints) from problem
        reason = " ".join(str(problem).split())[:300] or type(problem).__name__
        raise NotConverted(f"tf2onnx does not convert {what}: {reason}") from problem
    finally:
        for logger in loggers:
            logger.removeHandler(complaints)
    if complaints.operators:
        raise _lacking(what, complaints)
    return model


def _one_less_erf(context: Any, node: Any, name: str, _: Any) -> None:
    """TensorFlow's Erfc, which its exact GELU is made of and tf2onnx does not know, as 1 - Erf."""
    result = node.output[0]
    shape, kind = context.get_shape(result), context.get_dtype(result)
    one = context.make_const(
        f"{name}/one", np.array(1, {11: np.float64, 10: np.float16}.get(kind, np.float32))
    )
    context.remove_node(node.name)
    erf = context.make_node("Erf", list(node.input), shapes=[shape], dtypes=[kind])
    context.make_node(
        "Sub", [one.output[0], erf.output[0]], name=name, outputs=[result], shapes=[shape], dtypes=[kind]
    )


def _lacking(what: str, complaints: Complaints) -> NotConverted:
    strings = any("String" in op or "Regex" in op or "ParseExample" in op for op in complaints.operators)
    return NotConverted(
        f"{what} has operators that ONNX has no counterpart for: {complaints.sentence()}",
        hint="export it from behind them: what works on text or on files belongs before the network"
        if strings
        else "export the network without them, or from standard operators",
    )


def optimised(tf: Any, graph_def: Any, inputs: Sequence[str], outputs: Sequence[str]) -> Any:
    """The part of a frozen graph between tensors, with what tf2onnx needs done to it first."""
    from tf2onnx import tf_loader

    with tf.Graph().as_default():
        return tf_loader.tf_optimize(list(inputs), list(outputs), graph_def)


def packed(model: Any) -> dict[str, Array]:
    """A model as it travels."""
    return {"onnx": np.frombuffer(model.SerializeToString(), np.uint8)}


def rename(model: Any, names: Mapping[str, str]) -> None:
    """Values of the model under other names; inner ones that are called so already move."""
    graph = model.graph
    inner = {name for node in graph.node for name in (*node.input, *node.output)}
    moved = {name: f"{name}/inner" for name in set(names.values()) & inner if name not in names}
    new = {**moved, **names}
    for node in graph.node:
        node.input[:] = [new.get(name, name) for name in node.input]
        node.output[:] = [new.get(name, name) for name in node.output]
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        value.name = new.get(value.name, value.name)


def shapes_said(said: Said) -> dict[str, list[int]]:
    """Shapes as tf2onnx takes them: -1 where a size is only named."""
    return {
        str(each["name"]): [size if isinstance(size, int) else -1 for size in each["shape"]] for each in said
    }


def name_open_axes(model: Any, said: Said) -> None:
    """Names for axes of any size: those that the user gave, and else `batch` for the first one."""
    given = {str(each["name"]): list(each["shape"]) for each in said}
    for value in (*model.graph.input, *model.graph.output):
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            wanted = given.get(value.name, [])
            if axis < len(wanted) and isinstance(wanted[axis], int):
                dim.dim_value = wanted[axis]
            elif axis < len(wanted):
                dim.dim_param = str(wanted[axis])
            elif not dim.dim_value:
                dim.dim_param = "batch" if axis == 0 else f"{value.name}.{axis}"


def in_blocks(
    run: Callable[[Mapping[str, Array]], dict[str, Array]], arrays: Mapping[str, Array], rows: int | None
) -> dict[str, Array]:
    """A batch of any size on a network that takes `rows` at a time; None: any number.

    The last block is filled up with its last row, which is taken off again.
    """
    counts = {len(array) if array.ndim else -1 for array in arrays.values()}
    total = counts.pop() if len(counts) == 1 else -1
    if rows is None or total in (-1, rows):
        return run(arrays)
    parts: list[dict[str, Array]] = []
    for start in range(0, total, rows):
        part = {name: array[start : start + rows] for name, array in arrays.items()}
        missing = max(0, start + rows - total)
        if missing:
            part = {name: np.concatenate([a, np.repeat(a[-1:], missing, axis=0)]) for name, a in part.items()}
        parts.append({name: array[: rows - missing] for name, array in run(part).items()})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
