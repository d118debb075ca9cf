"""Where a picture lies in what the network sees, and the way back: boxes in the original's pixels.

`pre` carries `placement` around the network: float32[6] = scale_x, scale_y, left, top, width, height, so that
x in the original is (x in the network's picture - left) / scale_x, within 0 and width; y likewise.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import ClassVar

import numpy as np

from ..errors import UsageError
from ..tensors import Array, Tensors, TensorSpec
from .candidates import BOXES, CLASSES
from .graph import Graph, Value
from .image import Cast, Channels, Layout, Normalize, Scale
from .resize import Letterbox, Resize
from .step import PostStep, PreStep

PLACEMENT = TensorSpec("placement", "float32", (6,))
"""What `pre` carries for one item."""

_IN_PLACE = (Cast, Channels, Layout, Normalize, Scale)


def compile_placement(graph: Graph, steps: Sequence[PreStep], image: Value) -> str:
    """Append the computation of `PLACEMENT` for `image` [height, width, channels] and return its name.

    Raises:
        UsageError: the steps move pixels in another way than one `letterbox` or `resize` does.
    """
    op, f64 = graph.op, partial(graph.constant, dtype="float64")
    step = _mover(steps)
    height, width = (graph.cast(graph.size(image, axis), "float64") for axis in (0, 1))
    if step is None:
        places = (f64([1.0]), f64([1.0]), f64([0.0]), f64([0.0]))
    else:
        places = step.compile_placement(graph, image)
    return graph.cast(op("Concat", *places, width, height, axis=0), "float32")


def reference_placement(steps: Sequence[PreStep], height: int, width: int) -> Array:
    """What `compile_placement` computes for a picture of `height` x `width`: float32[6]."""
    step = _mover(steps)
    places = (1.0, 1.0, 0.0, 0.0) if step is None else step.reference_placement(height, width)
    return np.array([*places, width, height], np.float64).astype(np.float32)


def _mover(steps: Sequence[PreStep]) -> Letterbox | Resize | None:
    found: list[Letterbox | Resize] = []
    for index, step in enumerate(steps):
        if isinstance(step, Letterbox | Resize):
            found.append(step)
        elif not isinstance(step, _IN_PLACE):
            raise UsageError(
                f"boxes are not mapped back through `{step.name}`",
                at=f"$.pre[{index}]",
                hint="a detector's picture is prepared by one `letterbox` or `resize`",
            )
    if len(found) > 1:
        raise UsageError("boxes are mapped back through one `letterbox` or `resize`, not several", at="$.pre")
    return found[0] if found else None


class ToOriginal(PostStep, frozen=True, forbid_unknown_fields=True):
    """Boxes in the network's picture -> boxes in pixels of the decoded original, within its edges.

    Takes `boxes` float32[batch, n, 4] with `classes`, and the carried `placement`. `relative`: boxes are
    shares of the picture's sides, 0 to 1, and the whole picture is in what the network sees.
    """

    name: ClassVar[str] = "to_original"
    relative: bool = False

    def compile(self, graph: Graph, tensors: dict[str, Value], labels: Sequence[str]) -> dict[str, Value]:
        op, i64 = graph.op, partial(graph.constant, dtype="int64")
        if BOXES not in tensors or CLASSES not in tensors or PLACEMENT.name not in tensors:
            raise UsageError("to_original takes `boxes` and the placement that `pre` carries")
        boxes, placement = tensors[BOXES], tensors[PLACEMENT.name]

        def each(x: int, y: int) -> str:
            return op("Unsqueeze", op("Gather", placement.name, i64([x, y, x, y]), axis=1), i64([1]))

        zero = graph.constant(0.0, "float32")
        if self.relative:
            moved = op("Mul", boxes.name, each(4, 5))
        else:
            moved = op("Div", op("Sub", boxes.name, each(2, 3)), each(0, 1))
        inside = op("Min", op("Max", moved, zero), each(4, 5))
        used = op("GreaterOrEqual", op("Unsqueeze", tensors[CLASSES].name, i64([2])), i64(0))
        mapped = Value(op("Where", used, inside, zero), "float32", boxes.shape)
        return {name: value for name, value in tensors.items() if name != PLACEMENT.name} | {BOXES: mapped}

    def reference(self, tensors: Tensors, labels: Sequence[str]) -> dict[str, Array]:
        placement = tensors[PLACEMENT.name][:, None, :]
        if self.relative:
            moved = tensors[BOXES] * placement[..., [4, 5, 4, 5]]
        else:
            moved = (tensors[BOXES] - placement[..., [2, 3, 2, 3]]) / placement[..., [0, 1, 0, 1]]
        inside = np.minimum(np.maximum(moved, np.float32(0)), placement[..., [4, 5, 4, 5]])
        mapped = np.where(tensors[CLASSES][..., None] >= 0, inside, np.float32(0)).astype(np.float32)
        return {name: value for name, value in tensors.items() if name != PLACEMENT.name} | {BOXES: mapped}
