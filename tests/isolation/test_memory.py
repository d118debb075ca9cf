"""The most memory that a process ever had, by the system and by what every POSIX says."""

from __future__ import annotations

import builtins
import sys
from typing import Any

import numpy as np
import pytest

from modelport.isolation.child.memory import peak_bytes


def test_it_is_at_least_what_was_filled() -> None:
    np.ones(64 << 20, np.uint8)
    assert (peak_bytes() or 0) > 64 << 20


@pytest.mark.skipif(sys.platform != "linux", reason="two ways of asking are Linux's")
def test_without_proc_it_is_bytes_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    own = peak_bytes()

    def closed(path: Any, *args: Any, **kwargs: Any) -> Any:
        raise OSError(path)

    monkeypatch.setattr(builtins, "open", closed)
    other = peak_bytes()
    monkeypatch.undo()
    assert own is not None and other is not None
    assert own * 0.9 < other
