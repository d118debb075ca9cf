"""Some of many."""

from __future__ import annotations

from modelport.sampling import evenly


def test_items_are_picked_evenly() -> None:
    assert evenly("abcdefgh", 4) == ["a", "c", "e", "g"]
    assert evenly(range(10), 3) == [0, 3, 6]
    assert evenly("abc", 3) == evenly("abc", 99) == ["a", "b", "c"]
    assert evenly("abc", 0) == evenly("", 3) == []
