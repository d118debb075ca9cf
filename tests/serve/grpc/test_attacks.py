"""Messages that no honest client sends: refused in words, and the server stays as it was."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from modelport.protos import open_inference as oi

from ...colours import picture
from .running import grpc_served

INVALID = grpc.StatusCode.INVALID_ARGUMENT
LIMIT = 1 << 20


@pytest.fixture(scope="module")
def channel(repo: Path) -> Iterator[grpc.Channel]:
    with grpc_served(repo, "--max-message", str(LIMIT)) as address:
        options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
        with grpc.insecure_channel(address, options) as opened:
            yield opened
            healthy(oi.Stub(opened))


@pytest.fixture
def stub(channel: grpc.Channel) -> Iterator[oi.Stub]:
    made = oi.Stub(channel)
    yield made
    healthy(made)


def healthy(stub: oi.Stub) -> None:
    assert stub.ServerReady(oi.ServerReadyRequest(), timeout=30).ready
    reply = stub.ModelInfer(request(b"\0\0\x80?"), timeout=30)
    assert reply.raw_output_contents[0] == b"\0\0\x80?"


def request(
    raw: bytes | None,
    *,
    shape: tuple[int, ...] = (1, 1),
    datatype: str = "FP32",
    model: str = "slow",
    name: str = "x",
) -> oi.ModelInferRequest:
    made = oi.ModelInferRequest(model_name=model)
    made.inputs.add(name=name, datatype=datatype, shape=shape)
    if raw is not None:
        made.raw_input_contents.append(raw)
    return made


def refused(stub: oi.Stub, asked: oi.ModelInferRequest, code: grpc.StatusCode = INVALID) -> str:
    with pytest.raises(grpc.RpcError) as raised:
        stub.ModelInfer(asked, timeout=60)
    assert raised.value.code() == code, raised.value
    return str(raised.value.details())


@pytest.mark.parametrize(
    "shape",
    [
        (-1, 1),
        (1, -1),
        (-1, -1),
        (-(2**63), 1),
        (2**63 - 1, 1),
        (2**32, 2**32),
        (2**62, 4),
        (1,) * 17,
        (0, 1),
        (2, 1),
    ],
)
def test_shapes_that_do_not_fit_the_bytes(stub: oi.Stub, shape: tuple[int, ...]) -> None:
    words = refused(stub, request(b"\0\0\x80?", shape=shape))
    assert "takes" in words or "is not a shape" in words
    assert refused(stub, request(None, shape=shape))


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "0 elements|has 1 elements"),
        (b"\xff", "inside a length"),
        (b"\xff\xff\xff\xff", "says 4294967295 bytes and 0 are left"),
        (b"\x05\0\0\0abcd", "says 5 bytes and 4 are left"),
        (b"\0\0\0\0\0\0\0\0", "has 1 elements, got 2"),
    ],
)
def test_text_whose_lengths_lie(stub: oi.Stub, raw: bytes, words: str) -> None:
    with pytest.raises(grpc.RpcError, match=words) as raised:
        stub.ModelInfer(request(raw, shape=(1,), datatype="BYTES", model="colours", name="image"))
    assert raised.value.code() == INVALID


@pytest.mark.parametrize("datatype", ["BF16", "FP8", "", "fp32", "BYTES\0", "x" * 100_000])
def test_datatypes_that_are_not_known(stub: oi.Stub, datatype: str) -> None:
    words = refused(stub, request(b"\0\0", shape=(1, 1), datatype=datatype))
    assert "unknown datatype" in words and len(words) < 1100
    assert ("send FP32" in words) == (datatype == "BF16")


def test_raw_and_typed_contents_do_not_mix(stub: oi.Stub) -> None:
    both = request(b"\0\0\x80?")
    both.inputs[0].contents.fp32_contents.append(1)
    assert "expected one of them" in refused(stub, both)
    assert "none" in refused(stub, request(None))
    more = request(b"\0\0\x80?")
    more.raw_input_contents.append(b"")
    assert "1 inputs and 2 raw_input_contents" in refused(stub, more)
    twice = request(b"\0\0\x80?")
    twice.inputs.add(name="x", datatype="FP32", shape=[1, 1])
    twice.raw_input_contents.append(b"\0\0\x80?")
    assert "given twice" in refused(stub, twice)
    outputs = request(b"\0\0\x80?")
    for _ in range(2):
        outputs.outputs.add(name="y")
    assert "asked for twice" in refused(stub, outputs)


TYPED: dict[str, tuple[str, list[Any]]] = {
    "BOOL": ("bool_contents", [True, False, True]),
    "UINT8": ("uint_contents", [0, 255, 7]),
    "UINT16": ("uint_contents", [0, 65535, 7]),
    "UINT32": ("uint_contents", [0, 2**32 - 1, 7]),
    "UINT64": ("uint64_contents", [0, 2**64 - 1, 7]),
    "INT8": ("int_contents", [-128, 127, 7]),
    "INT16": ("int_contents", [-32768, 32767, 7]),
    "INT32": ("int_contents", [-(2**31), 2**31 - 1, 7]),
    "INT64": ("int64_contents", [-(2**63), 2**63 - 1, 7]),
    "FP32": ("fp32_contents", [-1.5, 3.0, float("inf")]),
    "FP64": ("fp64_contents", [-1.5, 0.1, float("inf")]),
    "BYTES": ("bytes_contents", [b"", "ä✓".encode(), b"x"]),
}


def typed(change: dict[str, tuple[str, list[Any]]]) -> oi.ModelInferRequest:
    made = oi.ModelInferRequest(model_name="every")
    # FP16 has no typed contents, so that this model cannot be asked with them alone: the error names it last.
    for datatype, (field, values) in {**TYPED, **change}.items():
        tensor = made.inputs.add(name=f"in_{datatype.lower()}", datatype=datatype, shape=[1, 3])
        getattr(tensor.contents, field).extend(values)
    return made


def test_typed_contents_of_every_datatype(stub: oi.Stub) -> None:
    assert "missing input 'in_fp16'" in refused(stub, typed({}))
    words = refused(stub, typed({"FP16": ("fp32_contents", [1.0, 2.0, 3.0])}))
    assert "FP16 has no typed contents" in words and "raw_input_contents" in words
    slow = request(None)
    slow.inputs[0].contents.fp32_contents.append(5)
    assert np.frombuffer(stub.ModelInfer(slow).raw_output_contents[0], np.float32) == 5
    shown = request(None, shape=(1,), datatype="BYTES", model="colours", name="image")
    shown.inputs[0].contents.bytes_contents.append(picture("blue"))
    assert stub.ModelInfer(shown).outputs[0].name == "scores"


@pytest.mark.parametrize(
    ("datatype", "field", "values", "words"),
    [
        ("UINT8", "uint_contents", [0, 256, 0], "0 to 255"),
        ("INT8", "int_contents", [0, -129, 0], "-128 to 127"),
        ("INT16", "int_contents", [0, 40000, 0], "-32768 to 32767"),
        ("UINT16", "uint_contents", [70000, 0, 0], "0 to 65535"),
        ("FP32", "fp32_contents", [1.0, 2.0], "takes 3 elements in fp32_contents, got 2 in fp32_contents"),
        ("FP64", "fp32_contents", [1.0, 2.0, 3.0], "got 3 in fp32_contents"),
        ("INT64", "int_contents", [1, 2, 3], "got 3 in int_contents"),
    ],
)
def test_typed_contents_that_do_not_fit(
    stub: oi.Stub, datatype: str, field: str, values: list[Any], words: str
) -> None:
    assert words in refused(stub, typed({datatype: (field, values)}))


def test_long_names_and_parameters_do_not_come_back(stub: oi.Stub) -> None:
    long = "ä" * 100_000
    assert len(refused(stub, request(b"", model=long), grpc.StatusCode.NOT_FOUND)) <= 1000
    assert len(refused(stub, request(b"\0\0\x80?", name=long))) <= 1000
    named = request(b"\0\0\x80?")
    named.outputs.add(name=long)
    assert len(refused(stub, named)) <= 1000
    kept = request(b"\0\0\x80?")
    kept.id = long
    kept.parameters["custom"].string_param = long
    kept.inputs[0].parameters["custom"].string_param = long
    assert stub.ModelInfer(kept).id == long
    for bad in ("ten", long):
        kept.parameters["timeout"].string_param = bad
        assert "microseconds" in refused(stub, kept)
    for number in (-1, -(2**63)):
        kept.parameters["timeout"].int64_param = number
        assert "microseconds" in refused(stub, kept)
    kept.parameters["timeout"].bool_param = True
    assert "microseconds" in refused(stub, kept)
    kept.parameters["timeout"].uint64_param = 2**64 - 1
    assert stub.ModelInfer(kept).outputs[0].name == "y"


@pytest.mark.parametrize("top", [-1, 2**62, 2**63 - 1])
def test_class_counts_without_bounds(stub: oi.Stub, top: int) -> None:
    asked = request(np.zeros((1, 3, 8, 8), np.float32).tobytes(), shape=(1, 3, 8, 8), model="colours.net")
    asked.outputs.add(name="logits").parameters["classification"].int64_param = top
    if top < 0:
        assert "classification" in refused(stub, asked)
    else:
        assert stub.ModelInfer(asked).outputs[0].shape == [1, 3]


def test_messages_over_the_limit(stub: oi.Stub) -> None:
    big = request(b"\0" * (2 * LIMIT), shape=(LIMIT // 2, 1))
    assert "larger than max" in refused(stub, big, grpc.StatusCode.RESOURCE_EXHAUSTED)


@pytest.mark.parametrize("algorithm", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_messages_that_grow_over_the_limit_when_unpacked(stub: oi.Stub, algorithm: grpc.Compression) -> None:
    bomb = request(b"\0" * (64 * LIMIT), shape=(16 * LIMIT, 1))
    assert len(zlib.compress(bomb.SerializeToString())) < LIMIT
    with pytest.raises(grpc.RpcError) as raised:
        stub.ModelInfer(bomb, timeout=60, compression=algorithm)
    assert raised.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_bytes_that_are_no_message(channel: grpc.Channel, stub: oi.Stub) -> None:
    path = f"/{oi.SERVICE}/ModelInfer"
    call = channel.unary_unary(path)
    generator = np.random.default_rng(7)
    good = request(b"\0\0\x80?").SerializeToString()
    for number in range(300):
        data = bytearray(good if number % 2 else generator.bytes(number))
        if data:
            data[int(generator.integers(len(data)))] ^= int(generator.integers(1, 256))
        done = call.future(bytes(data), timeout=30)
        problem = done.exception()
        if problem is not None:
            assert done.code() != grpc.StatusCode.UNKNOWN, (bytes(data), problem)
            assert "Traceback" not in done.details()
    for method in ("ModelInfer", "ServerReady", "RepositoryIndex"):
        with pytest.raises(grpc.RpcError, match=r"not a .*Request") as raised:
            channel.unary_unary(f"/{oi.SERVICE}/{method}")(b"\xff\xff\xff", timeout=30)
        assert raised.value.code() == INVALID
    stream = channel.stream_stream(f"/{oi.SERVICE}/ModelStreamInfer")
    with pytest.raises(grpc.RpcError, match="not a ModelInferRequest") as raised:
        list(stream(iter([b"\xff"]), timeout=30))
    assert raised.value.code() == INVALID


def test_methods_that_are_not_there(channel: grpc.Channel, stub: oi.Stub) -> None:
    for path in ("/inference.GRPCInferenceService/Nothing", "/x/y", "/", f"/{oi.SERVICE}/modelinfer"):
        with pytest.raises(grpc.RpcError) as raised:
            channel.unary_unary(path)(b"", timeout=30)
        assert raised.value.code() == grpc.StatusCode.UNIMPLEMENTED
