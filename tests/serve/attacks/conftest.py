"""The servers that are attacked. After each attack the server still gives right answers."""

from __future__ import annotations

import importlib.util
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import psutil
import pytest
from onnx import TensorProto, helper

import modelport
from modelport import plugins
from modelport.serve.guard.keys import Keys, new_key, update

from ...colours import LABELS, pack_colours, picture, served
from .wire import Target, post

GROWTH = 192 << 20
"""Bytes by which the server's memory may grow over all attacks of one file."""


def _here(module: str) -> bool:
    return importlib.util.find_spec(module.replace(":", ".")) is not None


# Every dialect: the more that is on, the more there is to attack.
ALL = (
    "--versions",
    "all",
    "--api",
    ",".join(name for name, module in plugins.table("dialects").items() if _here(module)),
)


class Guarded(NamedTuple):
    """A server that asks for keys."""

    public: Target
    admin: Target
    keys: dict[str, str]
    path: Path

    def bearer(self, name: str) -> dict[str, str]:
        """The header with a key."""
        return {"authorization": f"Bearer {self.keys[name]}"}


@pytest.fixture(scope="session")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`colours` takes pictures, `sum` takes tensors: x float32[batch, 4] -> the sum of each row."""
    folder = tmp_path_factory.mktemp("attacked")
    graph = helper.make_graph(
        [helper.make_node("ReduceSum", ["x", "axis"], ["total"], keepdims=1)],
        "sum",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])],
        [helper.make_tensor_value_info("total", TensorProto.FLOAT, ["N", 1])],
        [helper.make_tensor("axis", TensorProto.INT64, [1], [1])],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8),
        folder / "sum.onnx",
    )
    modelport.pack(folder / "sum.onnx", out=folder / "repo", name="sum", recipe="raw")
    pack_colours(folder, version="2")
    return pack_colours(folder)


@pytest.fixture(scope="module")
def target(repo: Path) -> Iterator[Target]:
    """A server with its defaults; its memory is looked at when all attacks of a file are over."""
    with served(repo, *ALL) as (url, process):
        target = Target(url, process.pid)
        for _ in range(20):
            check_health(target)
        before = psutil.Process(process.pid).memory_info().rss
        yield target
        after = psutil.Process(process.pid).memory_info().rss
        assert after - before < GROWTH, f"{(after - before) >> 20} MiB more than before"


@pytest.fixture(autouse=True)
def _healthy(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "target" in request.fixturenames:
        check_health(request.getfixturevalue("target"))


def check_health(target: Target, **headers: str) -> None:
    """Right answers, for a picture and for tensors."""
    for colour in LABELS:
        reply = target.one(post("/predict/colours", picture(colour), **headers))
        assert reply.status == 200 and f'"label":"{colour}"'.encode() in reply.body[:90], reply
    rows = np.arange(8, dtype="<f4")
    text = (
        b'{"inputs":[{"name":"x","datatype":"FP32","shape":[2,4],"parameters":{"binary_data_size":32}}],'
        b'"outputs":[{"name":"total","parameters":{"binary_data":false}}]}'
    )
    body = text + rows.tobytes()
    reply = target.one(
        post("/v2/models/sum/infer", body, inference_header_content_length=len(text), **headers)
    )
    assert reply.status == 200 and b'"data":[6.0,22.0]' in reply.body, reply


@pytest.fixture(scope="module")
def guarded(repo: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """A server with keys, and administration on a port of its own."""
    path = tmp_path_factory.mktemp("keys") / "keys.json"
    keys: dict[str, str] = {}

    def change(before: Keys) -> Keys:
        for name, scope, more in (
            ("ci", "infer", {}),
            ("sum only", "infer", {"models": ["sum"]}),
            ("watch", "metrics", {}),
            ("ops", "admin", {}),
        ):
            before, keys[name] = new_key(name.replace(" ", "-"), (scope,), keys=before, **more)
        return before

    update(path, change)
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    options = ("--keys", str(path), "--admin-port", str(port), *ALL)
    with served(repo, *options) as (url, process):
        public = Target(url, process.pid)
        yield Guarded(public, Target(f"http://127.0.0.1:{port}", process.pid), keys, path)
        check_health(public, authorization=f"Bearer {keys['ci']}")
