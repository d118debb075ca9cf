"""The steps that change a picture's size: `resize` and `letterbox`. Knows sizes; pixels are in `kernels`.

Sizes are computed in the graph from the picture's own, in int64 and float64, as the named libraries
compute them in Python.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Annotated, ClassVar, Literal

import msgspec
import numpy as np

from ..errors import UsageError
from ..tensors import Array
from . import kernels, sampling
from .graph import Graph, Value
from .image import CenterCrop, Side, Size, both_sides, picture
from .reference import resize_reference
from .step import PreStep

Kernel = Literal["pillow-bilinear", "pillow-bicubic", "opencv-linear", "nearest", "fast"]


class Resize(PreStep, frozen=True, forbid_unknown_fields=True):
    """Another size, with the very bytes that the named library gives. uint8 [H, W, C], C = 1 or 3.

    Exactly one of
    `size`: both sides, or [height, width].
    `shorter`: the shorter side becomes this and the longer int(shorter * long / short), cut off, as
        torchvision's `Resize` has it. `crop_fraction` (timm's `crop_pct`) makes that
        floor(shorter / crop_fraction) instead, for a crop to `shorter` afterwards. `longest` bounds the
        longer side, as DETR has it: where it would be more, the shorter becomes
        round(longest * short / long). `rounding` "nearest" makes the longer round(long * (shorter / short)),
        halves to even, as PaddleClas has it, in place of cutting it off.
    `longer`: the longer side becomes this and the shorter longer * short / long, rounded half to even,
        but at least 1.
    `multiple` takes what is over a multiple of it off each side that `shorter` or `longer` make, as YOLOS
        has it; a side that would vanish keeps one.

    `kernel`:
    - "pillow-bilinear", "pillow-bicubic": Pillow's `Image.resize`, antialiased where it shrinks;
    - "opencv-linear": `cv2.resize(…, INTER_LINEAR)`, not antialiased;
    - "nearest": Pillow's NEAREST;
    - "fast": ONNX's own `Resize` (linear, antialiased); where a picture shrinks with its aspect kept,
      that is Pillow's bilinear (width first) but for 1 or 2 bytes in 1000, which are off by 1.

    `order` is of Pillow's two passes, which matters for pictures that shrink far more in height than in
    width: "pillow-13" is what Pillow does since version 13, "width-first" what it did before.
    """

    name: ClassVar[str] = "resize"
    size: Size | None = None
    shorter: Side | None = None
    longer: Side | None = None
    kernel: Kernel = "pillow-bilinear"
    crop_fraction: Annotated[float, msgspec.Meta(gt=0, le=1)] | None = None
    longest: Side | None = None
    order: Literal["pillow-13", "width-first"] = "pillow-13"
    multiple: Side | None = None
    rounding: Literal["down", "nearest"] = "down"

    def __post_init__(self) -> None:
        if self.multiple is not None and self.size is not None:
            raise ValueError("`multiple` goes with `shorter` or `longer`")
        if sum(wanted is not None for wanted in (self.size, self.shorter, self.longer)) != 1:
            raise ValueError("exactly one of `size`, `shorter` and `longer` is needed")
        if self.size is not None:
            both_sides(self.size)
        if self.crop_fraction is not None and self.shorter is None:
            raise ValueError("`crop_fraction` goes with `shorter`")
        if self.longest is not None and (self.shorter is None or self.longest < (self._short or 0)):
            raise ValueError("`longest` goes with a `shorter` that is no more")
        if self.rounding != "down" and (self.shorter is None or self.longest is not None):
            raise ValueError("`rounding` goes with `shorter`, and without `longest`")

    def compile(self, graph: Graph, x: Value) -> Value:
        height, width = self._sides(graph, _picture(x, self.name))
        return kernels.resize(graph, x, height, width, self.kernel, order=self.order)

    def compile_center(self, graph: Graph, x: Value, crop: CenterCrop) -> Value | None:
        """What `crop` keeps of the result, without making the other pixels.

        None where it is not certain that the result is at least that large.
        """
        height, width = both_sides(crop.size)
        if not self.covers(height, width):
            return None
        rows, columns = self._sides(graph, _picture(x, self.name))
        rows, columns = (
            _middle(graph, side, kept, crop.rounding) for side, kept in ((rows, height), (columns, width))
        )
        return kernels.resize(graph, x, rows, columns, self.kernel, order=self.order)

    def reference(self, x: Array) -> Array:
        height, width = self.target(x.shape[0], x.shape[1])
        return resize_reference(x, height, width, self.kernel, self.order)

    def compile_placement(self, graph: Graph, x: Value) -> tuple[str, str, str, str]:
        """Scale of x and y, and the column and row where the picture begins: float64[1] each."""
        rows, columns = self._sides(graph, x)
        scales = [
            graph.op("Div", graph.cast(side.target, "float64"), graph.cast(side.source, "float64"))
            for side in (columns, rows)
        ]
        none = graph.constant([0.0], "float64")
        return scales[0], scales[1], none, none

    def reference_placement(self, height: int, width: int) -> tuple[float, float, float, float]:
        """The same in Python."""
        rows, columns = self.target(height, width)
        return columns / width, rows / height, 0.0, 0.0

    def target(self, height: int, width: int) -> tuple[int, int]:
        """The height and width that a picture of `height` x `width` gets."""
        if self.size is not None:
            return both_sides(self.size)
        short, long = min(height, width), max(height, width)
        if self._short is not None and self.longest is not None and long / short * self._short > self.longest:
            exact = self.longest * short / long
            new_short = max(1, round(exact))
            new_long = long if new_short == short else max(1, int(exact * long / short))
        elif self._short is not None and self.rounding == "nearest":
            new_short, new_long = self._short, round(long * (self._short / short))
        elif self._short is not None:
            new_short, new_long = self._short, int(self._short * long / short)
        else:
            new_long = self.longer or 1
            new_short = max(1, round(new_long * short / long))
        new_short, new_long = self._cut(new_short), self._cut(new_long)
        return (new_short, new_long) if height <= width else (new_long, new_short)

    def _cut(self, side: int) -> int:
        return side if self.multiple is None else max(1, side // self.multiple) * self.multiple

    @property
    def _short(self) -> int | None:
        """The shorter side that is made."""
        if self.shorter is None or self.crop_fraction is None:
            return self.shorter
        return math.floor(self.shorter / self.crop_fraction)

    def covers(self, height: int, width: int) -> bool:
        """Whether it is certain that the result has at least `height` rows and `width` columns."""
        short = 0 if self.longest is not None or not self._short else self._cut(self._short)
        least = both_sides(self.size) if self.size is not None else (short, short)
        return least[0] >= height and least[1] >= width

    def _sides(self, graph: Graph, x: Value) -> tuple[sampling.Side, sampling.Side]:
        sources = graph.size(x, 0), graph.size(x, 1)
        known = self._known(x)
        if known is not None:
            height, width = (
                sampling.Side(source, graph.constant([side], "int64"), side)
                for source, side in zip(sources, known, strict=True)
            )
            return height, width
        height, width = (
            sampling.Side(
                source, self._scaled(graph, source, *sources), f"resized_{axis}_of_{x.shape[index]}"
            )
            for index, (source, axis) in enumerate(zip(sources, ("height", "width"), strict=True))
        )
        return height, width

    def _known(self, x: Value) -> tuple[int, int] | None:
        """The result's sides where the graph need not compute them."""
        if self.size is not None:
            return both_sides(self.size)
        if isinstance(x.shape[0], int) and isinstance(x.shape[1], int):
            return self.target(x.shape[0], x.shape[1])
        return None

    def _scaled(self, graph: Graph, side: str, height: str, width: str) -> str:
        """`target` of one side, int64[1], with the aspect kept."""
        made = self._in_proportion(graph, side, height, width)
        if self.multiple is None:
            return made
        unit = graph.constant([self.multiple], "int64")
        return graph.op(
            "Mul", graph.op("Max", graph.op("Div", made, unit), graph.constant([1], "int64")), unit
        )

    def _in_proportion(self, graph: Graph, side: str, height: str, width: str) -> str:
        if self._short is not None and self.longest is not None:
            return self._bounded(graph, side, height, width)
        if self._short is not None and self.rounding == "nearest":
            # In float64 and in the order of Python's round(side * (shorter / short)): halves fall alike.
            short = graph.cast(graph.op("Min", height, width), "float64")
            ratio = graph.op("Div", graph.constant([float(self._short)], "float64"), short)
            made = graph.op("Mul", graph.cast(side, "float64"), ratio)
            return graph.cast(graph.op("Round", made), "int64")
        if self._short is not None:
            # Whole numbers: a quotient that is no whole number is too far from one for the float
            # division in Python's int(shorter * long / short) to reach it.
            scaled = graph.op("Mul", graph.constant([self._short], "int64"), side)
            return graph.op("Div", scaled, graph.op("Min", height, width))
        longest = graph.cast(graph.op("Max", height, width), "float64")
        scaled = graph.op("Mul", graph.constant([self.longer], "float64"), graph.cast(side, "float64"))
        rounded = graph.op("Round", graph.op("Div", scaled, longest))  # half to even, as Python's round
        return graph.cast(graph.op("Max", rounded, graph.constant([1.0], "float64")), "int64")

    def _bounded(self, graph: Graph, side: str, height: str, width: str) -> str:
        """`target` of one side, int64[1], where `longest` bounds the longer one; in float64, as in Python."""
        op, f64 = graph.op, partial(graph.constant, dtype="float64")
        short, long, own = (
            graph.cast(each, "float64") for each in (op("Min", height, width), op("Max", height, width), side)
        )
        wanted, most = f64([float(self._short or 0)]), f64([float(self.longest or 0)])
        over = op("Greater", op("Mul", op("Div", long, short), wanted), most)
        exact = op("Where", over, op("Div", op("Mul", most, short), long), wanted)
        new_short = op("Max", op("Round", exact), f64([1.0]))
        grown = op("Max", op("Floor", op("Div", op("Mul", exact, long), short)), f64([1.0]))
        new_long = op("Where", op("Equal", new_short, short), long, grown)
        # Of a square both are the same.
        return graph.cast(op("Where", op("Equal", own, short), new_short, new_long), "int64")


class Letterbox(PreStep, frozen=True, forbid_unknown_fields=True):
    """The whole picture inside a frame, its aspect kept, as Ultralytics' detectors are fed.

    `size`: the frame's sides, both or [height, width]. `fill`: the border's value in every channel.
    `kernel`: as in `resize`. `scaleup`: whether small pictures grow. `center`: whether the picture is in
    the middle or at the top left. `rounding`: how the picture's sides become whole numbers; "down" is what
    YOLOX does. `multiple`: the frame is no larger than the picture in it needs, each side less by as many
    whole times that many pixels as are empty (`auto` there, with its `stride`); 0 for the whole frame.

    r = min(h / H, w / W); the picture becomes round(H * r) x round(W * r), the rest is shared out with
    round(d / 2 - 0.1) above and left and round(d / 2 + 0.1) below and right; all in float64 with halves
    rounded to even (`LetterBox` in ultralytics/data/augment.py). A side that would vanish keeps 1 pixel,
    where that code fails. uint8 [H, W, C], C = 1 or 3 -> uint8 [h, w, C].
    """

    name: ClassVar[str] = "letterbox"
    size: Size
    fill: Annotated[int, msgspec.Meta(ge=0, le=255)] = 114
    kernel: Kernel = "opencv-linear"
    scaleup: bool = True
    center: bool = True
    rounding: Literal["nearest", "down"] = "nearest"
    multiple: Annotated[int, msgspec.Meta(ge=0, le=1024)] = 0

    def __post_init__(self) -> None:
        sides = both_sides(self.size)
        if self.multiple and any(side % self.multiple for side in sides):
            raise ValueError(f"`multiple` {self.multiple} does not divide {sides[0]} x {sides[1]}")

    def compile(self, graph: Graph, x: Value) -> Value:
        op, f64 = graph.op, partial(graph.constant, dtype="float64")
        inner: list[sampling.Side] = []
        before, after = [], []
        ratio = self._ratio(graph, _picture(x, self.name))
        for axis in (0, 1):
            size, margin, start = self._inner(graph, x, axis, ratio)
            end = op("Round", op("Add", margin, f64([0.1]))) if self.center else margin
            source = graph.size(x, axis)
            inner.append(sampling.Side(source, graph.cast(size, "int64"), f"inner_{len(inner)}"))
            before.append(graph.cast(start, "int64"))
            after.append(graph.cast(end, "int64"))
        inside = kernels.resize(graph, x, inner[0], inner[1], self.kernel)
        none = graph.constant([0], "int64")
        pads = op("Concat", *before, none, *after, none, axis=0)
        framed = op("Pad", inside.name, pads, graph.constant(self.fill, "uint8"))
        sides = ("rows", "columns") if self.multiple else both_sides(self.size)
        return Value(framed, "uint8", (*sides, x.shape[2]))

    def compile_placement(self, graph: Graph, x: Value) -> tuple[str, str, str, str]:
        """Scale of x and y, and the column and row where the picture begins: float64[1] each."""
        ratio = self._ratio(graph, x)
        (height, _, top), (width, _, left) = (self._inner(graph, x, axis, ratio) for axis in (0, 1))
        # Of the rounded sides, which is how far the pixels really were stretched.
        scales = [
            graph.op("Div", size, graph.cast(graph.size(x, axis), "float64"))
            for axis, size in ((1, width), (0, height))
        ]
        return scales[0], scales[1], left, top

    def reference_placement(self, height: int, width: int) -> tuple[float, float, float, float]:
        """The same in Python."""
        inner_height, inner_width, top, left = self.placement(height, width)
        return inner_width / width, inner_height / height, float(left), float(top)

    def _ratio(self, graph: Graph, x: Value) -> str:
        """float64[1]"""
        op, f64 = graph.op, partial(graph.constant, dtype="float64")
        ratios = [
            op("Div", f64([float(side)]), graph.cast(graph.size(x, axis), "float64"))
            for axis, side in enumerate(both_sides(self.size))
        ]
        return op("Min", *ratios, *([] if self.scaleup else [f64([1.0])]))

    def _inner(self, graph: Graph, x: Value, axis: int, ratio: str) -> tuple[str, str, str]:
        """Of one axis: the picture's size inside the frame, the margin on either side, the first pixel."""
        op, f64 = graph.op, partial(graph.constant, dtype="float64")
        made = op("Mul", graph.cast(graph.size(x, axis), "float64"), ratio)
        size = op("Max", op("Round" if self.rounding == "nearest" else "Floor", made), f64([1.0]))
        margin = op("Sub", f64([float(both_sides(self.size)[axis])]), size)
        if self.multiple:
            margin = op("Mod", margin, f64([float(self.multiple)]), fmod=1)
        if not self.center:
            return size, margin, f64([0.0])
        margin = op("Mul", margin, f64([0.5]))
        return size, margin, op("Round", op("Sub", margin, f64([0.1])))

    def reference(self, x: Array) -> Array:
        height, width, top, left = self.placement(x.shape[0], x.shape[1])
        if x.shape[:2] != (height, width):
            x = resize_reference(x, height, width, self.kernel)
        framed = np.full((*self.frame(height, width), x.shape[2]), self.fill, np.uint8)
        framed[top : top + height, left : left + width] = x
        return framed

    def placement(self, height: int, width: int) -> tuple[int, int, int, int]:
        """The inner height and width and the rows above and columns left of a `height` x `width` picture."""
        ratio = self._ratio_of(height, width)
        whole = round if self.rounding == "nearest" else math.floor
        inner_height, inner_width = max(1, whole(height * ratio)), max(1, whole(width * ratio))
        if not self.center:
            return inner_height, inner_width, 0, 0
        h, w = self.frame(inner_height, inner_width)
        top, left = (round((side - inner) / 2 - 0.1) for side, inner in ((h, inner_height), (w, inner_width)))
        return inner_height, inner_width, top, left

    def frame(self, inner_height: int, inner_width: int) -> tuple[int, int]:
        """Height and width of what a picture of these sides is framed to."""
        sides = both_sides(self.size)
        if not self.multiple:
            return sides
        inner = inner_height, inner_width
        height, width = (own + (side - own) % self.multiple for own, side in zip(inner, sides, strict=True))
        return height, width

    def _ratio_of(self, height: int, width: int) -> float:
        h, w = both_sides(self.size)
        ratio = min(h / height, w / width)
        return ratio if self.scaleup else min(ratio, 1.0)


def _middle(graph: Graph, side: sampling.Side, kept: int, rounding: str) -> sampling.Side:
    """The same side, of which only the middle `kept` pixels are made."""
    rest = graph.op("Sub", side.target, graph.constant([kept], "int64"))
    two = graph.constant([2], "int64")
    if rounding == "nearest":
        # (d + d // 2 % 2) // 2 is round(d / 2) with halves to even.
        rest = graph.op("Add", rest, graph.op("Mod", graph.op("Div", rest, two), two))
    first = graph.op("Div", rest, two)
    return msgspec.structs.replace(side, length=kept, first=first, kept=graph.constant([kept], "int64"))


def _picture(x: Value, step: str) -> Value:
    """`x` itself, where it is uint8 [height, width, 1 or 3].

    Raises:
        UsageError: it is anything else.
    """
    if picture(x, step).shape[2] not in (1, 3):
        raise UsageError(f"{step} takes 1 or 3 channels, got {x.dtype}[{', '.join(map(str, x.shape))}]")
    return x
