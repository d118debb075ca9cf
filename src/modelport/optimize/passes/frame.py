"""A detector's network is given frames no larger than the photo in them needs.

A photo of 4:3 leaves a quarter of a square frame empty, and the network looks for objects in the grey too.
Where it is convolutions all through, it takes smaller frames; Ultralytics runs its own files so (`rect`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import msgspec
import numpy as np
import onnx
from onnx import numpy_helper

from ...errors import ModelportError
from ...runtimes.onnxruntime import OnnxRuntime
from ...runtimes.outputs import ending_in
from ...steps.compile import POST_STEPS, PRE_STEPS
from ...steps.grids import YoloV5Raw
from ...steps.image import both_sides
from ...steps.resize import Letterbox
from ...steps.step import PreStep, parse_steps
from ...tensors import Array, Tensors
from ..calibration import Calibration, stacked
from ..candidate import Made, NotApplicable
from ..ranges import rows_of

CELLS = 2
"""Of the coarsest level, which a frame's sides are whole multiples of: of one there would be twice as many
shapes, few of which share a batch, for a thirtieth less to compute."""
CLOSE = 1e-4
SIZES = 3
"""The place of `sizes` among the inputs of Resize."""

Shape = tuple[int, ...]


class Frame(msgspec.Struct, frozen=True):
    """Height and width of the network's picture are left free, and `pre` makes them as small as may be.

    `prepares`, `steps`: those of the bundle's `pre` and `post`, in their data form.
    """

    name: ClassVar[str] = "frame"
    id: ClassVar[str] = name
    title: ClassVar[str] = "frames no larger than the photo needs"
    prepares: tuple[Any, ...] = ()
    steps: tuple[Any, ...] = ()

    def apply(self, network: onnx.ModelProto, calibration: Calibration) -> Made:
        before = parse_steps(self.prepares, PRE_STEPS, "$.steps.pre")
        after = parse_steps(self.steps, POST_STEPS, "$.steps.post")
        box = _letterbox(before)
        size = both_sides(box.size)
        head = next((step for step in after if isinstance(step, YoloV5Raw) and step.channels_last), None)
        if head is None:
            raise NotApplicable("its boxes are decoded in the network, which is made for one size")
        picture = calibration.prepared[0]
        try:
            first = _rows_axis(picture, size)
            strides = _strides(network, size)
            multiple = CELLS * max(strides)
            if min(size) <= multiple:
                raise ValueError(f"its frame of {size[0]} x {size[1]} is hardly larger than its cells")
            smaller = msgspec.structs.replace(box, multiple=multiple)
            freed = _freed(network, picture, first + 1)
            _compare(network, freed, picture, first, multiple)
        except (ValueError, ModelportError) as problem:
            raise NotApplicable(f"it takes pictures of no other size: {problem}") from problem
        levels = msgspec.structs.replace(head, strides=strides)
        return Made(
            freed,
            (f"frames of up to {size[0]} x {size[1]} pixels, in steps of {multiple}",),
            pre=tuple(smaller if step is box else step for step in before),
            post=tuple(levels if step is head else step for step in after),
        )


def _letterbox(steps: Sequence[PreStep]) -> Letterbox:
    """The one that puts every photo into a frame of one size."""
    found = [step for step in steps if isinstance(step, Letterbox)]
    if len(found) != 1 or found[0].multiple:
        raise NotApplicable("its photos are not put into a frame of one size")
    return found[0]


def _rows_axis(picture: Tensors, size: tuple[int, int]) -> int:
    """Where in the one prepared picture its rows are; its columns are behind them.

    Raises:
        ValueError: there are other inputs, or the frame is in none of the two places.
    """
    shapes = [array.shape for array in picture.values()]
    for axis in (0, 1):
        if len(shapes) == 1 and shapes[0][axis : axis + 2] == size:
            return axis
    raise ValueError(f"a frame of {size[0]} x {size[1]} is not all that it takes")


def _strides(network: onnx.ModelProto, size: tuple[int, int]) -> tuple[int, ...]:
    """Pixels from one cell to the next, finest first.

    Raises:
        ValueError: the rows of an output are not known, or do not divide the frame.
    """
    rows = [value.type.tensor_type.shape.dim[1].dim_value for value in network.graph.output]
    if any(count < 1 or size[0] % count for count in rows):
        raise ValueError(f"its outputs have {rows} rows of cells for {size[0]} of pixels")
    return tuple(sorted(size[0] // count for count in rows))


def _freed(network: onnx.ModelProto, picture: Tensors, rows: int) -> onnx.ModelProto:
    """A copy without sizes of pictures in it; what a Resize enlarges is enlarged by a factor.

    Args:
        rows: the axis of the input's rows.
    """
    outputs = [value.name for value in network.graph.output]
    own = ending_in(network, outputs)
    sized = [node for node in own.graph.node if _by_sizes(node)]
    seen = {name for node in sized for name in (node.input[0], node.output[0])}
    given = _ran(ending_in(network, sorted(seen - {network.graph.input[0].name})), picture) if seen else {}
    for node in sized:
        _scale(own.graph, node, given[node.input[0]].shape, given[node.output[0]].shape)
    own = ending_in(own, outputs)  # without what computed the sizes
    for value, former in zip(own.graph.output, network.graph.output, strict=True):
        value.CopyFrom(former)
        _free(value, (1, 2))
    _free(own.graph.input[0], (rows, rows + 1))
    return own


def _by_sizes(node: onnx.NodeProto) -> bool:
    return node.op_type == "Resize" and len(node.input) > SIZES and bool(node.input[SIZES])


def _scale(graph: onnx.GraphProto, node: onnx.NodeProto, given: Shape, made: Shape) -> None:
    """Let a Resize enlarge by factors, as it did for these shapes by sizes."""
    factors = np.array(made, np.float32) / np.array(given, np.float32)
    name = f"{node.output[0]}_scales"
    graph.initializer.append(numpy_helper.from_array(factors, name))
    inputs = [node.input[0], "", name]
    del node.input[:]
    node.input.extend(inputs)


def _free(value: onnx.ValueInfoProto, axes: Iterable[int]) -> None:
    for axis in axes:
        value.type.tensor_type.shape.dim[axis].dim_param = f"{value.name}.{axis}"


def _compare(
    network: onnx.ModelProto, freed: onnx.ModelProto, picture: Tensors, first: int, multiple: int
) -> None:
    """That a whole frame is answered as before, and a smaller one with as many cells less.

    Raises:
        ValueError: it is not. ModelportError: it does not run.
    """
    (name, whole) = next(iter(picture.items()))
    corner = (slice(None),) * first + (slice(whole.shape[first] - multiple),) * 2
    before, same, less = (
        _ran(graph, {name: array})
        for graph, array in ((network, whole), (freed, whole), (freed, whole[corner]))
    )
    for output, array in before.items():
        if not np.allclose(array, same[output], CLOSE, CLOSE):
            raise ValueError(f"{output!r} is another one where sizes are free")
        stride = whole.shape[first] // array.shape[1]
        if less[output].shape[1:3] != tuple(side - multiple // stride for side in array.shape[1:3]):
            raise ValueError(f"{output!r} has {less[output].shape[1:3]} cells for a smaller frame")


def _ran(network: onnx.ModelProto, item: Tensors) -> dict[str, Array]:
    """What it gives for one item."""
    session = OnnxRuntime().open(network.SerializeToString())
    try:
        return session.run(stacked([dict(item)] * rows_of(network)))
    finally:
        session.close()
