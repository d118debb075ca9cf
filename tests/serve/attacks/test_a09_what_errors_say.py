"""A9: errors tell callers what they did, and nothing of the inside: no paths, no code, no addresses."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import httpx
import onnx
import pytest
from onnx import TensorProto, helper

import modelport

from ...colours import picture, served
from .conftest import ALL
from .wire import Target, as_json, head, post

INSIDE = re.compile(
    rb"Traceback|File \"|\.py\b|site-packages|/usr/|/root/|/home/|/tmp/|/proc/|/dev/shm|"
    rb"0x[0-9a-f]{6,}|<class |object at 0x|onnxruntime::|/onnxruntime/|\bpid\b|psm_|errno|"
    rb"starlette|msgspec|uvloop|httptools",
    re.I,
)


def tensor(**changes: object) -> bytes:
    entry = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]} | changes
    return as_json({"inputs": [entry]})


def requests() -> list[tuple[str, bytes]]:
    bad = [
        b"",
        b"{",
        b"[]",
        b"null",
        b"{}",
        b"\xff\xfe",
        b"\x00" * 100,
        b"\x89PNG\r\n\x1a\n" + b"x" * 100,
        picture("red")[:200],
        picture("red", kind="JPEG")[:200],
        b"PK\x03\x04" + b"x" * 100,
        b"\x93NUMPY\x01\x00",
        b"\x93NUMPY\x01\x00v\x00{'descr'",
        tensor(name="y"),
        tensor(datatype="FP33"),
        tensor(shape=[1, 5]),
        tensor(data=["a"] * 4),
        tensor(data=None),
        tensor(data={}),
        tensor(data=[1e300] * 4),
        tensor(datatype="INT64"),
        tensor(datatype="BYTES"),
        tensor(parameters={"binary_data_size": 3}),
        tensor(parameters={"shared_memory_region": "psm"}),
        as_json({"inputs": [], "outputs": [{"name": "nothing"}]}),
        as_json({"inputs": 5}),
        as_json({"image": "%%%"}),
        as_json({"inputs": "%%%"}),
        as_json({"instances": [[1], [1, 2]]}),
        as_json({"instances": "x"}),
        as_json({"dataframe_split": {"columns": ["a"], "data": [["x"]]}}),
    ]
    paths = [
        "/v2/models/sum/infer",
        "/v2/models/sum.net/infer",
        "/v2/models/colours/infer",
        "/predict/sum",
        "/predict/colours",
        "/v2/models/none/infer",
        "/v2/models/sum/versions/99/infer",
        "/v2/models/sum/versions/x/infer",
        "/predict/none",
        "/v1/models/sum:predict",
        "/v1/models/none:predict",
        "/invocations",
        "/api/predict/sum",
        "/api/predict/none",
        "/models/sum",
        "/predictions/sum",
        "/",
        "/v2/repository/index",
    ]
    return [(path, body) for path in paths for body in bad]


@pytest.mark.parametrize("kind", ["", "application/json", "multipart/form-data; boundary=b", "text/csv"])
def test_no_reply_shows_the_inside(target: Target, repo: Path, kind: str) -> None:
    for path, body in requests():
        reply = target.one(post(path, body, content_type=kind))
        assert reply.status < 500 or reply.status == 501, (path, body[:80], reply)
        if reply.status >= 400:
            found = INSIDE.search(reply.body)
            assert not found, (path, body[:80], found, reply.body[:500])
            assert str(repo).encode() not in reply.body
            assert len(reply.body) < 4096


def test_headers_do_not_name_what_runs_here(target: Target) -> None:
    for request, method in (
        (head("GET", "/"), "GET"),
        (post("/predict/none"), "POST"),
        (b"x\r\n\r\n", "GET"),
    ):
        reply = target.one(request, method=method)
        assert not {"server", "x-powered-by", "via"} & set(reply.headers), reply.headers
        assert not INSIDE.search(repr(reply.headers).encode())


def test_what_a_caller_sent_is_not_sent_back_at_length(target: Target) -> None:
    long = "A" * 50_000
    for request in (
        post(f"/predict/{long[:6000]}", b"x"),
        post("/v2/models/sum/infer", tensor(name=long)),
        post("/v2/models/sum/infer", tensor(datatype=long)),
        post("/v2/models/sum/infer", as_json({"inputs": [], "outputs": [{"name": long}]})),
        post("/predict/colours", b"x", content_encoding=long[:5000]),
        post("/v2/models/sum/infer", tensor(), inference_header_content_length=long[:5000]),
    ):
        reply = target.one(request)
        assert 400 <= reply.status < 500 and len(reply.body) < 8192, (reply.status, len(reply.body))


def failing(folder: Path) -> Path:
    """A model whose network fails for indices that its data decide."""
    graph = helper.make_graph(
        [
            helper.make_node("Gather", ["table", "x"], ["y"], name="/home/author/secret/node"),
            helper.make_node("Cast", ["y"], ["z"], to=TensorProto.FLOAT),
        ],
        "failing",
        [helper.make_tensor_value_info("x", TensorProto.INT64, ["N", 1])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, ["N", 1])],
        [helper.make_tensor("table", TensorProto.FLOAT, [3], [1.0, 2.0, 3.0])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "failing.onnx")
    modelport.pack(folder / "failing.onnx", out=folder / "repo", name="failing", recipe="raw")
    return folder / "repo"


def test_a_network_that_fails_keeps_its_reasons_to_the_log(repo: Path, tmp_path: Path) -> None:
    found = failing(tmp_path)
    shutil.copytree(repo / "sum", found / "sum")
    with served(found, *ALL) as (url, _), httpx.Client(base_url=url, timeout=30) as http:

        def ask(index: int) -> httpx.Response:
            entry = {"name": "x", "datatype": "INT64", "shape": [1, 1], "data": [index]}
            return http.post("/v2/models/failing/infer", json={"inputs": [entry]})

        assert ask(2).json()["outputs"][0]["data"] == [3.0]
        for index in (3, 2**40, -(2**40)):
            reply = ask(index)
            assert reply.status_code in (400, 500), reply.text
            assert not INSIDE.search(reply.content), reply.text
        assert ask(1).json()["outputs"][0]["data"] == [2.0]
