"""Ranges of columns, from rows that the user says are good."""

from __future__ import annotations

from pathlib import Path

from modelport.bundle.manifest import Column, Decode
from modelport.importers.ranges import seen_in

COLUMNS = (
    Column("size", "float64", missing=True),
    Column("floor", "int64", minimum=0, maximum=9),
    Column("rooms", "int64", typical=7),
    Column("town", "string"),
)
TABLE = Decode(kind="table")


def test_what_is_not_known_comes_from_the_rows(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("rent,size,floor,rooms,town\n1,20.5,3,1,Ulm\n2,,4,3,Bonn\n")
    (tmp_path / "b.json").write_text('[{"size": 60, "floor": 5, "rooms": 2, "town": "Ulm"}]')
    size, floor, rooms, town = seen_in(COLUMNS, tmp_path, TABLE)
    assert (size.minimum, size.maximum, size.typical, size.unseen) == (20.5, 60, 40.25, True)
    assert (rooms.minimum, rooms.maximum, rooms.typical) == (1, 7, 7) and isinstance(rooms.minimum, int)
    assert (floor, town) == (COLUMNS[1], COLUMNS[3])


def test_without_rows_the_columns_stay(tmp_path: Path) -> None:
    assert seen_in(COLUMNS, None, TABLE) == COLUMNS
    (tmp_path / "empty.csv").write_text("size,floor,rooms,town\n,1,1,Ulm\n")
    assert seen_in(COLUMNS, tmp_path / "empty.csv", TABLE)[0] == COLUMNS[0]
