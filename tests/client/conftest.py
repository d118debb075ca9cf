"""One real server for the whole folder: `colours` (two versions), `every` (each datatype back), `slow`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import modelport

from ..colours import pack_colours, served
from ..serve.grpc.conftest import write_every, write_slow


@pytest.fixture(scope="session")
def client_repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("client")
    pack_colours(folder, version="2")
    pack_colours(folder, version="10")
    for name, path in (
        ("every", write_every(folder / "every.onnx")),
        ("slow", write_slow(folder / "slow.onnx", 200_000)),
    ):
        modelport.pack(path, out=folder / "repo", name=name, version="1", recipe="raw")
    return folder / "repo"


@pytest.fixture(scope="session")
def url(client_repo: Path) -> Iterator[str]:
    with served(client_repo, "--versions", "all") as (address, server):
        yield address
        assert server.poll() is None, "the server has ended"
