"""Resizing in native code: Pillow, OpenCV, and OpenCV's formula in NumPy where OpenCV is not installed.

These are what the compiled kernels are held against; none of them runs a compiled graph (`fast`, which
is defined as one ONNX operator, runs that operator).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..tensors import Array

_PILLOW_FILTERS = {"nearest": 0, "pillow-bilinear": 2, "pillow-bicubic": 3}  # Image.Resampling


def resize_reference(image: Array, height: int, width: int, kernel: str, order: str = "pillow-13") -> Array:
    """uint8 [H, W, C], C = 1 or 3, resized to [height, width, C] by the library that `kernel` names.

    `order` is that of Pillow's two passes, see `pillow_height_first`; the installed version of Pillow
    makes no difference.
    """
    if kernel == "opencv-linear":
        return _opencv(image, height, width)
    if kernel == "fast":
        return _onnx_resize(image, height, width)
    resample = _PILLOW_FILTERS[kernel]
    if kernel == "nearest":
        return _pillow(image, height, width, resample)
    # One call for each side: two sides in one call have had three orders in Pillow's life so far.
    if order == "pillow-13" and pillow_height_first(image.shape[0], image.shape[1], height, width):
        return _pillow(_pillow(image, height, image.shape[1], resample), height, width, resample)
    return _pillow(_pillow(image, image.shape[0], width, resample), height, width, resample)


def pillow_height_first(from_height: int, from_width: int, height: int, width: int) -> bool:
    """Whether Pillow 13 resamples the height first: it shrinks by more than twice what the width does.

    Pillow to 12.1 never does; 12.2 and 12.3 do where a shrinking image is over 100 times as high as wide.
    """
    lost = from_height - height
    return lost > 0 and lost > 2 * (from_width - width)


def opencv_linear(image: Array, height: int, width: int) -> Array:
    """OpenCV's INTER_LINEAR of uint8 [H, W, C] in NumPy (modules/imgproc/src/resize.cpp)."""
    top, bottom, near_row, far_row = _taps(image.shape[0], height, border=False)
    left, right, near_column, far_column = _taps(image.shape[1], width, border=True)
    pixels = image.astype(np.int32)
    near, far = near_column[None, :, None], far_column[None, :, None]

    def line(rows: Array, weights: Array) -> Array:
        across: Array = (pixels[rows][:, left] * near + pixels[rows][:, right] * far) >> 4
        down: Array = (across * weights[:, None, None]) >> 16
        return down

    return ((line(top, near_row) + line(bottom, far_row) + 2) >> 2).astype(np.uint8)


def _taps(source: int, target: int, *, border: bool) -> tuple[Array, Array, Array, Array]:
    scale = 1.0 / (target / source)
    place = ((np.arange(target) + 0.5) * scale - 0.5).astype(np.float32)
    floor = np.floor(place)
    fraction = place - floor
    first = floor.astype(np.int64)
    if border:
        fraction[(first < 0) | (first >= source - 1)] = 0
    near = np.rint((np.float32(1) - fraction) * np.float32(2048)).astype(np.int32)
    far = np.rint(fraction * np.float32(2048)).astype(np.int32)
    return first.clip(0, source - 1), (first + 1).clip(0, source - 1), near, far


def opencv() -> Any:
    """OpenCV's module; None where it is not installed."""
    try:
        import cv2
    except ModuleNotFoundError:
        return None
    return cv2


def _opencv(image: Array, height: int, width: int) -> Array:
    cv2 = opencv()
    if cv2 is None:
        return opencv_linear(image, height, width)
    resized: Array = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return resized.reshape(height, width, image.shape[2])


def _pillow(image: Array, height: int, width: int, resample: int) -> Array:
    from PIL import Image

    picture = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
    resized = picture.resize((width, height), Image.Resampling(resample))
    return np.asarray(resized).reshape(height, width, image.shape[2])


def _onnx_resize(image: Array, height: int, width: int) -> Array:
    """The operator that `fast` is defined as, alone, through ONNX Runtime."""
    import onnxruntime

    from ..tensors import TensorSpec
    from . import kernels, sampling
    from .graph import Graph

    graph = Graph()
    x = graph.input(TensorSpec("image", "uint8", ("height", "width", image.shape[2])))
    rows, columns = (
        sampling.Side(graph.size(x, axis), graph.constant([target], "int64"), target)
        for axis, target in enumerate((height, width))
    )
    y = kernels.resize(graph, x, rows, columns, "fast")
    graph.output(TensorSpec("resized", "uint8", y.shape), y.name)
    session = onnxruntime.InferenceSession(graph.build("fast"), providers=["CPUExecutionProvider"])
    results: list[Any] = session.run(None, {"image": np.ascontiguousarray(image)})
    return np.asarray(results[0])
