"""The servers that are attacked. After each attack the server still gives right answers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import psutil
import pytest
from onnx import TensorProto, helper

import modelport

from ...colours import LABELS, pack_colours, picture, served
from .wire import Target, post

GROWTH = 96 << 20
"""Bytes by which the server's memory may grow over all attacks of one file."""


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
    with served(repo) as (url, process):
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


def check_health(target: Target) -> None:
    """Right answers, for a picture and for tensors."""
    for colour in LABELS:
        reply = target.one(post("/predict/colours", picture(colour)))
        assert reply.status == 200 and f'"label":"{colour}"'.encode() in reply.body[:90], reply
    rows = np.arange(8, dtype="<f4")
    text = (
        b'{"inputs":[{"name":"x","datatype":"FP32","shape":[2,4],"parameters":{"binary_data_size":32}}],'
        b'"outputs":[{"name":"total","parameters":{"binary_data":false}}]}'
    )
    body = text + rows.tobytes()
    reply = target.one(post("/v2/models/sum/infer", body, inference_header_content_length=len(text)))
    assert reply.status == 200 and b'"data":[6.0,22.0]' in reply.body, reply


@cache
def serve_help() -> str:
    """What `modelport serve --help` says."""
    command = [sys.executable, "-m", "modelport", "serve", "--help"]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def needs(*options: str) -> pytest.MarkDecorator:
    """Skip where `modelport serve` has no such options yet."""
    missing = [option for option in options if option not in serve_help()]
    return pytest.mark.skipif(bool(missing), reason=f"modelport serve has no {', '.join(missing)} yet")


OWN_FRONT_END = needs("--header-timeout")
"""What uvicorn does not do."""
