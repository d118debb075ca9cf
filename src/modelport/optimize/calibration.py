"""The items that ranges are measured on, and that answers and times are taken of."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from ..bundle.store import Bundle
from ..errors import InputError, ModelportError, NotFound
from ..importers.golden import ARRAYS, PICTURES
from ..runtimes.pipeline import Pipeline
from ..tensors import Array, Tensors

MOST = 128
"""Items that are read: more change the ranges little and cost minutes."""
LEAST = 8
"""Fewer items say too little of the ranges that a network works in."""
SHOWN = 3


class Calibration(msgspec.Struct, frozen=True, eq=False):
    """Items as they were encoded, and prepared for the network."""

    names: tuple[str, ...]
    items: tuple[bytes, ...]
    prepared: tuple[dict[str, Array], ...]
    """What the network takes, without the batch axis."""
    notes: tuple[str, ...] = ()
    ranges: dict[tuple[str, str], Any] = msgspec.field(default_factory=dict)
    """By a network's digest and a calibrator's name: what was measured already."""

    def batches(self, rows: int) -> Iterator[Tensors]:
        """The prepared items in batches of the same shapes, of at most so many rows."""
        waiting: list[dict[str, Array]] = []
        for item in self.prepared:
            if waiting and (len(waiting) == rows or _shapes(item) != _shapes(waiting[0])):
                yield _stacked(waiting)
                waiting = []
            waiting.append(item)
        if waiting:
            yield _stacked(waiting)


def read_calibration(bundle: Bundle, data: Path, *, most: int = MOST) -> Calibration:
    """Items of a folder or of one file, at most `most`, evenly picked.

    Raises:
        NotFound: nothing there. InputError: too few items can be read, or they are all alike.
    """
    paths = _files(bundle, data)
    chosen = [paths[place * len(paths) // min(most, len(paths))] for place in range(min(most, len(paths)))]
    names, items, prepared, faults = [], [], [], []
    with Pipeline.open(bundle) as pipeline:
        taken = {spec.name for spec in bundle.manifest.graphs.net.signature.inputs}
        for path in chosen:
            try:
                encoded = path.read_bytes()
                made = pipeline.pre(pipeline.decode(encoded))
            except (ModelportError, OSError) as problem:
                faults.append(f"{path.name}: {problem}")
                continue
            names.append(path.name)
            items.append(encoded)
            prepared.append({name: array for name, array in made.items() if name in taken})
    _check(data, names, prepared, faults)
    notes = [f"calibrated on {len(names)} of {len(paths)} items"] if len(names) < len(paths) else []
    if faults:
        notes.append(f"{len(faults)} items could not be read: {'; '.join(faults[:SHOWN])}")
    return Calibration(tuple(names), tuple(items), tuple(prepared), tuple(notes))


def _files(bundle: Bundle, data: Path) -> list[Path]:
    if data.is_file():
        return [data]
    if not data.is_dir():
        raise NotFound(f"no such file or directory: {data}")
    endings = PICTURES if bundle.manifest.decode.kind == "image" else ARRAYS
    found = sorted(path for path in data.rglob("*") if path.suffix.lower() in endings and path.is_file())
    if not found:
        raise NotFound(f"no file in {data} ends in one of {', '.join(endings)}")
    return found


def _check(data: Path, names: list[str], prepared: list[dict[str, Array]], faults: list[str]) -> None:
    if len(names) < LEAST:
        raise InputError(
            f"{data}: {len(names)} items could be read, and at least {LEAST} are needed"
            + (f"; {len(faults)} could not: {'; '.join(faults[:SHOWN])}" if faults else ""),
            hint="give pictures like those that the model will see: 100 are good, 500 are plenty",
        )
    first = prepared[0]
    if all(
        all(
            item[name].shape == first[name].shape and np.array_equal(item[name], first[name])
            for name in first
        )
        for item in prepared[1:]
    ):
        raise InputError(
            f"{data}: all {len(names)} items are alike to the network",
            hint="ranges measured on one picture are wrong for every other one; give different ones",
        )


def _shapes(item: Tensors) -> list[tuple[int, ...]]:
    return [item[name].shape for name in sorted(item)]


def _stacked(items: list[dict[str, Array]]) -> Tensors:
    return {name: np.stack([item[name] for item in items]) for name in items[0]}
