"""Class names in every form that people have them."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelport.errors import InputError
from modelport.importers.labels import read_labels


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("cat\ndog\n", ("cat", "dog")),
        ("\ufeffcat\r\ndog\r\n\r\n", ("cat", "dog")),
        ('["cat", "dog"]', ("cat", "dog")),
        ('{"0": "cat", "1": "dog"}', ("cat", "dog")),
        ('{"cat": 0, "dog": 1}', ("cat", "dog")),
        ('{"0": ["n01", "cat"], "1": ["n02", "dog"]}', ("cat", "dog")),
        ("[unknown\ncat\n", ("[unknown", "cat")),
    ],
)
def test_labels_in_all_their_forms(tmp_path: Path, text: str, names: tuple[str, ...]) -> None:
    (tmp_path / "labels").write_bytes(text.encode())
    assert read_labels(tmp_path / "labels") == names


@pytest.mark.parametrize(
    "text", ["", "cat\n\ndog", '["cat", 3]', '{"1": "cat"}', '{"a": "b"}', '["cat",]', "{}"]
)
def test_labels_that_are_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "labels").write_text(text)
    with pytest.raises(InputError):
        read_labels(tmp_path / "labels")
