"""What objects look like, as vectors: any bundle that answers a picture with one vector will do."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..bundle.manifest import Manifest
from ..errors import InputError, UsageError
from ..tensors import Array

if TYPE_CHECKING:
    from ..runtimes.pipeline import Pipeline

MIN_SIDE = 2
"""Pixels of a cut-out's side; smaller ones are widened to it."""


def vector_output(manifest: Manifest) -> str:
    """The output of an embedding bundle that holds the vector.

    Raises:
        UsageError: the bundle takes no pictures, or answers with something else than one vector.
    """
    if manifest.decode.kind != "image":
        raise UsageError(f"{manifest.name} takes no pictures", hint="--appearance takes an embedding network")
    vectors = [
        spec.name for spec in manifest.outputs if spec.dtype.startswith("float") and len(spec.shape) == 2
    ]
    if len(vectors) != 1 or len(manifest.outputs) != 1:
        outputs = ", ".join(f"{spec.name} {spec}" for spec in manifest.outputs)
        raise UsageError(
            f"expected a bundle with one output, a vector for each picture; {manifest.name} has {outputs}",
            hint="an embedding or re-identification network, packed with a recipe that has no labels",
        )
    return vectors[0]


def cut_out(picture: Array, box: Sequence[float]) -> Array:
    """The part of a picture (uint8[H, W, 3]) in a box (x1 y1 x2 y2), at least `MIN_SIDE` pixels wide."""
    height, width = picture.shape[:2]
    x1, y1 = max(0, math.floor(box[0])), max(0, math.floor(box[1]))
    x2, y2 = min(width, math.ceil(box[2])), min(height, math.ceil(box[3]))
    x1, y1 = min(x1, max(0, width - MIN_SIDE)), min(y1, max(0, height - MIN_SIDE))
    return np.ascontiguousarray(picture[y1 : max(y2, y1 + MIN_SIDE), x1 : max(x2, x1 + MIN_SIDE)])


class Appearance:
    """An embedding bundle, loaded.

    Raises:
        UsageError: it is none.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._output = vector_output(pipeline.bundle.manifest)

    def vectors(self, picture: Array, found: Sequence[Mapping[str, Any]]) -> Array:
        """What each object looks like: float32[n, k], of length 1.

        Args:
            picture: uint8[H, W, 3].
            found: objects with `box`, x1 y1 x2 y2 in pixels.
        """
        if not found:
            return np.zeros((0, 1), np.float32)
        items = [{"image": cut_out(picture, each["box"])} for each in found]
        answers = self._pipeline.answer_many(items)
        return unit(np.stack([answer[self._output] for answer in answers]))


def unit(vectors: Array) -> Array:
    """Vectors, float[n, k], as float32 of length 1.

    Raises:
        InputError: a network gave numbers that are none, or zeros.
    """
    vectors = np.asarray(vectors, np.float32)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not np.isfinite(vectors).all() or not (length > 0).all():
        raise InputError("the embedding network gave a vector of zeros, or of numbers that are none")
    return np.asarray(vectors / length)
