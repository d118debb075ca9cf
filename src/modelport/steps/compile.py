"""Steps to graphs, and the same steps in native code. Knows every step by name.

What comes out is one ONNX model of standard operators with its signature; it holds no trace of where it
was compiled, so the same steps give the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from ..bundle.columns import TEXT, specs_of
from ..bundle.manifest import Column, Option
from ..errors import TooLarge, UsageError
from ..tensors import Array, Signature, Tensors, TensorSpec
from . import (
    grids,
    heads,
    image,
    ink,
    nms,
    placement,
    post,
    quantised,
    resize,
    scored_boxes,
    tables,
    vector,
    words,
)
from .graph import Graph, Value
from .step import PostStep, PreStep

IMAGE = TensorSpec("image", "uint8", ("height", "width", 3))
"""What `decode_image` gives and every picture's `pre` takes."""

PRE_STEPS: dict[str, type[PreStep]] = {
    step.name: step
    for step in (
        resize.Resize,
        resize.Letterbox,
        image.CenterCrop,
        image.Pad,
        image.Grayscale,
        image.Channels,
        image.Scale,
        image.Normalize,
        image.Cast,
        image.Layout,
        quantised.Quantize,
        ink.Shrink,
        ink.Polarity,
        ink.Flatten,
        ink.Stretch,
        ink.CropToInk,
        ink.CenterOfMass,
        vector.Vector,
        words.Lower,
        words.Split,
        words.Match,
        words.Vocabulary,
        words.Truncate,
        words.Surround,
        words.PadTo,
    )
}
"""Every step before the network, by the name it has in recipes."""

POST_STEPS: dict[str, type[PostStep]] = {
    step.name: step
    for step in (
        post.Squeeze,
        quantised.Dequantize,
        post.Softmax,
        post.Sigmoid,
        post.TopK,
        post.Labels,
        tables.Binary,
        tables.Predicted,
        tables.Drop,
        heads.YoloV5,
        heads.YoloV8,
        heads.YoloV10,
        grids.Yolox,
        grids.NanoDet,
        grids.YoloV5Raw,
        scored_boxes.ScoredBoxes,
        nms.Nms,
        nms.Best,
        placement.ToOriginal,
    )
}
"""Every step after the network, by the name it has in recipes."""

ANSWER_NAMES = ("scores", "indices", "labels", "boxes", "classes", "count", "value")
"""What the steps after the network call what they make; its own outputs need other names."""


class CompiledGraph(msgspec.Struct, frozen=True):
    """A serialized ONNX model and what it takes and gives."""

    data: bytes
    signature: Signature
    options: tuple[Option, ...] = ()


def carried_by(post: Sequence[PostStep]) -> tuple[TensorSpec, ...]:
    """What `pre` has to carry around the network for these steps, for one item."""
    return (placement.PLACEMENT,) if any(isinstance(step, placement.ToOriginal) for step in post) else ()


def compile_pre(
    steps: Sequence[PreStep],
    output: str,
    *,
    carried: Sequence[TensorSpec] = (),
    graph_name: str = "pre",
) -> CompiledGraph:
    """The graph from `image` uint8[height, width, 3] to one item of the network's input `output`.

    What is to be `carried` around the network (see `carried_by`) comes out beside it. The result has no
    batch axis, and a number for every axis that the steps fix.

    Raises:
        UsageError: a step cannot take what the one before it gives; `at` holds the step's index.
    """
    graph = Graph()
    value = picture = graph.input(IMAGE)
    done = 0
    while done < len(steps):
        try:
            value, taken = _compile_next(graph, value, steps[done:])
        except UsageError as problem:
            raise _placed(problem, f"$.pre[{done}]") from problem
        done += taken
    if output == IMAGE.name and value.name != IMAGE.name:
        raise UsageError(
            f"the network's input is named {output!r}, as the decoded picture is",
            hint="rename the network's input",
        )
    spec = TensorSpec(output, value.dtype, value.shape)
    graph.output(spec, value.name)
    for beside in carried:
        graph.output(beside, placement.compile_placement(graph, steps, picture))
    return CompiledGraph(graph.build(graph_name), Signature((IMAGE,), (spec, *carried)))


def compile_table(
    columns: Sequence[Column],
    steps: Sequence[PreStep],
    inputs: Sequence[TensorSpec],
    *,
    graph_name: str = "pre",
) -> CompiledGraph:
    """The graph from one row to the network's `inputs` (their first axis is the batch).

    Args:
        columns: what a row is.
        steps: `vector` and what comes after it; none where the network takes the columns by name.
        inputs: the network's.

    Raises:
        UsageError: a column without an input or the other way round, or one that the network cannot take;
            `at` holds the place.
    """
    graph = Graph()
    values = [graph.input(spec) for spec in specs_of(columns)]
    if not steps:
        outputs = vector.compile_columns(graph, values, columns, inputs)
        return CompiledGraph(graph.build(graph_name), Signature(specs_of(columns), tuple(outputs)))
    first, rest = _stacking(steps)
    value = first.stack(graph, values, columns)
    for index, step in enumerate(rest, 1):
        try:
            value = step.compile(graph, value)
        except UsageError as problem:
            raise _placed(problem, f"$.pre[{index}]") from problem
    spec = TensorSpec(inputs[0].name, value.dtype, value.shape)
    graph.output(spec, value.name)
    return CompiledGraph(graph.build(graph_name), Signature(specs_of(columns), (spec,)))


def reference_table(
    columns: Sequence[Column], steps: Sequence[PreStep], inputs: Sequence[TensorSpec], row: Tensors
) -> dict[str, Array]:
    """What `compile_table` computes, in native code; of `[rows, 1]` columns it makes a batch."""
    if not steps:
        return vector.convert_columns(row, columns, inputs)
    first, rest = _stacking(steps)
    value = first.stacked(row, columns)
    for step in rest:
        value = step.reference(value)
    return {inputs[0].name: np.ascontiguousarray(value)}


def _stacking(steps: Sequence[PreStep]) -> tuple[vector.Vector, Sequence[PreStep]]:
    first = steps[0]
    if not isinstance(first, vector.Vector):
        raise UsageError(f"the first step of a table is `vector`, not `{first.name}`", at="$.pre[0]")
    return first, steps[1:]


def compile_text(steps: Sequence[PreStep], spec: TensorSpec, *, graph_name: str = "pre") -> CompiledGraph:
    """The graph from `text` string[1] to one item of the network's input `spec` (batch first).

    Raises:
        UsageError: a step cannot take what the one before it gives; `at` holds the step's index.
    """
    graph = Graph()
    value = graph.input(TEXT)
    for index, step in enumerate(steps):
        try:
            value = step.compile(graph, value)
        except UsageError as problem:
            raise _placed(problem, f"$.pre[{index}]") from problem
    if not steps and len(spec.shape) == 1:
        value = Value(graph.op("Squeeze", value.name, graph.constant([0], "int64")), value.dtype, ())
    made = TensorSpec(spec.name, value.dtype, value.shape)
    graph.output(made, value.name)
    return CompiledGraph(graph.build(graph_name), Signature((TEXT,), (made,)))


def reference_text(steps: Sequence[PreStep], spec: TensorSpec, text: Array) -> Array:
    """What `compile_text` computes, in native code."""
    if not steps and len(spec.shape) == 1:
        return text.reshape(())
    return reference_pre(steps, text)


def compile_tokens(
    inputs: Sequence[TensorSpec], length: int | str, *, graph_name: str = "pre"
) -> CompiledGraph:
    """The graph from a tokenizer's tensors, int64[length], to the network's `inputs` (batch first)."""
    graph = Graph()
    given, made = [], []
    for spec in inputs:
        value = graph.input(TensorSpec(spec.name.removeprefix("net_").rstrip("_"), "int64", (length,)))
        given.append(TensorSpec(value.name, value.dtype, value.shape))
        made.append(TensorSpec(spec.name, spec.dtype, (length,)))
        graph.output(made[-1], value.name if spec.dtype == "int64" else graph.cast(value.name, spec.dtype))
    return CompiledGraph(graph.build(graph_name), Signature(tuple(given), tuple(made)))


def compile_identity(specs: Sequence[TensorSpec], *, graph_name: str = "pre") -> CompiledGraph:
    """The graph that hands tensors on as they are: the `pre` of decode kind "tensors". It has no nodes."""
    graph = Graph()
    for spec in specs:
        graph.output(spec, graph.input(spec).name)
    return CompiledGraph(graph.build(graph_name), Signature(tuple(specs), tuple(specs)))


def compile_post(
    steps: Sequence[PostStep],
    raw: Sequence[TensorSpec],
    labels: Sequence[str] = (),
    *,
    graph_name: str = "post",
) -> CompiledGraph:
    """The graph from `raw`, the network's outputs and what was carried (first axis the batch), to the answer.

    With no steps the outputs pass through under their own names.

    Raises:
        UsageError: a step cannot take what is there; `at` holds its index. A made tensor has the name of
            one of the network's outputs.
    """
    graph = Graph()
    tensors = {spec.name: graph.input(spec) for spec in raw}
    for index, step in enumerate(steps):
        try:
            tensors = step.compile(graph, tensors, labels)
        except UsageError as problem:
            raise _placed(problem, f"$.post[{index}]") from problem
    outputs = []
    for name, value in tensors.items():
        if name.startswith("("):
            continue
        spec = TensorSpec(name, value.dtype, value.shape)
        if name != value.name and any(name == given.name for given in raw):
            raise UsageError(
                f"the network has an output named {name!r}, and the answer makes another",
                at="$.post",
                hint=f"rename the network's output; the answer's names are {', '.join(ANSWER_NAMES)}",
            )
        graph.output(spec, value.name)
        outputs.append(spec)
    return CompiledGraph(graph.build(graph_name), Signature(tuple(raw), tuple(outputs)), graph.options)


def reference_pre(steps: Sequence[PreStep], image: Array) -> Array:
    """What `compile_pre` computes, in native code: uint8[height, width, 3] -> one item of the input."""
    value = image
    for step in steps:
        value = step.reference(value)
    return np.ascontiguousarray(value)


def reference_carried(steps: Sequence[PreStep], image: Array, carried: Sequence[str]) -> dict[str, Array]:
    """What `compile_pre` carries around the network for this picture, in native code."""
    height, width = image.shape[:2]
    return {name: placement.reference_placement(steps, height, width) for name in carried}


def reference_post(steps: Sequence[PostStep], raw: Tensors, labels: Sequence[str] = ()) -> dict[str, Array]:
    """What `compile_post` computes, in native code; the first axis is the batch."""
    tensors = dict(raw)
    for step in steps:
        tensors = step.reference(tensors, labels)
    return {name: value for name, value in tensors.items() if not name.startswith("(")}


def check_growth(steps: Sequence[PreStep], height: int, width: int, max_pixels: int) -> None:
    """Refuse a picture that a resize on the way would make larger than `max_pixels`.

    A picture of one pixel by twenty thousand is small, and with its shorter side made 256 it is not. What
    a crop right behind the resize throws away is never made, and does not count.

    Raises:
        TooLarge: with the size that would come out.
    """
    for step, after in zip(steps, [*steps[1:], None], strict=True):
        if isinstance(step, resize.Resize):
            height, width = step.target(height, width)
            if height * width > max_pixels and not isinstance(after, image.CenterCrop):
                raise TooLarge(
                    f"resizing makes {width} x {height} pixels of it; at most {max_pixels} are made"
                )
        elif isinstance(step, image.CenterCrop):
            height, width = image.both_sides(step.size)
        elif isinstance(step, resize.Letterbox):
            return


def _compile_next(graph: Graph, x: Value, steps: Sequence[PreStep]) -> tuple[Value, int]:
    """The next step, or a resize with the crop after it, which is all that has to be computed of it."""
    step, after = steps[0], steps[1] if len(steps) > 1 else None
    if isinstance(step, resize.Resize) and isinstance(after, image.CenterCrop):
        cropped = step.compile_center(graph, x, after)
        if cropped is not None:
            return cropped, 2
    return step.compile(graph, x), 1


def _placed(problem: UsageError, at: str) -> UsageError:
    return UsageError(problem.message, at=problem.at or at, hint=problem.hint)
