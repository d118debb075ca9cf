"""Items to ask a bundle: pictures, arrays, rows and texts, and what cannot be read of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from modelport.bundle.store import Bundle
from modelport.errors import InputError, NotFound
from modelport.optimize.items import items_of, read_items

from ..tables.conftest import pack_tables
from .benched import fixed
from .networks import packed, pictures


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return packed(tmp_path_factory.mktemp("items"))


def test_items_that_cannot_be_read_are_left_out(bundle: Bundle, tmp_path: Path) -> None:
    folder = pictures(tmp_path / "set", 6)
    (folder / "broken.png").write_bytes(b"no picture")
    items = read_items(bundle, folder)
    assert len(items.encoded) == 6
    assert "broken.png" in items.notes[0]
    assert len(read_items(bundle, folder, most=2).encoded) <= 2
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / "broken.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match="none of 1 items can be read") as raised:
        read_items(bundle, alone)
    assert "takes pictures" in (raised.value.hint or "")
    for number in range(4):
        (alone / f"{number}{'long' * 40}.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match="none of 5 items") as raised:
        read_items(bundle, alone)
    lines = raised.value.message.splitlines()
    assert len(lines) == 5 and lines[-1] == "  and 2 more" and max(map(len, lines[1:])) <= 102
    for path in alone.glob("*long*"):
        path.unlink()
    (alone / "broken.png").rename(alone / "broken.txt")
    with pytest.raises(NotFound, match="no file in"):
        read_items(bundle, alone)


def test_rows_and_arrays_count_one_by_one(tmp_path: Path) -> None:
    houses = Bundle.open(pack_tables(tmp_path) / "houses")
    lines = [
        "rooms,age,income,near,garden",
        "3,20,2.5,INLAND,true",
        "4,x,2.5,INLAND,true",
        "5,9,,ISLAND,false",
    ]
    (tmp_path / "houses.csv").write_text("\n".join(lines) + "\n")
    items = read_items(houses, tmp_path / "houses.csv")
    assert items.names == ("houses.csv:2", "houses.csv:4")
    assert "houses.csv:3" in items.notes[0]
    own = fixed(tmp_path)
    np.savez(tmp_path / "rows.npz", x=np.arange(12, dtype=np.float32).reshape(3, 4))
    assert read_items(own, tmp_path / "rows.npz").names == tuple(f"rows.npz[{row}]" for row in range(3))
    np.savez(tmp_path / "one.npz", x=np.arange(4, dtype=np.float32))
    assert read_items(own, tmp_path / "one.npz").names == ("one.npz",)


def test_without_data_it_is_the_golden_cases(bundle: Bundle) -> None:
    """The colours were packed without pictures of their own, so these were made up."""
    items = items_of(bundle, None)
    assert bundle.manifest.golden is not None
    assert items.origin == "generated"
    assert len(items.encoded) == len(bundle.manifest.golden.cases)
