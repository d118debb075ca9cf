"""Steps on pictures that move or recompute single pixels: crop, pad, colour, range, axes.

A picture is uint8 [height, width, channels] until `scale`, `normalize` or `cast` makes numbers of it and
`layout` gives it the axes of the network. Whatever is integer here stays integer in the graph, and what
is float32 is one operator for each NumPy operation in the same order, so both give the same bits.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal

import msgspec
import numpy as np

from ..errors import UsageError
from ..tensors import Array, numpy_dtype
from .graph import Graph, Value
from .step import PreStep

Side = Annotated[int, msgspec.Meta(ge=1, le=16384)]
Size = int | tuple[int, int]
"""Both sides, or [height, width], in pixels. `both_sides` checks the bounds, because msgspec 0.22 corrupts
memory where an int with bounds stands beside a tuple of fixed length."""
Margin = Annotated[int, msgspec.Meta(ge=0, le=16384)]
Byte = Annotated[int, msgspec.Meta(ge=0, le=255)]


def picture(x: Value, step: str, dtype: str | None = "uint8", channels: int | None = None) -> Value:
    """`x` itself, where it is a picture that `step` can take.

    Raises:
        UsageError: not [height, width, channels], another dtype, or another number of channels.
    """
    got = f"{x.dtype}[{', '.join(map(str, x.shape))}]"
    if len(x.shape) != 3 or x.shape[2] not in (1, 2, 3, 4):
        raise UsageError(f"{step} takes [height, width, channels], got {got}", hint="`layout` comes last")
    if dtype is not None and x.dtype != dtype:
        raise UsageError(
            f"{step} takes {dtype} pixels, got {got}", hint=f"put it before the step that makes {x.dtype}"
        )
    if channels is not None and x.shape[2] != channels:
        hint = "put `grayscale` before it" if channels == 1 else None
        raise UsageError(f"{step} takes {channels} channel(s), got {got}", hint=hint)
    return x


def both_sides(size: Size) -> tuple[int, int]:
    """Height and width.

    Raises:
        ValueError: a side is not 1 to 16384 pixels.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if not (1 <= height <= 16384 and 1 <= width <= 16384):
        raise ValueError(f"`size` must be 1 to 16384 pixels, got {size}")
    return height, width


class CenterCrop(PreStep, frozen=True, forbid_unknown_fields=True):
    """The middle `size` pixels, as torchvision's `CenterCrop` cuts them; black where there are none.

    `size`: both sides, or [height, width]. The first row is `round((height - size) / 2)`, halves to the
    even number; a smaller picture gets `(size - height) // 2` black rows on top and the rest below.
    `rounding`: "down" takes the whole number below `(height - size) / 2` in both cases, as Hugging Face's
    processors do. uint8 [h, w, c] -> uint8 [size, size, c].
    """

    name: ClassVar[str] = "center_crop"
    size: Size
    rounding: Literal["nearest", "down"] = "nearest"

    def __post_init__(self) -> None:
        both_sides(self.size)

    def compile(self, graph: Graph, x: Value) -> Value:
        picture(x, self.name)
        height, width = both_sides(self.size)
        starts, missing = [], []
        for axis, want in ((0, height), (1, width)):
            have = graph.size(x, axis)
            over = graph.op("Max", graph.op("Sub", have, _int(graph, want)), _int(graph, 0))
            if self.rounding == "nearest":
                # (d + d//2 % 2) // 2 is round(d / 2) with halves to even.
                odd = graph.op("Mod", graph.op("Div", over, _int(graph, 2)), _int(graph, 2))
                over = graph.op("Add", over, odd)
            starts.append(graph.op("Div", over, _int(graph, 2)))
            missing.append(graph.op("Max", graph.op("Sub", _int(graph, want), have), _int(graph, 0)))
        start = graph.op("Concat", *starts, axis=0)
        # Cut first: padding first would make a long thin picture as large as its square.
        end = graph.op("Add", start, graph.constant([height, width], "int64"))
        cut = graph.op("Slice", x.name, start, end, graph.constant([0, 1], "int64"))
        shape = (height, width, x.shape[2])
        if all(
            isinstance(have, int) and have >= want for have, want in zip(x.shape, shape[:2], strict=False)
        ):
            return Value(cut, x.dtype, shape)
        none = _int(graph, 0)
        halves = [graph.op("Div", m, _int(graph, 2)) for m in missing]
        others = [graph.op("Sub", m, half) for m, half in zip(missing, halves, strict=True)]
        before, after = (halves, others) if self.rounding == "nearest" else (others, halves)
        pads = graph.op("Concat", *before, none, *after, none, axis=0)
        return Value(graph.op("Pad", cut, pads, graph.constant(0, "uint8")), x.dtype, shape)

    def reference(self, x: Array) -> Array:
        height, width = both_sides(self.size)
        rows, columns = max(0, height - x.shape[0]), max(0, width - x.shape[1])
        if rows or columns:
            sides = [(rows // 2, (rows + 1) // 2), (columns // 2, (columns + 1) // 2), (0, 0)]
            x = np.pad(x, sides if self.rounding == "nearest" else [side[::-1] for side in sides])
        top, left = self.start(x.shape[0], height), self.start(x.shape[1], width)
        return np.ascontiguousarray(x[top : top + height, left : left + width])

    def start(self, have: int, want: int) -> int:
        """The first of `want` rows or columns, of `have` that are at least as many."""
        return round((have - want) / 2.0) if self.rounding == "nearest" else (have - want) // 2


class Pad(PreStep, frozen=True, forbid_unknown_fields=True):
    """A frame around the picture, or as much frame as makes it `size`, with the picture in the middle.

    `left`, `top`, `right`, `bottom`: pixels. `size`: both sides, or [height, width], instead of the four;
    an odd pixel goes to the right or below; a side that is longer already stays as it is. `fill`: the
    frame's value, 0 to 255, or one for each channel. uint8 [h, w, c] -> uint8 [h', w', c].
    """

    name: ClassVar[str] = "pad"
    size: Size | None = None
    left: Margin = 0
    top: Margin = 0
    right: Margin = 0
    bottom: Margin = 0
    fill: Byte | tuple[Byte, ...] = 0

    def __post_init__(self) -> None:
        if self.size is not None and any((self.left, self.top, self.right, self.bottom)):
            raise ValueError("either `size` or the four sides, not both")
        if self.size is not None:
            both_sides(self.size)

    def compile(self, graph: Graph, x: Value) -> Value:
        picture(x, self.name)
        fills = self._fills(x.shape[2])
        shape: list[int | str] = list(x.shape)
        if self.size is None:
            sides = [self.top, self.left, 0, self.bottom, self.right, 0]
            pads = graph.constant(sides, "int64")
            for axis, more in ((0, self.top + self.bottom), (1, self.left + self.right)):
                old = x.shape[axis]
                shape[axis] = old + more if isinstance(old, int) else (f"{old}+{more}" if more else old)
        else:
            none = _int(graph, 0)
            before, after = [], []
            for axis, want in enumerate(both_sides(self.size)):
                short = graph.op("Sub", _int(graph, want), graph.size(x, axis))
                missing = graph.op("Max", short, none)
                before.append(graph.op("Div", missing, _int(graph, 2)))
                after.append(graph.op("Sub", missing, before[-1]))
                old = x.shape[axis]
                shape[axis] = max(old, want) if isinstance(old, int) else f"max({old},{want})"
            pads = graph.op("Concat", *before, none, *after, none, axis=0)
        planes = [x.name]
        if len(fills) > 1:
            planes = graph.ops("Split", x.name, outputs=len(fills), axis=2, num_outputs=len(fills))
        padded = [
            graph.op("Pad", plane, pads, graph.constant(fill, "uint8"))
            for plane, fill in zip(planes, fills, strict=True)
        ]
        result = padded[0] if len(padded) == 1 else graph.op("Concat", *padded, axis=2)
        return Value(result, x.dtype, tuple(shape))

    def reference(self, x: Array) -> Array:
        top, bottom, left, right = self.top, self.bottom, self.left, self.right
        if self.size is not None:
            rows, columns = (
                max(0, want - have) for want, have in zip(both_sides(self.size), x.shape, strict=False)
            )
            top, left = rows // 2, columns // 2
            bottom, right = rows - top, columns - left
        out = np.empty((top + x.shape[0] + bottom, left + x.shape[1] + right, x.shape[2]), np.uint8)
        out[:] = np.array(self._fills(x.shape[2]), np.uint8)
        out[top : top + x.shape[0], left : left + x.shape[1]] = x
        return out

    def _fills(self, channels: int | str) -> tuple[int, ...]:
        """One value where every channel has the same."""
        if isinstance(self.fill, int):
            return (self.fill,)
        if len(self.fill) != channels:
            raise UsageError(f"pad fills {len(self.fill)} channels, the picture has {channels}")
        return self.fill[:1] if len(set(self.fill)) == 1 else self.fill


class Grayscale(PreStep, frozen=True, forbid_unknown_fields=True):
    """RGB to grey as Pillow's mode L: `(19595 R + 38470 G + 7471 B + 32768) >> 16`.

    `channels`: 1, or 3 for the same grey three times. A picture of one channel is taken as grey already.
    uint8 [h, w, 3] -> uint8 [h, w, channels].
    """

    name: ClassVar[str] = "grayscale"
    channels: Literal[1, 3] = 1

    def compile(self, graph: Graph, x: Value) -> Value:
        picture(x, self.name)
        grey = x.name
        if x.shape[2] == 3:
            # Every sum stays below 2**24, so float32 holds it exactly, in whatever order it is made.
            weights = graph.constant([[19595], [38470], [7471]], "float32")
            total = graph.op("MatMul", graph.cast(x.name, "float32"), weights)
            total = graph.op("Add", total, graph.constant(0x8000, "float32"))
            grey = graph.cast(graph.op("Mul", total, graph.constant(2.0**-16, "float32")), "uint8")
        elif x.shape[2] != 1:
            raise UsageError(f"grayscale takes 3 channels or 1, got {x.shape[2]}")
        if self.channels == 3:
            grey = graph.op("Concat", grey, grey, grey, axis=2)
        return Value(grey, "uint8", (x.shape[0], x.shape[1], self.channels))

    def reference(self, x: Array) -> Array:
        from PIL import Image

        grey = x if x.shape[2] == 1 else np.asarray(Image.fromarray(x, "RGB").convert("L"))[:, :, None]
        return np.repeat(grey, self.channels, axis=2)


class Channels(PreStep, frozen=True, forbid_unknown_fields=True):
    """The order of the colours: `bgr` turns the decoder's RGB round, `rgb` leaves it.

    `order`: "rgb" or "bgr". Any dtype [h, w, 3] -> the same.
    """

    name: ClassVar[str] = "channels"
    order: Literal["rgb", "bgr"]

    def compile(self, graph: Graph, x: Value) -> Value:
        picture(x, self.name, dtype=None, channels=3)
        if self.order == "rgb":
            return x
        planes = graph.ops("Split", x.name, outputs=3, axis=2, num_outputs=3)
        return Value(graph.op("Concat", *reversed(planes), axis=2), x.dtype, x.shape)

    def reference(self, x: Array) -> Array:
        return np.ascontiguousarray(x[:, :, ::-1]) if self.order == "bgr" else x


class Scale(PreStep, frozen=True, forbid_unknown_fields=True):
    """The range of the values: float32(x) * `by` or float32(x) / `divide`, then + `offset`.

    `by` or `divide`: exactly one of them; they differ in the last bit, and frameworks divide (torchvision
    by 255, Keras by 127.5). `offset`: added afterwards. Each number is rounded to float32 and each
    operation is a float32 operation. Any dtype -> float32, the same shape.
    """

    name: ClassVar[str] = "scale"
    by: float | None = None
    divide: float | None = None
    offset: float = 0.0

    def __post_init__(self) -> None:
        if (self.by is None) == (self.divide is None):
            raise ValueError("exactly one of `by` and `divide` is needed")
        factor = self.by if self.divide is None else self.divide
        if factor is None or not _usable(factor) or factor == 0 or not _usable(self.offset):
            raise ValueError(f"{factor} and {self.offset} must be finite float32 numbers, the factor not 0")

    def compile(self, graph: Graph, x: Value) -> Value:
        value = x.name if x.dtype == "float32" else graph.cast(x.name, "float32")
        if self.divide is not None:
            value = graph.op("Div", value, graph.constant(self.divide, "float32"))
        else:
            value = graph.op("Mul", value, graph.constant(self.by, "float32"))
        if self.offset:
            value = graph.op("Add", value, graph.constant(self.offset, "float32"))
        return Value(value, "float32", x.shape)

    def reference(self, x: Array) -> Array:
        value = x.astype(np.float32)
        value = (
            value / np.float32(self.divide) if self.divide is not None else value * np.float32(self.by or 0)
        )
        return value + np.float32(self.offset) if self.offset else value


class Normalize(PreStep, frozen=True, forbid_unknown_fields=True):
    """(float32(x) - `mean`) / `std`, in float32, for each channel.

    `mean`, `std`: one number, or one for each channel (the last axis: before `layout`); `std` is 1 where
    nothing is said. Any dtype [h, w, c] -> float32 [h, w, c].
    """

    name: ClassVar[str] = "normalize"
    mean: float | tuple[float, ...]
    std: float | tuple[float, ...] = 1.0

    def __post_init__(self) -> None:
        if not all(map(_usable, (*_list(self.mean), *_list(self.std)))) or 0.0 in _list(self.std):
            raise ValueError("mean and std must be finite float32 numbers, and std not 0")

    def compile(self, graph: Graph, x: Value) -> Value:
        for word, numbers in (("mean", self.mean), ("std", self.std)):
            if not isinstance(numbers, float | int) and len(numbers) != x.shape[-1]:
                raise UsageError(
                    f"normalize has {len(numbers)} numbers in `{word}`; the last axis has {x.shape[-1]}",
                    hint="one number for each channel, before `layout`",
                )
        value = x.name if x.dtype == "float32" else graph.cast(x.name, "float32")
        value = graph.op("Sub", value, graph.constant(self.mean, "float32"))
        if any(s != 1.0 for s in _list(self.std)):
            value = graph.op("Div", value, graph.constant(self.std, "float32"))
        return Value(value, "float32", x.shape)

    def reference(self, x: Array) -> Array:
        value = x.astype(np.float32) - np.array(self.mean, np.float32)
        return np.asarray(value / np.array(self.std, np.float32))


class Cast(PreStep, frozen=True, forbid_unknown_fields=True):
    """Another datatype, without a change of range; only where every pixel value keeps its meaning.

    `to`: float32, float64, float16, int32 or int64 from integers; float16 (rounded to nearest even) or
    float64 from float32. Any shape -> the same.
    """

    name: ClassVar[str] = "cast"
    to: Literal["float32", "float64", "float16", "int32", "int64", "uint8"]

    def compile(self, graph: Graph, x: Value) -> Value:
        if x.dtype == self.to:
            return x
        if self.to == "uint8" or (x.dtype.startswith("float") and self.to.startswith("int")):
            raise UsageError(
                f"cast cannot make {self.to} of {x.dtype}",
                hint="values out of range would differ from machine to machine",
            )
        return Value(graph.cast(x.name, self.to), self.to, x.shape)

    def reference(self, x: Array) -> Array:
        return x.astype(numpy_dtype(self.to))


class Layout(PreStep, frozen=True, forbid_unknown_fields=True):
    """The axes of the network, from [height, width, channels].

    `order`: "chw" (PyTorch, Caffe), "hwc" (TensorFlow, as it is), "hw" (no channel axis; one channel
    only), "flat" (one axis, the pixels in the order height, width, channels), or "auto", which becomes
    one of them when the recipe meets the network.
    """

    name: ClassVar[str] = "layout"
    order: Literal["auto", "chw", "hwc", "hw", "flat"] = "auto"

    def compile(self, graph: Graph, x: Value) -> Value:
        picture(x, self.name, dtype=None)
        height, width, channels = x.shape
        if self.order == "hwc":
            return x
        if self.order == "chw":
            moved = graph.op("Transpose", x.name, perm=[2, 0, 1])
            return Value(moved, x.dtype, (channels, height, width))
        if self.order == "hw":
            picture(x, self.name + " hw", dtype=None, channels=1)
            return Value(graph.op("Squeeze", x.name, graph.constant([2], "int64")), x.dtype, (height, width))
        if self.order == "flat":
            known = [side for side in x.shape if isinstance(side, int)]
            size: int | str = math.prod(known) if len(known) == 3 else "pixels"
            return Value(graph.op("Reshape", x.name, graph.constant([-1], "int64")), x.dtype, (size,))
        raise UsageError(
            "layout `auto` must be settled before a graph is compiled", hint='say "chw" or "hwc"'
        )

    def reference(self, x: Array) -> Array:
        if self.order == "chw":
            return np.ascontiguousarray(x.transpose(2, 0, 1))
        if self.order == "hw":
            return x[:, :, 0]
        return x.ravel() if self.order == "flat" else x


def _list(numbers: float | tuple[float, ...]) -> tuple[float, ...]:
    return (numbers,) if isinstance(numbers, float | int) else numbers


def _usable(number: float) -> bool:
    with np.errstate(over="ignore"):
        return bool(np.isfinite(np.float32(number)))


def _int(graph: Graph, value: Any) -> str:
    return graph.constant([value], "int64")
