"""One layer of a Caffe network, and what a function that converts layers gets and gives."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from .converter import NotConverted, Refused
from .frames import Array
from .onnx_graph import OnnxGraph, Value
from .prototxt import Message


@dataclass(frozen=True)
class Layer:
    """As the prototxt has it, with the weights that the caffemodel has under its name."""

    name: str
    type: str
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]
    settings: Message
    blobs: tuple[Array, ...] = ()

    def refuse(self, why: str, hint: str | None = None) -> NotConverted:
        """That this layer is not converted, by its name."""
        return NotConverted(f"layer {self.name!r} ({self.type}): {why}", hint)

    def wrong(self, why: str) -> Refused:
        """That this layer cannot be right, by its name."""
        return Refused(f"layer {self.name!r} ({self.type}): {why}")

    def weights(self, index: int, *shape: int) -> Array:
        """The layer's weights of this number, in a shape.

        Raises:
            Refused: there are none, or they are not as many.
        """
        count = math.prod(shape)
        if index >= len(self.blobs):
            raise self.wrong(
                f"takes {count} weights, of which the caffemodel holds none; are the two files a pair?"
            )
        blob = self.blobs[index]
        if blob.size != count:
            raise self.wrong(
                f"takes {' x '.join(map(str, shape))} weights, the caffemodel holds "
                f"{' x '.join(map(str, blob.shape))}; are the two files a pair?"
            )
        return blob.reshape(shape)

    def axis(self, number: int, rank: int) -> int:
        """An axis counted from the front.

        Raises:
            Refused: there is no such axis.
        """
        if not -rank <= number < rank:
            raise self.wrong(f"axis {number} of a value with {rank} axes")
        return number % rank

    def picture(self, value: Value) -> tuple[int, int, int]:
        """Channels, height and width.

        Raises:
            NotConverted: the value has not four axes.
        """
        if len(value.shape) != 4:
            raise self.refuse(f"takes {list(value.shape)}; [batch, channels, height, width] is converted")
        return value.shape[1], value.shape[2], value.shape[3]


Convert = Callable[[OnnxGraph, Layer, list[Value]], list[Value]]
"""Appends what a layer computes of its bottoms, and gives its tops."""
