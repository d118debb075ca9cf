"""Where a bundle cannot be written, the message speaks of writing."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelport.errors import InputError
from modelport.importers.pack import pack

from .networks import convnet


def test_a_place_that_cannot_be_written_is_said_to_be_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*given: object, **how: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("modelport.importers.pack.tempfile.mkdtemp", refused)
    with pytest.raises(InputError, match=r"cannot write into .*repo/n: Permission denied") as refusal:
        pack(convnet(), out=tmp_path / "repo", name="n", recipe="raw")
    assert "a folder that can be written" in (refusal.value.hint or "")
