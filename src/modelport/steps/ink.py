"""Steps that make a drawing or a photo of a handwritten digit look like the digits of MNIST.

MNIST's own recipe: light ink on black, the box around the ink scaled to 20 pixels, and its centre of mass
put in the middle of 28. A picture that was made that way comes through these steps unchanged. All of
it is integer arithmetic on grey pictures, uint8 [height, width, 1]: `grayscale` comes first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, ClassVar, Literal

import msgspec
import numpy as np

from ..tensors import Array
from .graph import Graph, Value
from .image import Byte, Side, picture
from .step import PreStep

SAMPLES = 64
"""Points each way of the grid from which `polarity` and `flatten` judge a picture of any size."""
_NEIGHBOURS = 33
"""Points of that grid, each way, that a point is compared with."""


class Shrink(PreStep, frozen=True, forbid_unknown_fields=True):
    """A large picture made smaller by a whole number, each block of pixels becoming its mean.

    `longer`: the divisor is the smallest that leaves the longer side with at most this many pixels; a
    picture within it stays as it is. Blocks at the right and bottom edge hold the pixels that are left;
    means are rounded, halves up. It makes photos cheap, and takes their noise away.
    uint8 [h, w, c] -> uint8 [ceil(h / n), ceil(w / n), c].
    """

    name: ClassVar[str] = "shrink"
    longer: Side = 256

    def compile(self, graph: Graph, x: Value) -> Value:
        picture(x, self.name)
        one, two = _ints(graph, 1), graph.constant(2, "int32")
        height, width = graph.size(x, 0), graph.size(x, 1)
        channels = graph.size(x, 2)
        longest = graph.op("Max", height, width)
        by = _ceil_div(graph, longest, _ints(graph, self.longer))
        rows, columns = _ceil_div(graph, height, by), _ceil_div(graph, width, by)
        full_rows, full_columns = graph.op("Mul", rows, by), graph.op("Mul", columns, by)
        below, right = graph.op("Sub", full_rows, height), graph.op("Sub", full_columns, width)
        none = _ints(graph, 0)
        pads = graph.op("Concat", none, none, none, below, right, none, axis=0)
        padded = graph.cast(graph.op("Pad", x.name, pads, graph.constant(0, "uint8")), "float32")
        blocks = graph.op("Reshape", padded, graph.op("Concat", rows, by, _ints(graph, -1), axis=0))
        # A column of a block sums to less than 2**24, which float32 holds exactly; the block may not.
        sums = graph.cast(graph.op("ReduceSum", blocks, one, keepdims=0), "int32")
        blocks = graph.op("Reshape", sums, graph.op("Concat", rows, columns, by, channels, axis=0))
        sums = graph.op("ReduceSum", blocks, _ints(graph, 2), keepdims=0)
        high = graph.op("Unsqueeze", _block_sizes(graph, height, by, rows), _ints(graph, 1, 2))
        wide = graph.op("Unsqueeze", _block_sizes(graph, width, by, columns), _ints(graph, 0, 2))
        count = graph.op("Mul", high, wide)
        twice = graph.op("Add", graph.op("Mul", sums, two), count)
        mean = graph.op("Div", twice, graph.op("Mul", count, two))
        return Value(graph.cast(mean, "uint8"), "uint8", self._shape(x.shape))

    def _shape(self, shape: tuple[int | str, ...]) -> tuple[int | str, ...]:
        height, width, channels = shape
        if isinstance(height, int) and isinstance(width, int):
            by = -(-max(height, width) // self.longer)
            return (-(-height // by), -(-width // by), channels)
        return (f"shrunk({height})", f"shrunk({width})", channels)

    def reference(self, x: Array) -> Array:
        height, width = x.shape[:2]
        by = -(-max(height, width) // self.longer)
        rows, columns = np.arange(0, height, by), np.arange(0, width, by)
        sums = np.add.reduceat(np.add.reduceat(x, rows, axis=0, dtype=np.int64), columns, axis=1)
        count = np.minimum(by, height - rows)[:, None, None] * np.minimum(by, width - columns)[:, None]
        means: Array = ((2 * sums + count) // (2 * count)).astype(np.uint8)
        return means


class Polarity(PreStep, frozen=True, forbid_unknown_fields=True):
    """Light ink on a dark ground, whichever way round the picture came.

    `ink`: "light" leaves the picture, "dark" inverts it (255 - x), "auto" lets it decide: on a grid of
    64 x 64 points each is compared with the brightest and the darkest of the 33 x 33 around it, and the
    differences 2 x - brightest - darkest are added up. Ink is the smaller part of any neighbourhood, so
    a sum above 0 says that the ground is bright. Slow changes of light cancel out.
    uint8 [h, w, 1] -> the same.
    """

    name: ClassVar[str] = "polarity"
    ink: Literal["auto", "dark", "light"] = "auto"

    def compile(self, graph: Graph, x: Value) -> Value:
        picture(x, self.name, channels=1)
        if self.ink == "light":
            return x
        inverse = graph.op("BitwiseNot", x.name)
        if self.ink == "dark":
            return Value(inverse, "uint8", x.shape)
        points = graph.op("Reshape", _grid(graph, x), _ints(graph, 1, 1, SAMPLES, SAMPLES))
        sample = graph.cast(points, "float32")
        highest, lowest = _highest(graph, sample, _NEIGHBOURS, 1), _lowest(graph, sample, _NEIGHBOURS, 1)
        ends = graph.op("Add", highest, lowest)
        differences = graph.op("Sub", graph.op("Add", sample, sample), ends)
        vote = graph.op("ReduceSum", differences, keepdims=0)
        bright_ground = graph.op("Greater", vote, graph.constant(0, "float32"))
        return Value(graph.op("Where", bright_ground, inverse, x.name), "uint8", x.shape)

    def reference(self, x: Array) -> Array:
        dark = self.ink == "dark"
        if self.ink == "auto":
            sample = _grid_reference(x)[:, :, 0].astype(np.int64)
            reach = _NEIGHBOURS // 2
            brightest = _window_reference(np.pad(sample, reach, constant_values=0), _NEIGHBOURS, np.max)
            darkest = _window_reference(np.pad(sample, reach, constant_values=255), _NEIGHBOURS, np.min)
            dark = bool((2 * sample - brightest - darkest).sum() > 0)
        return 255 - x if dark else x


class Flatten(PreStep, frozen=True, forbid_unknown_fields=True):
    """The ground made black: paper in uneven light, shadows and sensor noise go, strokes stay.

    What a square of `window` pixels can cover is ground: the morphological opening of the picture is
    subtracted (a "white top hat"). The square may hang over the edge of the picture, so that light
    falling off towards the edge is ground too. Then noise goes: of the results on a grid of 64 x 64
    points in order of size, 5/2 of the one at a quarter, rounded down, is subtracted from every pixel.
    `window`: odd; thicker strokes are taken for ground. Expects light ink: `polarity` comes first.
    uint8 [h, w, 1] -> the same.
    """

    name: ClassVar[str] = "flatten"
    window: Annotated[int, msgspec.Meta(ge=3, le=255)] = 65

    def __post_init__(self) -> None:
        if self.window % 2 == 0:
            raise ValueError(f"`window` must be odd, got {self.window}")

    def compile(self, graph: Graph, x: Value) -> Value:
        picture(x, self.name, channels=1)
        plane = _plane(graph, x)
        eroded = _lowest(graph, plane, self.window, 2)
        hat = graph.op("Sub", plane, _highest(graph, eroded, self.window, 0))
        hat = graph.op("Reshape", hat, graph.op("Shape", x.name))
        points = graph.op("Reshape", _grid(graph, Value(hat, "float32", x.shape)), _ints(graph, -1))
        quarter = SAMPLES * SAMPLES // 4
        least, _ = graph.ops("TopK", points, _ints(graph, quarter + 1), outputs=2, axis=0, largest=0)
        level = graph.op("Gather", least, graph.constant(quarter, "int64"))
        noise = graph.op("Floor", graph.op("Mul", level, graph.constant(2.5, "float32")))
        clean = graph.op("Max", graph.op("Sub", hat, noise), graph.constant(0, "float32"))
        return Value(graph.cast(clean, "uint8"), "uint8", x.shape)

    def reference(self, x: Array) -> Array:
        over = self.window - 1
        wide = np.pad(x[:, :, 0], over, constant_values=255)
        eroded = _window_reference(wide, self.window, np.min)
        hat = x - _window_reference(eroded, self.window, np.max)[:, :, None]
        level = int(np.sort(_grid_reference(hat), axis=None)[SAMPLES * SAMPLES // 4])
        return np.maximum(hat.astype(np.int64) - 5 * level // 2, 0).astype(np.uint8)


class Stretch(PreStep, frozen=True, forbid_unknown_fields=True):
    """Faint ink made bright: every value times 255 / the highest, rounded, halves up.

    `enough`: a picture whose highest value is at least this stays as it is, and so does a black one.
    uint8 [h, w, c] -> the same.
    """

    name: ClassVar[str] = "stretch"
    enough: Annotated[int, msgspec.Meta(ge=1, le=255)] = 250

    def compile(self, graph: Graph, x: Value) -> Value:
        picture(x, self.name)
        value = graph.cast(x.name, "int32")
        highest = graph.op("Max", graph.op("ReduceMax", value, keepdims=0), graph.constant(1, "int32"))
        scaled = graph.op("Add", graph.op("Mul", value, graph.constant(510, "int32")), highest)
        scaled = graph.op("Div", scaled, graph.op("Mul", highest, graph.constant(2, "int32")))
        bright = graph.op("GreaterOrEqual", highest, graph.constant(self.enough, "int32"))
        return Value(graph.op("Where", bright, x.name, graph.cast(scaled, "uint8")), "uint8", x.shape)

    def reference(self, x: Array) -> Array:
        highest = int(x.max())
        if highest == 0 or highest >= self.enough:
            return x
        table = [min(255, (510 * value + highest) // (2 * highest)) for value in range(256)]
        return np.array(table, np.uint8)[x]


class CropToInk(PreStep, frozen=True, forbid_unknown_fields=True):
    """The box around the ink.

    `threshold`: a brighter pixel is ink. `reach`: and so is any pixel that is not black and has ink at
    most this many rows and columns away, which takes in the soft edges of strokes but not a faint speck
    elsewhere. A picture without ink stays whole. uint8 [h, w, 1] -> uint8 [h', w', 1].
    """

    name: ClassVar[str] = "crop_to_ink"
    threshold: Byte = 96
    reach: Annotated[int, msgspec.Meta(ge=0, le=64)] = 2

    def compile(self, graph: Graph, x: Value) -> Value:
        picture(x, self.name, channels=1)
        plane = _plane(graph, x)
        sure = graph.op("Greater", plane, graph.constant(self.threshold, "float32"))
        near = _highest(graph, graph.cast(sure, "float32"), 2 * self.reach + 1, 1)
        ink = graph.op("Greater", graph.op("Min", near, plane), graph.constant(0, "float32"))
        starts, ends = [], []
        for across in (3, 2):
            lines = graph.op("ReduceMax", graph.cast(ink, "int32"), _ints(graph, 0, 1, across), keepdims=0)
            starts.append(graph.op("ArgMax", lines, axis=0))
            last = graph.op("ArgMax", lines, axis=0, select_last_index=1)
            ends.append(graph.op("Add", last, _ints(graph, 1)))
        # Without ink all lines are equal, and the first and the last of them are the whole picture.
        start, end = graph.op("Concat", *starts, axis=0), graph.op("Concat", *ends, axis=0)
        box = graph.op("Slice", x.name, start, end, _ints(graph, 0, 1))
        return Value(box, "uint8", (f"ink({x.shape[0]})", f"ink({x.shape[1]})", 1))

    def reference(self, x: Array) -> Array:
        plane = x[:, :, 0]
        ink = np.zeros(plane.shape, bool)
        for row, column in np.argwhere(plane > self.threshold):
            top, left = max(0, row - self.reach), max(0, column - self.reach)
            ink[top : row + self.reach + 1, left : column + self.reach + 1] = True
        rows, columns = np.nonzero(ink & (plane > 0))
        if not rows.size:
            return x
        return np.ascontiguousarray(x[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1])


class CenterOfMass(PreStep, frozen=True, forbid_unknown_fields=True):
    """The picture on a black square, its centre of mass in the middle, as MNIST's digits lie.

    `size`: both sides of the square. The first row is `size / 2 - (sum of row * value) / (sum of values)`
    rounded to the nearest, halves down; it gives way where the picture would leave the square. A black
    picture goes in the middle; of one larger than the square, the part around its centre of mass is kept.
    uint8 [h, w, 1] -> uint8 [size, size, 1].
    """

    name: ClassVar[str] = "center_of_mass"
    size: Side = 28

    def compile(self, graph: Graph, x: Value) -> Value:
        picture(x, self.name, channels=1)
        size, none = _ints(graph, self.size), _ints(graph, 0)
        value = graph.cast(x.name, "int64")
        starts = [self._start(graph, value, graph.size(x, axis), axis) for axis in (0, 1)]
        pads = graph.op("Concat", size, size, none, size, size, none, axis=0)
        room = graph.op("Pad", x.name, pads, graph.constant(0, "uint8"))
        start = graph.op("Sub", size, graph.op("Concat", *starts, axis=0))
        placed = graph.op("Slice", room, start, graph.op("Add", start, size), _ints(graph, 0, 1))
        return Value(placed, "uint8", (self.size, self.size, 1))

    def _start(self, graph: Graph, value: str, length: str, axis: int) -> str:
        """Where the picture's first line goes, as int64[1]; negative where it is too large."""
        size, none, two = _ints(graph, self.size), _ints(graph, 0), _ints(graph, 2)
        lines = graph.op("ReduceSum", value, _ints(graph, 1 - axis, 2), keepdims=0)
        mass = graph.op("ReduceSum", lines, none)
        moment = graph.op("ReduceSum", graph.op("Mul", lines, _range(graph, length)), none)
        # ceil(size/2 - moment/mass - 1/2) as floor(((size + 1) mass - 2 moment - 1) / (2 mass)), with
        # `length` added and taken off: ONNX rounds quotients towards zero, so they must not be negative.
        more = graph.op(
            "Mul", graph.op("Add", _ints(graph, self.size + 1), graph.op("Mul", length, two)), mass
        )
        above = graph.op("Sub", graph.op("Sub", more, graph.op("Mul", moment, two)), _ints(graph, 1))
        below = graph.op("Max", graph.op("Mul", mass, two), _ints(graph, 1))
        start = graph.op("Sub", graph.op("Div", above, below), length)
        room = graph.op("Sub", size, length)
        black = graph.op("Equal", mass, none)
        # A shift by `length` keeps this quotient positive too.
        middle = graph.op("Div", graph.op("Add", room, graph.op("Mul", length, two)), two)
        start = graph.op("Where", black, graph.op("Sub", middle, length), start)
        start = graph.op("Max", start, graph.op("Min", room, none))
        return graph.op("Min", start, graph.op("Max", room, none))

    def reference(self, x: Array) -> Array:
        out = np.zeros((self.size, self.size, 1), np.uint8)
        mass = int(x.sum(dtype=np.int64))
        to, of = [], []
        for axis, length in enumerate(x.shape[:2]):
            room = self.size - length
            start = room // 2
            if mass:
                lines = x.sum(axis=(1 - axis, 2), dtype=np.int64)
                moment = int((lines * np.arange(length)).sum())
                start = -((2 * moment + mass - self.size * mass) // (2 * mass))
            start = min(max(start, min(room, 0)), max(room, 0))
            to.append(slice(max(start, 0), min(start + length, self.size)))
            of.append(slice(max(-start, 0), min(self.size - start, length)))
        out[to[0], to[1]] = x[of[0], of[1]]
        return out


def _ints(graph: Graph, *values: int) -> str:
    return graph.constant(list(values), "int64")


def _ceil_div(graph: Graph, a: str, b: str) -> str:
    return graph.op("Div", graph.op("Sub", graph.op("Add", a, b), _ints(graph, 1)), b)


def _range(graph: Graph, length: str) -> str:
    """int64[length]: 0, 1, 2, …"""
    end = graph.op("Squeeze", length, _ints(graph, 0))
    return graph.op("Range", graph.constant(0, "int64"), end, graph.constant(1, "int64"))


def _block_sizes(graph: Graph, length: str, by: str, count: str) -> str:
    """int32[count]: how many of `length` pixels each block of `by` holds."""
    starts = graph.op("Mul", _range(graph, count), by)
    return graph.cast(graph.op("Min", graph.op("Sub", length, starts), by), "int32")


def _grid(graph: Graph, x: Value) -> str:
    """`SAMPLES` rows and columns at even distances, [SAMPLES, SAMPLES, 1]."""
    value = x.name
    for axis in (0, 1):
        odd = _ints(graph, *range(1, 2 * SAMPLES, 2))
        index = graph.op("Div", graph.op("Mul", odd, graph.size(x, axis)), _ints(graph, 2 * SAMPLES))
        value = graph.op("Gather", value, index, axis=axis)
    return value


def _grid_reference(x: Array) -> Array:
    rows, columns = ((2 * np.arange(SAMPLES) + 1) * side // (2 * SAMPLES) for side in x.shape[:2])
    return np.asarray(x[np.ix_(rows, columns)])


def _plane(graph: Graph, x: Value) -> str:
    """[h, w, 1] as float32 [1, 1, h, w], which pooling takes; whole numbers to 255 are exact in it."""
    one = _ints(graph, 1)
    shape = graph.op("Concat", one, one, graph.size(x, 0), graph.size(x, 1), axis=0)
    return graph.cast(graph.op("Reshape", x.name, shape), "float32")


def _highest(graph: Graph, plane: str, window: int, hang: int) -> str:
    """The highest value in a square of `window`, an odd number.

    `hang`: 0 for squares inside the plane, 1 for one around each pixel, 2 for all that touch the plane.
    A window is made of windows of 9 laid one after the other: ONNX Runtime's pooling is fastest there,
    30 times for a window of 65.
    """
    left = window - 1
    while left:
        step = min(left, 8)
        over = step * hang // 2
        plane = graph.op("MaxPool", plane, kernel_shape=[1, step + 1], pads=[0, over, 0, over])
        plane = graph.op("MaxPool", plane, kernel_shape=[step + 1, 1], pads=[over, 0, over, 0])
        left -= step
    return plane


def _lowest(graph: Graph, plane: str, window: int, hang: int) -> str:
    """The lowest value in the same squares, for values to 255: the highest of 255 - x, turned back."""
    most = graph.constant(255, "float32")
    return graph.op("Sub", most, _highest(graph, graph.op("Sub", most, plane), window, hang))


def _window_reference(plane: Array, window: int, choose: Callable[..., Array]) -> Array:
    """`choose` (np.max or np.min) over every square of `window` inside the plane."""
    for axis in (0, 1):
        strips = np.lib.stride_tricks.sliding_window_view(plane, window, axis=axis)
        plane = choose(strips, axis=-1)
    return plane
