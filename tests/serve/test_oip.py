"""The protocol's bytes: what goes in comes out, and nothing malformed gets through."""

from __future__ import annotations

import json
import math
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from modelport.errors import InputError, Unsupported
from modelport.serve.oip import (
    RequestedOutput,
    encode_response,
    metadata,
    parse_binary_head,
    parse_request,
    raw_request,
)
from modelport.tensors import OIP_DATATYPES, Array, Signature, TensorSpec, dtype_name


def body_of(array: Array, *, binary: bool, name: str = "x") -> tuple[bytes, str | None]:
    entry: dict[str, object] = {
        "name": name,
        "shape": list(array.shape),
        "datatype": OIP_DATATYPES[dtype_name(array)],
    }
    if not binary:
        entry["data"] = array.tolist()
        return json.dumps({"inputs": [entry]}).encode(), None
    data = array.tobytes()
    entry["parameters"] = {"binary_data_size": len(data)}
    head = json.dumps({"inputs": [entry]}).encode()
    return head + data, str(len(head))


NUMBERS = [
    "bool",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "int8",
    "int16",
    "int32",
    "int64",
    "float32",
    "float64",
]


@given(
    st.sampled_from(NUMBERS).flatmap(
        lambda name: hnp.arrays(
            np.dtype(name),
            hnp.array_shapes(max_dims=3, max_side=4, min_side=0),
            elements={"allow_nan": False, "allow_infinity": False} if "float" in name else None,
        )
    ),
    st.booleans(),
)
def test_arrays_survive_the_wire(array: Array, binary: bool) -> None:
    got = parse_request(*body_of(array, binary=binary)).inputs["x"]
    assert got.dtype == array.dtype and got.shape == array.shape
    assert np.array_equal(got, array)


def test_half_floats_and_text_in_binary() -> None:
    half = np.array([[1.5, -2]], np.float16)
    assert np.array_equal(parse_request(*body_of(half, binary=True)).inputs["x"], half)
    blob = b"".join(struct.pack("<I", len(s)) + s for s in (b"", b"caf\xc3\xa9", b"\x00\xff"))
    head = json.dumps(
        {
            "inputs": [
                {
                    "name": "x",
                    "shape": [3],
                    "datatype": "BYTES",
                    "parameters": {"binary_data_size": len(blob)},
                }
            ]
        }
    ).encode()
    got = parse_request(head + blob, str(len(head))).inputs["x"]
    assert got.tolist() == [b"", b"caf\xc3\xa9", b"\x00\xff"]


def test_nested_and_flat_data_are_the_same() -> None:
    for data in ([1, 2, 3, 4], [[1, 2], [3, 4]]):
        request = {"inputs": [{"name": "x", "shape": [2, 2], "datatype": "FP32", "data": data}]}
        assert parse_request(json.dumps(request).encode()).inputs["x"].tolist() == [[1, 2], [3, 4]]


def entry(**changes: object) -> dict[str, object]:
    return {"name": "x", "shape": [2], "datatype": "INT32", "data": [1, 2]} | changes


BAD = {
    "not json": (b"{", None, "valid inference request"),
    "not an object": (b"[]", None, "valid inference request"),
    "no inputs": (b"{}", None, "inputs"),
    "deep": (b'{"inputs":' + b"[" * 100_000, None, "valid inference request"),
    "not utf-8": (b'{"inputs": [{"name": "\xff"}]}', None, "valid inference request"),
    "negative": (entry(shape=[-2]), None, "not a shape"),
    "float shape": (entry(shape=[1.5]), None, "Expected `int`"),
    "overflow": (entry(shape=[2**62, 4]), None, "elements"),
    "too many axes": (entry(shape=[1] * 40), None, "not a shape"),
    "wrong count": (entry(shape=[3]), None, "has 3 elements, got 2"),
    "ragged": (entry(data=[[1], [1, 2]]), None, "rectangular"),
    "text": (entry(data=["1", "2"]), None, "expected int32"),
    "null": (entry(data=[1, None]), None, "expected int32"),
    "fraction": (entry(data=[1, 2.5]), None, "expected int32"),
    "out of range": (entry(data=[1, 2**31]), None, "expected int32 "),
    "huge number": (entry(data=[1, 10**30]), None, "int32"),
    "negative byte": (entry(datatype="UINT8", data=[1, -1]), None, "expected uint8 "),
    "numbers as text": (entry(datatype="BYTES"), None, "expected string"),
    "not a number": (entry(datatype="FP32", data=[1, math.nan]), None, "valid inference request"),
    "infinity": (entry(datatype="FP32", data=[1, -math.inf]), None, "valid inference request"),
    "unknown type": (entry(datatype="FP8"), None, "unknown datatype"),
    "no data": (entry(data=None), None, "neither"),
    "header too long": (b"{}", "3", "Inference-Header"),
    "header not a number": (b"{}", "1e1", "Inference-Header"),
    "negative header": (b"{}", "-1", "Inference-Header"),
    "endless header": (b"{}", "9" * 5000, "Inference-Header"),
    "size past the end": (entry(data=None, parameters={"binary_data_size": 9}), None, "bytes are left"),
    "negative size": (entry(data=None, parameters={"binary_data_size": -1}), None, "bytes are left"),
    "boolean size": (entry(data=None, parameters={"binary_data_size": True}), None, "bytes are left"),
    "bad timeout": ({"inputs": [entry()], "parameters": {"timeout": "soon"}}, None, "microseconds"),
    "twice": ({"inputs": [entry(), entry()]}, None, "given twice"),
    "output twice": ({"inputs": [entry()], "outputs": [{"name": "y"}] * 2}, None, "asked for twice"),
}


@pytest.mark.parametrize("name", BAD)
def test_malformed_requests_are_refused_in_words(name: str) -> None:
    body, length, message = BAD[name]
    if isinstance(body, dict):
        body = json.dumps(body if "inputs" in body else {"inputs": [body]}).encode()
    with pytest.raises(InputError, match=message):
        parse_request(body, length)


def test_leftover_and_missing_bytes_are_refused() -> None:
    body, length = body_of(np.arange(3, dtype=np.int32), binary=True)
    with pytest.raises(InputError, match="left over"):
        parse_request(body + b"!", length)
    with pytest.raises(InputError, match="bytes are left"):
        parse_request(body[:-1], length)


@pytest.mark.parametrize(
    "blob", [b"\x01", b"\x05\x00\x00\x00ab", b"\xff\xff\xff\xff", b"\x00\x00\x00\x00" * 3]
)
def test_lying_string_lengths_are_refused(blob: bytes) -> None:
    head = json.dumps(
        {
            "inputs": [
                {
                    "name": "x",
                    "shape": [1],
                    "datatype": "BYTES",
                    "parameters": {"binary_data_size": len(blob)},
                }
            ]
        }
    ).encode()
    with pytest.raises(InputError, match=r"BYTES|elements"):
        parse_request(head + blob, str(len(head)))


@given(st.binary(max_size=200), st.text(max_size=5) | st.none())
def test_noise_is_refused_and_never_crashes(body: bytes, length: str | None) -> None:
    with pytest.raises(InputError):
        parse_request(body, length)


def test_responses_in_json_and_binary() -> None:
    outputs = {"scores": np.array([[0.25, np.nan]], np.float32), "labels": np.array([["a", "é"]], object)}
    request = parse_request(json.dumps({"id": "7", "inputs": [entry()]}).encode())
    body, length = encode_response(outputs, request, model="m", version="2")
    reply = json.loads(body)
    assert length is None and reply["id"] == "7"
    assert (reply["model_name"], reply["model_version"]) == ("m", "2")
    assert reply["outputs"][0] == {
        "name": "scores",
        "datatype": "FP32",
        "shape": [1, 2],
        "data": [0.25, None],
    }
    assert reply["outputs"][1]["data"] == ["a", "é"]

    wanted = {"inputs": [entry()], "outputs": [{"name": "labels", "parameters": {"binary_data": True}}]}
    body, length = encode_response(
        outputs, parse_request(json.dumps(wanted).encode()), model="m", version="2"
    )
    assert length is not None
    reply = json.loads(body[:length])
    assert [o["name"] for o in reply["outputs"]] == ["labels"]
    assert body[length:] == b"\x01\x00\x00\x00a\x02\x00\x00\x00\xc3\xa9"
    assert reply["outputs"][0]["parameters"]["binary_data_size"] == len(body) - length


def test_what_is_no_finite_number_is_null_in_json_and_itself_in_binary() -> None:
    values = np.array([1.5, np.nan, np.inf, -np.inf], np.float32)
    for binary, sent in ((False, None), (True, values.tobytes())):
        asked = {"inputs": [entry()], "parameters": {"binary_data_output": binary}}
        request = parse_request(json.dumps(asked).encode())
        body, length = encode_response({"y": values}, request, model="m", version="1")
        if sent is None:
            assert json.loads(body)["outputs"][0]["data"] == [1.5, None, None, None]
        else:
            assert body[length:] == sent
    data, size = body_of(values, binary=True)
    assert parse_request(data, size).inputs["x"].tobytes() == values.tobytes()


@pytest.mark.parametrize("size", [None, 8])
def test_tensors_in_shared_memory_are_unsupported_also_beside_bytes(size: int | None) -> None:
    parameters = {"shared_memory_region": "r", "shared_memory_byte_size": 8}
    parameters |= {} if size is None else {"binary_data_size": size}
    remote = {"inputs": [entry(data=None, parameters=parameters)]}
    text = json.dumps(remote | {"parameters": {"binary_data_output": True}}).encode()
    with pytest.raises(Unsupported, match=r"shared memory is not supported, at `\$\.inputs\[0\]`"):
        parse_request(text + bytes(size or 0), str(len(text)))
    spec = TensorSpec("x", "int32", ("batch",))
    assert parse_binary_head(text, Signature((spec,), (spec,))) is None
    local = {"inputs": [entry()], "outputs": [{"name": "y", "parameters": parameters}]}
    with pytest.raises(Unsupported, match=r"at `\$\.outputs\[0\]`"):
        parse_request(json.dumps(local).encode())


def test_the_size_of_an_answer_is_told_by_the_signature_or_not_at_all() -> None:
    signature = Signature(
        (TensorSpec("x", "float32", ("batch", "side")),),
        (
            TensorSpec("rows", "float64", ("batch", 3)),
            TensorSpec("same", "uint8", ("batch", "side")),
            TensorSpec("found", "int64", ("batch", "objects")),
        ),
    )

    def size(*outputs: str) -> float:
        given = entry(shape=[5, 7], datatype="FP32", data=None, parameters={"binary_data_size": 140})
        asked = {"inputs": [given], "parameters": {"binary_data_output": True}}
        wanted = {"outputs": [{"name": name} for name in outputs]} if outputs else {}
        head = parse_binary_head(json.dumps(asked | wanted).encode(), signature)
        assert head is not None
        return head.answer_size

    assert (size("rows"), size("same"), size("same", "rows")) == (120, 35, 155)
    assert size("found") == size() == math.inf


def test_classification_and_unknown_outputs() -> None:
    outputs = {"y": np.array([[0.1, 0.7, 0.2]], np.float32)}
    base = parse_request(json.dumps({"inputs": [entry()]}).encode())

    def ask(name: str, **parameters: object) -> bytes:
        import msgspec

        request = msgspec.structs.replace(base, outputs=(RequestedOutput(name, parameters),))
        return encode_response(outputs, request, model="m", version="1", labels=["a", "b", "c"])[0]

    reply = json.loads(ask("y", classification=2))
    assert reply["outputs"][0] == {
        "name": "y",
        "datatype": "BYTES",
        "shape": [1, 2],
        "data": ["0.700000:1:b", "0.200000:2:c"],
    }
    with pytest.raises(InputError, match="unknown output 'z'"):
        ask("z")
    with pytest.raises(InputError, match="classification"):
        ask("y", classification=-1)


def test_raw_requests_and_metadata() -> None:
    spec = TensorSpec("x", "float32", ("batch", 2))
    got = raw_request(np.array([1, 2], "<f4").tobytes(), [spec])
    assert got.inputs["x"].tolist() == [[1, 2]] and got.binary
    with pytest.raises(InputError, match="takes 8 bytes"):
        raw_request(b"123", [spec])
    with pytest.raises(InputError, match="one input of known shape"):
        raw_request(b"", [TensorSpec("x", "float32", ("batch", "n"))])
    assert metadata([spec]) == [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}]
