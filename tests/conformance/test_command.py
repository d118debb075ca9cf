"""The command, and the strict reading that the checks stand on."""

from __future__ import annotations

import json

import numpy as np
import pytest

from modelport.conformance.answers import read_answer, refused
from modelport.conformance.http import Link, Reply, strict_json
from modelport.conformance.main import main
from modelport.conformance.report import printable
from modelport.conformance.tensors import (
    DATATYPES,
    edges,
    from_bytes,
    from_json,
    nested_json,
    same,
    sample,
    to_bytes,
)
from modelport.conformance.verdict import Wrong
from modelport.errors import UsageError

from .proxy import Proxy

Ports = tuple[int, int]


def test_the_scorecard_is_printed_and_the_exit_code_says_how_it_went(
    right: Ports, proxy: Proxy, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"http://127.0.0.1:{proxy.port}"
    assert main([url, "--only", "health", "--only", "infer"]) == 0
    shown = capsys.readouterr().out
    assert "modelport" in shown
    assert "health" in shown
    assert "gRPC" not in shown
    proxy.lie = (b'"id":"', b'"ix":"')
    assert main([url, "--only", "infer", "--model", "affine"]) == 1
    shown = capsys.readouterr().out
    assert "fail        infer/identity" in shown
    assert "an id is returned as it was given" in shown


def test_json_has_every_check_with_its_rule(right: Ports, capsys: pytest.CaptureFixture[str]) -> None:
    url, address = f"http://127.0.0.1:{right[0]}", f"127.0.0.1:{right[1]}"
    assert main([url, "--grpc", address, "--only", "grpc", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["server"]["name"] == "modelport"
    assert {each["part"] for each in told["checks"]} == {"gRPC", "gRPC errors", "gRPC extensions"}
    assert all(each["rule"] and each["source"] for each in told["checks"])
    assert told["counts"]["pass"] == len(told["checks"])


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["http://127.0.0.1:1", "--only", "health"], 3, "no model was found"),
        (["ftp://host", "--only", "health"], 2, "is not a server's URL"),
        (["http://127.0.0.1:1", "--only", "weather"], 2, "weather"),
        (["http://127.0.0.1:1", "--header", "nonsense"], 2, "NAME: VALUE"),
    ],
)
def test_what_cannot_be_run_says_why(
    arguments: list[str], code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == code
    assert says in capsys.readouterr().err


def test_a_url_may_have_a_prefix() -> None:
    link = Link("https://host/under/", timeout=1)
    assert (link.tls, link.port) == (True, 443)
    assert link.head("GET", "v2", {}).startswith(b"GET /under/v2 HTTP/1.1\r\n")
    with pytest.raises(UsageError):
        Link("nothing://")


@pytest.mark.parametrize("datatype", DATATYPES)
def test_values_survive_both_forms(datatype: str) -> None:
    values = [sample(datatype, [2, 3])]
    if datatype != "BYTES":
        values.append(edges(datatype, [2, 3]))
    for value in values:
        assert same(from_bytes(to_bytes(value), datatype, [2, 3]), value)
        assert same(from_json(nested_json(value), datatype, [2, 3]), value)


@pytest.mark.parametrize(
    ("data", "datatype"),
    [
        ([1], "FP32"),
        ([1.5, 2], "INT32"),
        ([1, 2], "BOOL"),
        ([True, 1], "INT8"),
        ([300, 0], "UINT8"),
        (["a", 1], "BYTES"),
    ],
)
def test_elements_of_another_kind_are_seen(data: list[object], datatype: str) -> None:
    with pytest.raises(Wrong):
        from_json(data, datatype, [2])


@pytest.mark.parametrize("data", [b"\x05\0\0\0a", b"\x01\0", b"\x01\0\0\0a\x01\0\0\0b"])
def test_bytes_that_do_not_fit_are_seen(data: bytes) -> None:
    with pytest.raises(Wrong):
        from_bytes(data, "BYTES", [1])
    with pytest.raises(Wrong):
        from_bytes(data, "INT64", [1])


@pytest.mark.parametrize("text", [b"{", b'{"a": NaN}', b"[Infinity]", b"\xff", b"{} x"])
def test_json_is_read_strictly(text: bytes) -> None:
    with pytest.raises(Wrong, match="not JSON"):
        strict_json(text)


OUTPUT = {"name": "y", "datatype": "FP32", "shape": [2], "data": [1.0, 2.0]}


@pytest.mark.parametrize(
    "change",
    [
        {"name": None},
        {"datatype": "FLOAT"},
        {"shape": [3]},
        {"shape": [-2]},
        {"shape": 2},
        {"data": None},
        {"data": ["a", "b"]},
        {"parameters": {"binary_data_size": 8}},
    ],
)
def test_an_answer_is_read_strictly(change: dict[str, object]) -> None:
    def reply(output: dict[str, object]) -> Reply:
        return Reply(200, {}, json.dumps({"model_name": "m", "outputs": [output]}).encode())

    assert np.array_equal(read_answer(reply(OUTPUT)).outputs["y"], np.array([1, 2], np.float32))
    with pytest.raises(Wrong):
        read_answer(reply(OUTPUT | change))


def test_an_error_has_a_status_and_a_message() -> None:
    refused(Reply(400, {}, b'{"error": "why"}'), "it")
    for reply in (
        Reply(200, {}, b'{"error": "why"}'),
        Reply(400, {}, b"why"),
        Reply(400, {}, b'{"error": ""}'),
    ):
        with pytest.raises(Wrong) as found:
            refused(reply, "it")
        assert not found.value.should
    with pytest.raises(Wrong) as found:
        refused(Reply(500, {}, b'{"error": "why"}'), "it")
    assert found.value.should


def test_a_server_cannot_write_to_the_terminal() -> None:
    assert printable("a\x1b[31mb\n") == "a·[31mb·"
