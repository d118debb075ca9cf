"""gRPC's packages that do not go with the protobuf that is there."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import ModuleType

import pytest

from modelport.errors import Unsupported
from modelport.serve.server import _grpc_parts


class VersionError(Exception):
    """Like protobuf's, which is neither an ImportError nor a RuntimeError."""


class Refusing:
    """Stands for generated code that another protobuf does not run."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        if name == "modelport.serve.grpc.server":
            raise VersionError("gencode 7.35.1 runtime 6.33.6")


def test_another_protobuf_is_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "modelport.serve.grpc.server", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Refusing(), *sys.meta_path])
    with pytest.raises(Unsupported, match=r"VersionError: gencode 7\.35\.1 runtime 6\.33\.6") as refused:
        _grpc_parts()
    assert "install --upgrade" in str(refused.value.hint)
