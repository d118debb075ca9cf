"""Modelport passes the suite with a model of several versions, however many of them are loaded."""

from __future__ import annotations

import socket
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

import modelport
from modelport.conformance.http import Link
from modelport.conformance.run import chosen, judge, run
from modelport.conformance.subject import Subject

from ..colours import served
from .proxy import Proxy

VERSIONS = ("1", "2", "3")
ABOUT_VERSIONS = {"versions/listed", "versions/infer", "versions/chosen", "versions/unknown"}
ABOUT_VERSIONS |= {
    "repository/index",
    "repository/only_ready",
    "gRPC/version",
    "gRPC-extensions/repository_index",
}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`half` of four floats, three times."""
    folder = tmp_path_factory.mktemp("versions")
    rows = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 4]) for name in ("x", "y")]
    half = helper.make_tensor("half", TensorProto.FLOAT, [1], [0.5])
    node = helper.make_node("Mul", ["x", "half"], ["y"])
    graph = helper.make_graph([node], "half", rows[:1], rows[1:], [half])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "half.onnx")
    for version in VERSIONS:
        modelport.pack(folder / "half.onnx", out=folder / "repo", version=version)
    return folder / "repo"


@pytest.mark.parametrize(("options", "loaded"), [((), VERSIONS[-1:]), (("--versions", "all"), VERSIONS)])
def test_versions_that_are_not_loaded_are_told_as_the_protocol_has_it(
    repository: Path, options: tuple[str, ...], loaded: tuple[str, ...]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        grpc_port = taken.getsockname()[1]
    with served(repository, "--grpc-port", str(grpc_port), *options) as (url, _):
        subject = Subject(Link(url, timeout=20), model="half", grpc=f"127.0.0.1:{grpc_port}")
        assert subject.rpc is not None
        assert subject.model.versions == loaded
        assert tuple(subject.rpc.call("ModelMetadata", name="half").versions) == loaded
        index = subject.link.post("v2/repository/index", {}).json()
        states = {each["version"]: each["state"] for each in index if each["name"] == "half"}
        assert states == {each: "READY" if each in loaded else "UNAVAILABLE" for each in VERSIONS}
        verdicts = list(run(subject, chosen(())))
        subject.rpc.close()
    assert {each.check.name: each.reason for each in verdicts if each.outcome == "fail"} == {}
    assert {each.check.name for each in verdicts if each.outcome == "pass"} >= ABOUT_VERSIONS


def test_an_index_that_calls_a_ready_version_unavailable_fails(repository: Path) -> None:
    with served(repository) as (url, _):
        proxy = Proxy(int(url.rpartition(":")[2]))
        subject = Subject(Link(f"http://127.0.0.1:{proxy.port}", timeout=20), model="half")
        proxy.lie = (b'"3","state":"READY"', b'"3","state":"AWAKE"')
        (check,) = chosen(["repository/index"])
        verdict = judge(check, lambda: check.call(subject))
        proxy.close()
    assert verdict.outcome == "fail"
    assert verdict.reason == "version 3 is ready, and its state is 'AWAKE'"
