"""The three hand-made tables, packed once, and a real server with them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import modelport

from ..colours import served
from . import networks


def pack_tables(folder: Path) -> Path:
    """Pack `houses`, `flowers` and `people` into `folder`/repo."""
    made = {
        "houses": (networks.regressor, networks.HOUSES),
        "flowers": (networks.classifier, networks.FLOWERS),
        "people": (networks.by_name, networks.PEOPLE),
    }
    for name, (write, recipe) in made.items():
        (folder / f"{name}.toml").write_text(recipe)
        modelport.pack(write(folder / f"{name}.onnx"), out=folder / "repo", recipe=folder / f"{name}.toml")
    return folder / "repo"


@pytest.fixture(scope="session")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with the three."""
    return pack_tables(tmp_path_factory.mktemp("tables"))


@pytest.fixture(scope="module")
def url(tables: Path) -> Iterator[str]:
    """A server with the three."""
    with served(tables, "--versions", "all") as (address, _):
        yield address
