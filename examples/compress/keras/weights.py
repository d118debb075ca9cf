"""Unstructured pruning: the smallest weights become zero. The tensors keep their shapes, and kernels their
time.

What it gives is a file that packs: zeros compress. To get time from it takes kernels for sparse weights.
"""

from __future__ import annotations

from collections.abc import Iterator

import keras
import numpy as np
import tensorflow as tf


def masks_of_fewer(
    model: keras.Model, share: float, *, rounds: int = 1
) -> Iterator[list[tuple[keras.Variable, tf.Tensor]]]:
    """Set `share` of all weights of convolutions and matrices to zero, the smallest ones of the whole
    network.

    In `rounds`, between which the caller trains with the masks that it is given: float32, 0 where a weight
    is to stay zero. From round to round the share grows along the cubic curve of Zhu and Gupta, "To prune,
    or not to prune" (2017).
    """
    kernels = [variable for variable in model.trainable_variables if variable.name == "kernel"]
    for turn in range(1, rounds + 1):
        wanted = share * (1 - (1 - turn / rounds) ** 3)
        sizes = [np.abs(kernel.value.numpy()) for kernel in kernels]
        limit = np.quantile(np.concatenate([size.ravel() for size in sizes]), wanted)
        masks = [
            (kernel, tf.constant((size > limit).astype(np.float32)))
            for kernel, size in zip(kernels, sizes, strict=True)
        ]
        for kernel, mask in masks:
            kernel.assign(kernel * mask)
        yield masks


def zeros(model: keras.Model) -> float:
    """The share of the weights of convolutions and matrices that are zero."""
    found = [each.value.numpy() for each in model.trainable_variables if each.name == "kernel"]
    return float(sum((each == 0).sum() for each in found) / sum(each.size for each in found))
