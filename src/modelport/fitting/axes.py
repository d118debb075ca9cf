"""The axes of the reference's outputs, and the outputs with their channels last."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from ..errors import InputError
from ..tensors import Array

Order = Literal["chw", "hwc", "hw", "flat"]


def without_batch(array: Array) -> Array:
    """The array without a first axis of size 1, where it has more axes than a picture.

    Raises:
        InputError: a batch of several.
    """
    if array.ndim == 4 and array.shape[0] == 1:
        return np.asarray(array[0])
    if array.ndim > 3:
        raise InputError(
            f"the reference gives {list(array.shape)} for one picture; one item is expected",
            hint="a batch axis of size 1 is dropped; ten crops and the like have no steps",
        )
    if array.ndim == 2 and array.shape[0] == 1 and array.shape[1] > 16:
        return np.asarray(array[0])
    return array


def order_of(array: Array) -> Order:
    """The order of the axes, as the step `layout` names it.

    Raises:
        InputError: no picture of 1 or 3 channels.
    """
    shape = array.shape
    if array.ndim == 1 and _flat(shape[0]) is not None:
        return "flat"
    if array.ndim == 2:
        return "hw"
    if array.ndim == 3 and shape[0] in (1, 3):
        return "chw"
    if array.ndim == 3 and shape[2] in (1, 3):
        return "hwc"
    raise InputError(
        f"the reference gives {array.dtype.name}{list(shape)}; expected a picture of 1 or 3 channels, "
        "as [c, h, w], [h, w, c], [h, w] or flat",
    )


def channels_last(array: Array, order: Order) -> Array:
    """[rows, columns, channels]"""
    if order == "chw":
        return array.transpose(1, 2, 0)
    if order == "hw":
        return array[:, :, None]
    if order == "flat":
        height, width, channels = _flat(array.shape[0]) or (1, 1, 1)
        return array.reshape(height, width, channels)
    return array


def settle(
    outputs: Sequence[Array | None], names: Sequence[str], must: int
) -> tuple[Order, list[Array | None]]:
    """The order of all outputs, and each with its channels last; None for those that are unlike the first.

    Args:
        must: so many from the start have to be alike; the others are probes.

    Raises:
        InputError: outputs of several kinds, NaN, no picture.
    """
    first = outputs[0]
    assert first is not None
    order = order_of(without_batch(first))
    made: list[Array | None] = []
    for index, output in enumerate(outputs):
        settled = None if output is None else _settled(output, order, names[index], index < must)
        made.append(settled)
    have = made[0]
    assert have is not None
    own = [(name, each) for name, each in zip(names, made[:must], strict=False) if each is not None]
    kinds = {(each.dtype.name, each.shape[2]): name for name, each in own}
    if len(kinds) > 1:
        (one, name), (two, other) = list(kinds.items())[:2]
        raise InputError(
            f"the reference gives {one[0]} with {one[1]} channels for {name} "
            f"and {two[0]} with {two[1]} for {other}",
            hint="does it convert every picture to RGB?",
        )
    sizes = {each.shape for _, each in own}
    alike = [
        None
        if each is None
        or (each.dtype, each.shape[2]) != (have.dtype, have.shape[2])
        or (len(sizes) == 1 and must > 1 and each.shape not in sizes)
        else each
        for each in made
    ]
    return order, alike


def _settled(output: Array, order: Order, name: str, must: bool) -> Array | None:
    try:
        item = without_batch(output)
        if order_of(item) != order:
            raise InputError(f"the reference gives {list(output.shape)}, another order of axes than before")
        if item.dtype.kind == "f" and not np.isfinite(item).all():
            raise InputError("the reference gives NaN or infinity")
        return channels_last(item, order)
    except InputError as problem:
        if must:
            raise InputError(problem.message, at=name, hint=problem.hint) from problem
        return None


def _flat(size: int) -> tuple[int, int, int] | None:
    for channels in (1, 3):
        side = math.isqrt(size // channels)
        if side > 1 and side * side * channels == size:
            return side, side, channels
    return None
