"""Preparing a picture in native code where that is quicker, with the bytes of the compiled graph.

A lowering: Pillow or OpenCV resizes, and what is done to every pixel by itself (scaling, normalising) is a
table of 256 values a channel, made by the steps' own references. The graph is the truth: the first pictures
of every size are prepared by both, compared byte by byte and timed, and one difference ends the lowering.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

import msgspec
import numpy as np
from PIL import Image

from ..tensors import Array, Tensors
from .image import Cast, CenterCrop, Channels, Layout, Normalize, Scale, both_sides
from .reference import opencv, pillow_height_first
from .resize import Letterbox, Resize
from .step import PreStep

TRIALS = 3
"""Pictures of a size that are prepared by both before one of them is chosen."""
MAX_MADE = 1 << 22
"""Pixels that a native resize may make on its way; the graph makes only those that a crop keeps."""

log = logging.getLogger("modelport.steps")

_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "pillow-bilinear": Image.Resampling.BILINEAR,
    "pillow-bicubic": Image.Resampling.BICUBIC,
}
_POINTWISE = (Channels, Scale, Normalize, Cast)


class Lowering:
    """The steps in native code: the first with its crop, and then what looks at one value at a time."""

    def __init__(
        self, first: PreStep, fitted: Callable[[Array], Array], values: _Pointwise, output: str
    ) -> None:
        self._first = first
        self._fitted = fitted
        self._values = values
        self._output = output
        self._sizes: dict[tuple[int, int], _Trials] = {}
        self._differs = False

    @classmethod
    def of(cls, steps: Sequence[PreStep], output: str) -> Lowering | None:
        """The lowering of `steps` to the tensor `output`; None where a step has no native form here."""
        if not steps:
            return None
        rest = list(steps[1:])
        crop = rest[0] if rest and isinstance(rest[0], CenterCrop) else None
        rest = rest[1:] if crop else rest
        fitted = _fitted(steps[0], crop)
        if fitted is None:
            return None
        last = rest[-1] if rest else None
        order = last.order if isinstance(last, Layout) else "hwc"
        rest = rest[:-1] if isinstance(last, Layout) else rest
        if order not in ("chw", "hwc") or not all(isinstance(step, _POINTWISE) for step in rest):
            return None
        values = _Pointwise(rest, opencv() if _of_opencv(steps[0]) else None, channels_first=order == "chw")
        return cls(steps[0], fitted, values, output)

    def run(self, picture: Array, into: Array | None = None) -> Array:
        """What `pre.onnx` gives for uint8 [height, width, 3]; written to `into`, and that, where it fits."""
        return self._values(self._fitted(picture), into)

    def prepare(
        self, picture: Array, graph: Callable[[], dict[str, Array]], into: Tensors | None = None
    ) -> dict[str, Array]:
        """The prepared item, by `graph` or natively, whichever is quicker for pictures of about this size.

        Args:
            picture: uint8 [height, width, 3].
            graph: runs the compiled graph on it. Natively only the network's input is made.
            into: arrays to write to, by the name of the tensor: used where it is made natively and fits.
        """
        height, width, _ = picture.shape
        if self._differs or self._grows(height, width):
            return graph()
        trials = self._sizes.setdefault((height.bit_length(), width.bit_length()), _Trials())
        if trials.count >= TRIALS:
            if trials.native >= trials.graph:
                return graph()
            return {self._output: self.run(picture, into.get(self._output) if into else None)}
        start = time.perf_counter()
        prepared = graph()
        middle = time.perf_counter()
        got = self.run(picture)
        trials.take(middle - start, time.perf_counter() - middle)
        expected = prepared[self._output]
        if expected.dtype != got.dtype or not np.array_equal(expected, got):
            self._differs = True
            log.warning(
                "the native libraries here resize %d x %d pixels otherwise than the graph", width, height
            )
        return prepared

    def _grows(self, height: int, width: int) -> bool:
        if not isinstance(self._first, Resize):
            return False
        made_height, made_width = self._first.target(height, width)
        return max(height, made_height) * max(width, made_width) > max(MAX_MADE, height * width)


class _Trials(msgspec.Struct):
    """The shortest times of both on pictures of one size, in seconds."""

    count: int = 0
    graph: float = float("inf")
    native: float = float("inf")

    def take(self, graph: float, native: float) -> None:
        self.count += 1
        self.graph = min(self.graph, graph)
        self.native = min(self.native, native)


class _Pointwise:
    """Steps that look at one value at a time, as a table; with the channels' order and the layout."""

    def __init__(self, steps: Sequence[PreStep], library: Any, *, channels_first: bool) -> None:
        values = np.repeat(np.arange(256, dtype=np.uint8)[:, None, None], 3, axis=2)
        channels = np.arange(3, dtype=np.uint8)[None, None]
        for step in steps:
            values = step.reference(values)
            if isinstance(step, Channels):
                channels = step.reference(channels)
        self._channels = [int(channel) for channel in channels[0, 0]]
        self._tables = [np.ascontiguousarray(values[:, 0, place]) for place in range(values.shape[2])]
        self._channels_first = channels_first
        self._opencv = library if channels_first and values.dtype in (np.uint8, np.float32) else None

    def __call__(self, pixels: Array, into: Array | None = None) -> Array:
        height, width, _ = pixels.shape
        count = len(self._tables)
        shape = (count, height, width) if self._channels_first else (height, width, count)
        dtype = self._tables[0].dtype
        fits = into is not None and into.shape == shape and into.dtype == dtype and into.flags.c_contiguous
        made = into if into is not None and fits else np.empty(shape, dtype)
        if self._opencv is not None and made.size:
            planes = self._opencv.split(pixels)
            for place, (channel, table) in enumerate(zip(self._channels, self._tables, strict=True)):
                self._opencv.LUT(planes[channel], table, made[place])
            return made
        for place, (channel, table) in enumerate(zip(self._channels, self._tables, strict=True)):
            plane = made[place] if self._channels_first else made[:, :, place]
            # Every uint8 is inside the table: "clip" only spares NumPy the question.
            if plane.flags.c_contiguous:
                np.take(table, pixels[:, :, channel], out=plane, mode="clip")
            else:
                plane[...] = table[pixels[:, :, channel]]
        return made


def _fitted(step: PreStep, crop: CenterCrop | None) -> Callable[[Array], Array] | None:
    """The step that gives the picture its size, together with the crop after it."""
    if isinstance(step, Resize) and step.kernel in _FILTERS:
        return _Pillow(step, crop) if crop is None or step.covers(*both_sides(crop.size)) else None
    if not _of_opencv(step):
        return None
    return step.reference if crop is None else lambda picture: crop.reference(step.reference(picture))


def _of_opencv(step: PreStep) -> bool:
    """Whether OpenCV resizes and is here; importing it takes a while, which other pictures need not pay."""
    named = isinstance(step, Resize | Letterbox) and step.kernel == "opencv-linear"
    return named and find_spec("cv2") is not None


class _Pillow:
    """`resize` and the crop after it, one axis after the other: what the crop drops is not made twice."""

    def __init__(self, step: Resize, crop: CenterCrop | None) -> None:
        self._step = step
        self._crop = crop
        self._filter = _FILTERS[step.kernel]

    def __call__(self, picture: Array) -> Array:
        source_height, source_width, _ = picture.shape
        height, width = self._step.target(source_height, source_width)
        top, left, kept_height, kept_width = 0, 0, height, width
        if self._crop is not None:
            kept_height, kept_width = both_sides(self._crop.size)
            top, left = self._crop.start(height, kept_height), self._crop.start(width, kept_width)
        image = Image.fromarray(picture)
        first_height = (
            self._filter != Image.Resampling.NEAREST
            and self._step.order == "pillow-13"
            and pillow_height_first(source_height, source_width, height, width)
        )
        for axis in (0, 1) if first_height else (1, 0):
            if axis == 0:
                image = image.resize((image.width, height), self._filter)
                image = image.crop((0, top, image.width, top + kept_height))
            else:
                image = image.resize((width, image.height), self._filter)
                image = image.crop((left, 0, left + kept_width, image.height))
        return np.asarray(image)
