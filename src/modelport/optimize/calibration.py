"""The items that ranges are measured on, and that answers and times are taken of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from ..bundle.store import Bundle
from ..errors import InputError
from ..runtimes.pipeline import Pipeline
from ..tensors import Array, Tensors
from .items import Items, read_items

MOST = 128
"""Items that are read: more change the ranges little and cost minutes."""
LEAST = 8
"""Fewer items say too little of the ranges that a network works in."""


class Calibration(msgspec.Struct, frozen=True, eq=False):
    """Items as they were encoded, and prepared for the network."""

    names: tuple[str, ...]
    items: tuple[bytes, ...]
    prepared: tuple[dict[str, Array], ...]
    """What the network takes, without the batch axis."""
    notes: tuple[str, ...] = ()
    ranges: dict[tuple[str, str], Any] = msgspec.field(default_factory=dict)
    """By a network's digest and a calibrator's name: what was measured already."""
    pre: str = ""
    """The digest of the graph that prepared them."""

    def of(self, bundle: Bundle) -> Calibration:
        """The same items as this bundle prepares them; itself where it does so as the one that read them."""
        if self.pre == _pre(bundle):
            return self
        prepared: list[dict[str, Array]] = []
        with Pipeline.open(bundle, variant="") as pipeline:
            for item in self.items:
                prepared.append(_taken(bundle, pipeline.pre(pipeline.decode(item))))
        return msgspec.structs.replace(self, prepared=tuple(prepared), ranges={}, pre=_pre(bundle))

    def groups(self, rows: int) -> list[list[dict[str, Array]]]:
        """The prepared items of each batch: of the same shapes, at most so many; nothing is copied."""
        found: list[list[dict[str, Array]]] = []
        for item in self.prepared:
            if not found or len(found[-1]) == rows or _shapes(item) != _shapes(found[-1][0]):
                found.append([])
            found[-1].append(item)
        return found

    def batches(self, rows: int) -> Iterator[Tensors]:
        """The prepared items in batches of the same shapes, of at most so many rows."""
        return map(stacked, self.groups(rows))


def read_calibration(bundle: Bundle, data: Path, *, most: int = MOST) -> Calibration:
    """Items of a folder or of one file, at most `most`, evenly picked: pictures, arrays, rows, texts.

    Raises:
        NotFound: nothing there. InputError: too few items can be read, or they are all alike.
    """
    prepared: list[dict[str, Array]] = []

    def keep(made: dict[str, Array]) -> None:
        prepared.append(_taken(bundle, made))

    found = read_items(bundle, data, most=most, prepared=keep)
    notes = (*found.notes, *_checked(data, found, prepared))
    return Calibration(found.names, found.encoded, tuple(prepared), notes, pre=_pre(bundle))


def _taken(bundle: Bundle, made: dict[str, Array]) -> dict[str, Array]:
    """Of a prepared item what the network takes."""
    return {spec.name: made[spec.name] for spec in bundle.manifest.graphs.net.signature.inputs}


def _pre(bundle: Bundle) -> str:
    return bundle.manifest.files[bundle.manifest.graphs.pre.file].sha256


def _checked(data: Path, found: Items, prepared: list[dict[str, Array]]) -> tuple[str, ...]:
    """What is to be known of the items; raises InputError where they say nothing of a network's ranges."""
    if len(prepared) < LEAST:
        many = "1 item" if len(prepared) == 1 else f"{len(prepared)} items"
        raise InputError(
            "; ".join(
                [
                    f"{data}: {many} could be read, and at least {LEAST} are needed",
                    *found.notes,
                ]
            ),
            hint="give items like those that the model will see: 100 are good, 500 are plenty",
        )
    different = len({_digest(item) for item in prepared})
    if different == 1:
        raise InputError(
            f"{data}: all {len(prepared)} items are alike to the network",
            hint="ranges measured on one item are wrong for every other one; give different ones",
        )
    if different < LEAST:
        return (f"to the network only {different} of the {len(prepared)} items are different ones",)
    return ()


def _digest(item: Tensors) -> bytes:
    """The same for items with the same shapes and numbers."""
    found = sha256()
    for name in sorted(item):
        array = item[name]
        found.update(f"{name}{array.dtype}{array.shape}".encode())
        found.update(array.tobytes() if array.dtype != object else repr(array.tolist()).encode())
    return found.digest()


def _shapes(item: Tensors) -> list[tuple[int, ...]]:
    return [item[name].shape for name in sorted(item)]


def stacked(items: Sequence[dict[str, Array]]) -> Tensors:
    """One batch of items of the same shapes, a row each."""
    return {name: np.stack([item[name] for item in items]) for name in items[0]}
