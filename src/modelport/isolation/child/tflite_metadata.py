"""What TensorFlow Lite's metadata says: how a picture is normalised, and the names of the classes.

The model is a FlatBuffer with a buffer for the metadata, which is a FlatBuffer itself; the files that it
names lie in a zip archive behind the model. Standard library only; every offset is checked.
"""

from __future__ import annotations

import io
import struct
import zipfile
from typing import NamedTuple

MAX_LABELS_BYTES = 4 << 20
MAX_ITEMS = 4096
ENTRY = "TFLITE_METADATA"
NORMALIZATION, PICTURE = 1, 2
"""Kinds in the schema's unions: NormalizationOptions, ImageProperties."""
AXIS_LABELS = 2
COLOURS = {1: "rgb", 2: "grayscale"}


class Metadata(NamedTuple):
    """Empty where nothing is said."""

    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    colours: str = ""
    labels: tuple[str, ...] = ()


class Table:
    """A table of a FlatBuffer; fields by their number in the schema."""

    def __init__(self, data: bytes, at: int) -> None:
        self.data, self.at = data, at
        self.fields = at - _number("<i", data, at)

    @classmethod
    def root(cls, data: bytes) -> Table:
        """The table that the buffer is of."""
        return cls(data, _number("<I", data, 0))

    def table(self, field: int) -> Table | None:
        """A table behind this field."""
        at = self._place(field)
        return Table(self.data, at + _number("<I", self.data, at)) if at else None

    def tables(self, field: int) -> list[Table]:
        """A list of tables."""
        start, count = self._vector(field)
        places = [start + 4 * index for index in range(count)]
        return [Table(self.data, at + _number("<I", self.data, at)) for at in places]

    def floats(self, field: int) -> tuple[float, ...]:
        """A list of numbers."""
        start, count = self._vector(field)
        return struct.unpack_from(f"<{count}f", self.data, start) if count else ()

    def text(self, field: int) -> str:
        """Text; empty where there is none."""
        return self.bytes(field).decode(errors="replace")

    def bytes(self, field: int) -> bytes:
        """A list of bytes."""
        at = self._place(field)
        if not at:
            return b""
        start = at + _number("<I", self.data, at)
        size = _number("<I", self.data, start)
        return self.data[start + 4 : start + 4 + size]

    def byte(self, field: int) -> int:
        """A small number; 0 where it is not there."""
        at = self._place(field)
        return self.data[at] if at else 0

    def whole(self, field: int) -> int:
        """A number of 32 bits; 0 where it is not there."""
        at = self._place(field)
        return _number("<I", self.data, at) if at else 0

    def _place(self, field: int) -> int:
        size = _number("<H", self.data, self.fields)
        slot = 4 + 2 * field
        offset = _number("<H", self.data, self.fields + slot) if slot + 2 <= size else 0
        return self.at + offset if offset else 0

    def _vector(self, field: int) -> tuple[int, int]:
        at = self._place(field)
        if not at:
            return 0, 0
        start = at + _number("<I", self.data, at)
        count = _number("<I", self.data, start)
        if count > MAX_ITEMS or start + 4 + 4 * count > len(self.data):
            raise ValueError(f"a list of {count} at {start}")
        return start + 4, count


def _number(form: str, data: bytes, at: int) -> int:
    if not 0 <= at <= len(data) - struct.calcsize(form):
        raise ValueError(f"an offset of {at} in {len(data)} bytes")
    return int(struct.unpack_from(form, data, at)[0])


def metadata_of(data: bytes) -> Metadata:
    """What the metadata of a model's file says; nothing where it has none, or none that can be read."""
    try:
        model = Table.root(data)
        buffers = model.tables(4)
        held = [entry for entry in model.tables(6) if entry.text(0) == ENTRY]
        if not held:
            return Metadata()
        root = Table.root(buffers[held[0].whole(1)].bytes(0))
        graphs = root.tables(3)
        if not graphs:
            return Metadata()
        return _said(data, graphs[0])
    except (ValueError, IndexError, struct.error):
        return Metadata()


def _said(data: bytes, graph: Table) -> Metadata:
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    colours = ""
    for tensor in graph.tables(2)[:1]:
        for unit in tensor.tables(4):
            options = unit.table(1)
            if unit.byte(0) == NORMALIZATION and options is not None:
                mean, std = options.floats(0), options.floats(1)
        content = tensor.table(3)
        picture = content.table(1) if content is not None and content.byte(0) == PICTURE else None
        colours = COLOURS.get(picture.byte(0), "") if picture is not None else ""
    named = [file for tensor in graph.tables(3) for file in tensor.tables(6)]
    labels = [file.text(0) for file in named if file.byte(2) == AXIS_LABELS]
    return Metadata(mean, std, colours, _lines(data, labels[0]) if labels else ())


def _lines(data: bytes, name: str) -> tuple[str, ...]:
    """The lines of an associated file."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive, archive.open(name) as stream:
            text = stream.read(MAX_LABELS_BYTES).decode(errors="replace")
    except (zipfile.BadZipFile, KeyError, OSError, RuntimeError, NotImplementedError):
        return ()
    lines = [line.strip() for line in text.splitlines()]
    while lines and not lines[-1]:
        lines.pop()
    return tuple(lines)
