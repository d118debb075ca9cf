"""gRPC's packages that do not go with the protobuf that is there."""

from __future__ import annotations

import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import pytest

from modelport.errors import Unsupported
from modelport.serve.server import grpc_parts
from modelport.serve.settings import ServeSettings
from modelport.serve.workers import supervise


class VersionError(Exception):
    """Like protobuf's, which is neither an ImportError nor a RuntimeError."""


class Refusing:
    """Stands for generated code that another protobuf does not run."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        if name == "modelport.serve.grpc.server":
            raise VersionError("gencode 7.35.1 runtime 6.33.6")


@pytest.fixture
def another_protobuf(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "modelport.serve.grpc.server", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Refusing(), *sys.meta_path])


@pytest.mark.usefixtures("another_protobuf")
def test_another_protobuf_is_named_with_what_to_do() -> None:
    with pytest.raises(Unsupported, match=r"VersionError: gencode 7\.35\.1 runtime 6\.33\.6") as refused:
        grpc_parts()
    assert str(refused.value.hint).startswith("pip install --upgrade 'modelport[grpc]', or")


@pytest.mark.usefixtures("another_protobuf")
def test_it_is_found_out_once_before_workers_are_started(tmp_path: Path) -> None:
    settings = ServeSettings(workers=2, grpc_port=1)
    with socket.create_server(("127.0.0.1", 0)) as sock, pytest.raises(Unsupported, match="VersionError"):
        supervise(tmp_path, sock, settings, lambda states: None)
