"""What the user's own rows say of columns whose model does not say it: ranges and typical values."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from ..bundle.manifest import Column, Decode
from ..steps.row_files import decode_rows, looks_like_json, read_csv
from ..tensors import Array

NUMBERS = ("float32", "float64", "int64")
ENDINGS = (".csv", ".json", ".tsv")


def seen_in(columns: Sequence[Column], golden: Any, decode: Decode) -> tuple[Column, ...]:
    """The columns with the ranges and medians of the rows in the user's files, where none are known.

    Other numbers are taken as well: such a range says what was seen.

    Args:
        columns: a row's.
        golden: a path of a file or directory, or a sequence of such, whose rows are known to be good.
        decode: how large a file may be.
    """
    given = [golden] if isinstance(golden, (str, Path)) else list(golden or ())
    files = [file for place in given for file in _files(Path(place))]
    parts = [_rows(file.read_bytes(), columns, decode) for file in files]
    if not parts:
        return tuple(columns)
    return tuple(
        _with_range(column, np.concatenate([part[column.name] for part in parts])) for column in columns
    )


def _files(place: Path) -> list[Path]:
    if place.is_dir():
        return sorted(file for file in place.iterdir() if file.suffix.lower() in ENDINGS)
    return [place]


def _rows(data: bytes, columns: Sequence[Column], decode: Decode) -> dict[str, Array]:
    if looks_like_json(data):
        return decode_rows(data, decode, columns)
    return read_csv(data, columns).tensors(columns)


def _with_range(column: Column, values: Array) -> Column:
    if column.dtype not in NUMBERS or column.minimum is not None or column.maximum is not None:
        return column
    known = values[np.isfinite(values)]
    if not known.size:
        return column
    typical = column.typical
    if not isinstance(typical, (int, float)):
        typical = _plain(column, np.median(known))
    # What the model itself has for typical was seen where it was trained.
    known = np.append(known, typical)
    return msgspec.structs.replace(
        column,
        minimum=_plain(column, known.min()),
        maximum=_plain(column, known.max()),
        typical=typical,
        unseen=True,
    )


def _plain(column: Column, value: Any) -> float | int:
    return int(value) if column.dtype == "int64" else float(value)
