"""What a user imports: light, complete, and of the types that it says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import modelport.client

HEAVY = {"torch", "tensorflow", "onnxruntime", "onnx", "PIL", "starlette", "rich", "uvicorn", "httpx"}


def loaded_by(statement: str) -> set[str]:
    code = f"{statement}\nimport sys; print(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(out.stdout.split())


def test_a_blocking_client_needs_little() -> None:
    loaded = loaded_by("from modelport.client import Client; Client('http://127.0.0.1:8000')")
    assert not (HEAVY | {"grpc", "google.protobuf", "asyncio", "ssl"}) & loaded
    assert {"numpy", "msgspec", "httptools"} <= loaded


def test_the_package_alone_needs_nothing() -> None:
    assert not (HEAVY | {"numpy", "msgspec", "httptools"}) & loaded_by("import modelport.client")


def test_grpc_is_loaded_where_an_address_asks_for_it() -> None:
    pytest.importorskip("grpc")
    loaded = loaded_by("from modelport.client import Client; Client('grpc://127.0.0.1:1')")
    assert "grpc" in loaded and not HEAVY & loaded


def test_without_grpcio_the_error_says_what_installs_it() -> None:
    code = (
        "import sys; sys.modules['grpc'] = None\n"
        "from modelport.client import Client\n"
        "from modelport.errors import Unsupported\n"
        "try: Client('grpc://127.0.0.1:1')\n"
        "except Unsupported as problem: print(problem)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'modelport[grpc]'" in out.stdout


def test_every_public_name_is_there() -> None:
    for name in modelport.client.__all__:
        assert getattr(modelport.client, name) is not None
    assert dir(modelport.client) == sorted(modelport.client.__all__)
    with pytest.raises(AttributeError, match="nothing"):
        _ = modelport.client.nothing


TYPED = """
from collections.abc import AsyncIterator, Iterator
from typing import Any, assert_type
import numpy as np
from modelport.client import AsyncClient, Client, InferResult, Label, ModelMetadata, Prediction
from modelport.errors import ModelportError

def blocking(client: Client) -> None:
    assert_type(client.predict("m", "p.png"), Prediction)
    assert_type(client.predict("m", b"").top, Label)
    assert_type(client.predict("m", {"age": 3}), Prediction)
    assert_type(client.predict("m", [{"age": 3}]), list[Prediction])
    assert_type(client.predict_many("m", ["p.png"]), Iterator[Prediction | ModelportError])
    assert_type(client.predict_many("m", ["p.png"], errors="raise"), Iterator[Prediction])
    assert_type(client.infer("m", {"x": [1.0]}, timeout=None), InferResult)
    assert_type(client.infer("m", {"x": [1.0]})["y"], np.ndarray[Any, Any])
    assert_type(client.metadata("m"), ModelMetadata)
    assert_type(client.ready(), bool)
    with client as entered:
        assert_type(entered, Client)

async def looped(client: AsyncClient) -> None:
    assert_type(await client.predict("m", "p.png"), Prediction)
    assert_type(client.predict_many("m", ["p.png"]), AsyncIterator[Prediction | ModelportError])
    assert_type(client.predict_many("m", ["p.png"], errors="raise"), AsyncIterator[Prediction])
    assert_type(await client.infer("m", {"x": [1.0]}), InferResult)
    async with client as entered:
        assert_type(entered, AsyncClient)

def wrong(client: Client) -> None:
    client.predict("m", 5)  # type: ignore[call-overload]
    client.infer("m", [1.0])  # type: ignore[arg-type]
    client.infer("m", {}, timeout="soon")  # type: ignore[arg-type]
    client.predict_many("m", [], errors="hide")  # type: ignore[call-overload]
"""


def test_the_types_are_what_they_say(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    (tmp_path / "typed.py").write_text(TYPED)
    root = Path(__file__).resolve().parents[2]
    options = ["--strict", "--follow-imports=silent", "--config-file", str(root / "pyproject.toml")]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, "--cache-dir", root / ".mypy_cache", tmp_path / "typed.py"],
        capture_output=True,
        text=True,
        check=False,
        cwd=root,
        timeout=250,
    )
    assert done.returncode == 0, done.stdout + done.stderr
